"""``amp: auto`` in stages: decided once, recorded, and kept by an interrupted run."""

import pytest
import torch

from wss import precision
from wss.checkpoints import build_model
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import train
from wss.stages.stage import Context, Silent
from wss.training import loop

DATASET = {"kind": "sample", "options": {"train": 4, "val": 3, "height": 32, "width": 32}}


class _StopError(Exception):
    pass


class _Progress(Silent):
    """Keeps what is said, and stops a task after some units."""

    def __init__(self, task=None, after=0):
        self.said, self._task, self._after = [], task, after

    def say(self, message):
        self.said.append(message)

    def task(self, label, total, done=0):
        count = done

        def advance(units, note):
            nonlocal count
            count += units
            if self._task is not None and label.startswith(self._task) and count >= self._after:
                raise _StopError

        return advance


@pytest.fixture(autouse=True)
def _measured_at_once(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(train, "MIN_STEPS", 1)
    monkeypatch.setattr(precision, "MIN_PASSES", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_S", -1.0)


@pytest.fixture
def found(monkeypatch):
    """Let measurements find that bfloat16 is so many times as fast, after steps of both kinds."""

    def times(value):
        def measured(step, device):
            for amp in (False, True):
                step(amp)
            calls.append(value)
            return value

        monkeypatch.setattr(precision, "measured", measured)

    calls = times.calls = []
    return times


def _run(folder, amp="auto", progress=None, predict="auto"):
    changes = {
        "train": {"amp": amp, "phases": {"*": {"epochs": 3}}, "batch_size": 2, "validate_every": 0},
        "predict": {"amp": predict},
    }
    pipeline = load_pipeline(shipped_pipelines()["pce"], changes, {"dataset": DATASET}).up_to("evaluate")
    return {
        name: outcome.store
        for name, outcome in run_pipeline(
            pipeline, Workspace(folder), Context(progress=progress or _Progress())
        ).items()
    }


def _weights(store):
    return build_model(store).state_dict()


def _same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("times", "used"), [(2.0, True), (0.9, False)])
def test_auto_trains_and_predicts_as_if_it_were_asked_for(tmp_path, found, times, used):
    found(times)
    progress = _Progress()
    auto = _run(tmp_path / "auto", progress=progress)
    asked, other = (_run(tmp_path / str(amp), amp=amp, predict=amp) for amp in (used, not used))
    assert _same(_weights(auto["train"]), _weights(asked["train"]))
    assert not _same(_weights(auto["train"]), _weights(other["train"]))
    assert auto["train"].meta["bfloat16"] is used
    assert auto["train"].log["precision"]["times"] == times
    assert found.calls == [times, times]
    told = "bfloat16: 2 times as fast here" if used else "float32: bfloat16 is 0.9 times as fast here"
    assert progress.said[-2:] == [f"train: {told}", f"predict: {told}"]
    record = auto["evaluate"].meta["record"]
    assert record.get("bfloat16") == ({"training": True, "prediction": True} if used else None)
    assert record["miou"] == asked["evaluate"].meta["record"]["miou"]
    ids = auto["predict"].ids
    assert all((auto["predict"].get("probs", i) == asked["predict"].get("probs", i)).all() for i in ids)


def test_a_decision_does_not_change_the_key(tmp_path, found):
    keys = []
    for name, times in (("a", 2.0), ("b", 0.5)):
        found(times)
        keys.append(_run(tmp_path / name)["train"].key)
    assert keys[0] == keys[1]
    assert _run(tmp_path / "c", amp=True)["train"].key != keys[0]


def test_a_resumed_training_keeps_its_decision(tmp_path, found):
    found(2.0)
    whole = _run(tmp_path / "whole")
    with pytest.raises(_StopError):
        _run(tmp_path / "cut", progress=_Progress("training", 3))
    found(0.5)
    found.calls.clear()
    cut = _run(tmp_path / "cut", predict=False)
    assert found.calls == []
    assert cut["train"].meta["bfloat16"] is True
    assert cut["train"].log["precision"]["times"] == 2.0
    assert _same(_weights(cut["train"]), _weights(whole["train"]))


def test_a_resumed_prediction_keeps_its_decision(tmp_path, found):
    found(2.0)
    with pytest.raises(_StopError):
        _run(tmp_path, progress=_Progress("predicting", 2))
    found(0.5)
    found.calls.clear()
    stores = _run(tmp_path)
    assert found.calls == []
    assert stores["predict"].meta["bfloat16"] == {"training": True, "prediction": True}


def test_short_work_stays_in_float32(tmp_path, found, monkeypatch):
    monkeypatch.setattr(train, "MIN_STEPS", 7)  # there are six
    monkeypatch.setattr(precision, "MIN_PASSES", 4)  # there are three
    found(2.0)
    progress = _Progress()
    stores = _run(tmp_path, progress=progress)
    assert found.calls == []
    assert stores["predict"].meta["bfloat16"] == {"training": False, "prediction": False}
    assert "bfloat16" not in stores["evaluate"].meta["record"]
    assert not any("float32" in line for line in progress.said)
