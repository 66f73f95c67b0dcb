"""`wss run auto` and `--budget`: the choice is written down, and the steps stay the same."""

import re

import pytest
import yaml
from commands import QUICK

from wss.stages import train


@pytest.fixture
def steps_of_a_tenth(monkeypatch):
    """Steps take a tenth of a second, whatever the clock says; tells how often they were measured."""
    asked = []

    def measured(params, phase, inputs, context):
        asked.append(phase)
        return 0.1

    monkeypatch.setattr("wss.pipeline.budget.step_seconds", measured)
    return asked


def test_auto_says_what_it_chose_and_why(work, wss):
    result = wss("run", "auto", "--dry-run")
    assert result.code == 0, result.err
    assert "chosen: pce, for scribbles on other colour images" in result.said
    assert "weights of DINOv2: not found" in result.said
    chosen = yaml.safe_load((work / "auto.yaml").read_text())
    assert chosen["extends"] == "pce"
    assert wss("run", "auto.yaml", "--dry-run").code == 0


def test_named_weights_are_at_hand_even_where_the_choice_does_not_read_them(work, wss):
    result = wss("run", "auto", "--dry-run", "--set", "features.weights=w.pth")
    assert result.code == 0, result.err
    assert "weights of DINOv2: w.pth" in result.said
    assert "features.weights is not read" in result.said


def test_a_budget_becomes_steps_that_stay(work, wss, steps_of_a_tenth):
    first = wss("run", "pce", "--budget", "3s", "--set", "train.validate_every=0", "--json")
    assert first.code == 0, first.err
    steps = re.search(r"--budget 3s: train (\d+) steps", first.said)
    assert steps is not None
    assert 1 <= int(steps[1]) <= 27
    assert len(steps_of_a_tenth) == 1
    again = wss("run", "pce", "--budget", "3s", "--set", "train.validate_every=0", "--json")
    assert "as measured before" in again.said
    assert len(steps_of_a_tenth) == 1
    assert all(row["skipped"] for row in again.json)
    evaluated = wss("evaluate", "--json")
    assert evaluated.code == 0
    assert evaluated.json["store_key"]


def test_train_takes_a_budget_instead_of_a_length(work, wss, steps_of_a_tenth):
    result = wss("train", "--budget", "4s", "--set", "train.validate_every=0", "--json")
    assert result.code == 0, result.err
    assert 1 <= result.json["step"] <= 36
    both = wss("train", "--budget", "4s", "--epochs", "2")
    assert both.code == 2
    assert "give only one of them" in both.said
    wrong = wss("train", "--budget", "soon")
    assert wrong.code == 2
    assert "expected a time such as 90s, 30m or 1.5h" in wrong.said


def test_too_short_a_budget_names_one_that_suffices(work, wss, monkeypatch):
    monkeypatch.setattr("wss.pipeline.budget.step_seconds", lambda *asked: 2.0)
    short = wss("train", "--budget", "1s", "--set", "train.validate_every=0")
    assert short.code == 2, short.err
    least = re.search(r"--budget 1s is too short .* give at least (\d+)s", short.said)
    assert least is not None and int(least[1]) < 120
    enough = wss("train", "--budget", f"{least[1]}s", "--set", "train.validate_every=0", "--json")
    assert enough.code == 0, enough.err


def test_steps_are_measured_in_the_training_itself(work, wss, monkeypatch):
    lengths, real = [], train.fit

    def fit(model, method, phases, *rest):
        lengths.append([phase.steps or phase.epochs for phase in phases])
        return real(model, method, phases, *rest)

    monkeypatch.setattr(train, "fit", fit)
    result = wss(
        "train", *QUICK, "--set", "train.phases.0.steps=40", "--budget", "8s", "--set", "train.validate_every=0"
    )
    assert result.code == 0, result.err
    assert len(lengths) == 2
    assert lengths[0] == [40]
    assert f"train {lengths[1][0]} steps" in result.said
    assert not list((work / "artifacts/train").glob("*.partial"))
