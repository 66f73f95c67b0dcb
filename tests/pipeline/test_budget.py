"""A time for training becomes a number of steps."""

import pytest

from wss.errors import UsageError
from wss.pipeline.budget import TooShortError, fitted, parse_budget
from wss.stages.train_params import TrainParams


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2m ", 120)])
def test_times(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "m", "-1m", "1d", "1 m", "1h30m"])
def test_other_times_are_refused(text):
    with pytest.raises(UsageError, match=r"expected a time such as 90s, 30m or 1\.5h"):
        parse_budget(text)


def _params(*phases):
    return TrainParams.model_validate({"method": {"name": "pce"}, "phases": phases, "batch_size": 8})


def test_phases_keep_their_share():
    params = _params({"epochs": 30, "terms": {"pce": 1}}, {"steps": 100, "terms": {"pce": 1}})
    phases = fitted(params, 80, [0.5, 2.0], 700.0)  # usually 300 steps of 0.5 s and 100 of 2 s: 350 s
    assert [(phase.epochs, phase.steps) for phase in phases] == [(None, 600), (None, 200)]
    assert 0.5 * 600 + 2 * 200 <= 700


def test_fewer_images_than_a_batch():
    (phase,) = fitted(_params({"epochs": 10, "terms": {"pce": 1}}), 3, [0.1], 5.0)
    assert phase.steps == 50


def test_too_little_time_is_refused():
    params = _params({"epochs": 30, "terms": {"pce": 1}}, {"steps": 1, "terms": {"pce": 1}})
    for available in (20.0, -5.0):
        with pytest.raises(TooShortError, match="give more time") as error:
            fitted(params, 80, [0.5, 2.0], available)  # usually 300 steps of 0.5 s and 1 of 2 s: 152 s
        assert error.value.missing == pytest.approx(152 - available)
        assert fitted(params, 80, [0.5, 2.0], available + error.value.missing + 1e-6)[1].steps == 1
