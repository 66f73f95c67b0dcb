"""Phases: their length, and keys that stay."""

import pytest

from wss.errors import UsageError
from wss.methods import Phase
from wss.params import canonical, validate

TERMS = {"terms": {"pce": 1.0}}


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({}, r"a phase needs its length: epochs \(passes over the images\) or steps \(of the optimiser\)$"),
        ({"epochs": 2, "steps": 9}, r"or steps .*, not both \(epochs 2, steps 9\)"),
        ({"epochs": 0}, "epochs: .*greater than or equal to 1"),
        ({"steps": 0}, "steps: .*greater than or equal to 1"),
        ({"step": 9}, "unknown parameter 'step'; did you mean 'steps'"),
    ],
)
def test_a_phase_has_one_length(length, message):
    with pytest.raises(UsageError, match=message):
        validate(Phase, {**length, **TERMS}, "phase")


def test_the_other_length_may_be_none():
    assert validate(Phase, {"epochs": None, "steps": 9, **TERMS}, "phase") == Phase(steps=9, **TERMS)
    assert validate(Phase, {"epochs": 9, "steps": None, **TERMS}, "phase") == Phase(epochs=9, **TERMS)


def test_keys_of_phases_in_epochs_stay():
    """As they were before phases had steps, so that networks trained then are found."""
    assert canonical(Phase(epochs=2, lr=0.01, **TERMS)) == {
        "": "Phase",
        "epochs": 2,
        "terms": {"pce": 1.0},
        "optimiser": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "head_multiplier": 10.0,
        "bias_multiplier": 2.0,
        "schedule": "poly",
        "power": 0.9,
        "warmup_iters": 0,
        "clip_norm": None,
        "batch_norm": "train",
        "freeze": [],
    }
    assert canonical(Phase(steps=2, **TERMS))["steps"] == 2
    assert canonical(Phase(steps=2, **TERMS)) != canonical(Phase(steps=3, **TERMS))
