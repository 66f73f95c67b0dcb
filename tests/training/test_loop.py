import functools
import operator

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wss.errors import UsageError, WssError
from wss.methods import PartialCrossEntropy, Phase
from wss.networks import NetworkSpec
from wss.training.augment import AugmentParams
from wss.training.batches import EpochBatches, TrainingSet, batches
from wss.training.loop import Hooks, LoopSettings, fit, total_steps
from wss.training.optimiser import freeze, learning_rate, make_optimiser


def _read(image_id):
    rng = np.random.default_rng(int(image_id))
    labels = np.full((20, 24), 255, np.uint8)
    labels[4:8, :] = 0
    labels[12:16, :] = 1
    image = np.where(np.arange(20)[:, None, None] < 10, 60, 180) + rng.integers(0, 40, (20, 24, 3))
    return image.astype(np.uint8), {"labels": labels}


def _data(count=6):
    return TrainingSet([str(n) for n in range(count)], _read, AugmentParams(flip=1, crop=16), seed=3)


def _model(spec=None):
    torch.manual_seed(1)
    return PartialCrossEntropy().build(spec or NetworkSpec(name="unet"), 2)


PHASES = (
    Phase(epochs=2, terms={"pce": 1.0}, lr=0.01),
    Phase(epochs=1, terms={"pce": 0.5}, lr=0.001, optimiser="adamw"),
)
IN_STEPS = (  # three steps are one pass
    Phase(steps=8, terms={"pce": 1.0}, lr=0.01),
    Phase(steps=5, terms={"pce": 0.5}, lr=0.001, optimiser="adamw"),
)


def _fit(
    model, state=None, save=lambda state: None, phases=PHASES, advance=lambda n, note: None, workers=0, **settings
):
    logged = []
    hooks = Hooks(lambda model: {"val_miou": 0.5}, save, lambda rows: logged.append(len(rows)), advance)
    loop = LoopSettings(batch_size=2, seed=3, device=torch.device("cpu"), workers=workers, **settings)
    return fit(model, PartialCrossEntropy(), phases, _data(), loop, hooks, state)


def _weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("phases", "stop_after"),
    [*((PHASES, stop) for stop in (1, 3, 4, 6, 8)), *((IN_STEPS, stop) for stop in (3, 7, 8, 11, 12))],
)
def test_resumed_equals_uninterrupted(phases, stop_after, monkeypatch):
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    whole = _model()
    torch.manual_seed(5)
    rows = _fit(whole, phases=phases)

    states, steps = [], []

    def advance(n, note):
        steps.append(n)
        if len(steps) > stop_after:
            raise _Stop

    def save(state):
        states.append(
            {
                **state,
                "model": _weights(model),
                "optimiser": _copy(state["optimiser"]),
                "sums": dict(state["sums"]),
                "rows": list(state["rows"]),
            }
        )

    model = _model()
    torch.manual_seed(5)
    with pytest.raises(_Stop):
        _fit(model, save=save, phases=phases, advance=advance)
    other = _model()
    torch.manual_seed(99)  # resuming restores the generator
    again = _fit(other, state=states[-1], phases=phases)
    for name, value in _weights(whole).items():
        assert torch.equal(other.state_dict()[name], value), name
    for row, same in zip(rows, again, strict=True):
        assert _untimed(row) == _untimed(same)


def _untimed(row):
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


def _copy(tree):
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {k: _copy(v) for k, v in tree.items()}
    return [_copy(v) for v in tree] if isinstance(tree, list) else tree


def test_readings_that_come_late_are_the_same(monkeypatch):
    """As on a GPU, where the numbers of a step are read when some further steps are under way."""
    torch.manual_seed(5)
    rows, notes = _fit(_model(), phases=IN_STEPS), []
    monkeypatch.setattr("wss.devices.on_host", lambda tensor: False)
    monkeypatch.setattr("wss.training.readings.AHEAD", 1)
    torch.manual_seed(5)
    late = _fit(_model(), phases=IN_STEPS, advance=lambda n, note: notes.append(note))
    for row, same in zip(rows, late, strict=True):
        assert _untimed(row) == _untimed(same)
    assert not notes[0]  # nothing has arrived yet
    assert all(note.startswith("loss ") for note in notes[2:])


def test_nothing_is_saved_after_a_loss_that_is_read_too_late(monkeypatch):
    monkeypatch.setattr("wss.devices.on_host", lambda tensor: False)
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    model, saved = _model(), []
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(WssError, match="no longer finite at phase 1, step 1 "):
        _fit(model, save=saved.append)
    assert not saved


def test_loss_falls_and_rows_say_so():
    rows = _fit(_model(), phases=(Phase(epochs=12, terms={"pce": 1.0}, optimiser="adamw", lr=0.003),))
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["step"] == 36
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["val_miou"] == 0.5


def _recorded(monkeypatch):
    """The partial cross-entropy of every step that follows."""
    found, real = [], PartialCrossEntropy.losses

    def losses(self, *arguments):
        terms = real(self, *arguments)
        found.append(terms["pce"].item())
        return terms

    monkeypatch.setattr(PartialCrossEntropy, "losses", losses)
    return found


def test_phases_in_steps(monkeypatch):
    values = _recorded(monkeypatch)
    rows = _fit(_model(), phases=IN_STEPS, validate_every=2)
    assert len(values) == total_steps(6, 2, IN_STEPS) == 13
    assert [(row["phase"], row["epoch"], row["step"]) for row in rows] == [
        (1, 1, 3), (1, 2, 6), (1, 3, 8), (2, 1, 11), (2, 2, 13)
    ]  # fmt: skip
    starts = [0, *(row["step"] for row in rows)]
    for start, row in zip(starts, rows, strict=False):
        assert row["pce"] == pytest.approx(np.mean(values[start : row["step"]]))
        assert row["loss"] == pytest.approx((1.0 if row["phase"] == 1 else 0.5) * row["pce"])
    assert ["val_miou" in row for row in rows] == [False, True, True, False, True]


def test_the_rate_falls_over_the_steps_of_the_phase():
    rows = _fit(_model(), phases=IN_STEPS)
    places = [(0, 2), (0, 5), (0, 7), (1, 2), (1, 4)]
    expected = [IN_STEPS[n].lr * (1 - step / (8, 5)[n]) ** 0.9 for n, step in places]
    assert [row["lr"] for row in rows] == pytest.approx(expected)


def test_steps_of_whole_passes_are_epochs():
    first, second = _model(), _model()
    torch.manual_seed(5)
    rows = _fit(first)
    torch.manual_seed(5)
    in_steps = [
        Phase.model_validate({**phase.model_dump(), "epochs": None, "steps": 3 * phase.epochs}) for phase in PHASES
    ]
    again = _fit(second, phases=in_steps)
    for name, value in _weights(first).items():
        assert torch.equal(second.state_dict()[name], value), name
    assert [_untimed(row) for row in rows] == [_untimed(row) for row in again]


def test_no_sample_of_a_later_phase_is_one_of_an_earlier_phase(monkeypatch):
    drawn = []
    real = TrainingSet.__getitem__
    monkeypatch.setattr(TrainingSet, "__getitem__", lambda self, item: drawn.append(item[1]) or real(self, item))
    _fit(_model(), phases=IN_STEPS)
    assert drawn == list(range(26))


def test_workers_give_the_same_weights():
    first, second = _model(), _model()
    torch.manual_seed(5)
    _fit(first)
    torch.manual_seed(5)
    _fit(second, workers=2)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_divergence_is_named():
    with pytest.raises(WssError, match=r"no longer finite at phase 1.*lower the learning rate"):
        _fit(_model(), phases=(Phase(epochs=9, terms={"pce": 1.0}, lr=1e30),))


def test_autocast_trains():
    rows = _fit(_model(), amp=True)
    assert np.isfinite(rows[-1]["loss"])


def test_epochs_shuffle_without_repetition():
    sampler = EpochBatches(7, 3, epochs=3, seed=0)
    drawn = [[index for index, _ in batch] for batch in sampler]
    assert len(drawn) == len(sampler) == 6
    for epoch in range(3):
        indices = functools.reduce(operator.iadd, drawn[2 * epoch : 2 * epoch + 2], [])
        assert len(set(indices)) == 6
    assert drawn[:2] != drawn[2:4]
    draws = [draw for batch in sampler for _, draw in batch]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("start", range(7))
def test_sampler_continues_anywhere(start):
    assert list(EpochBatches(7, 3, 3, seed=1, start=start)) == list(EpochBatches(7, 3, 3, seed=1))[start:]


@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_sampler_of_steps_is_that_of_epochs_cut_short(steps):
    sampler = EpochBatches(7, 3, None, seed=1, start=1, first_draw=9, steps=steps)
    assert len(sampler) == steps - 1
    assert list(sampler) == list(EpochBatches(7, 3, 3, seed=1, first_draw=9))[1:steps]


def test_sampler_needs_a_length():
    with pytest.raises(ValueError, match="a number of epochs or of steps"):
        EpochBatches(7, 3, None, seed=0)


def test_fewer_images_than_the_batch():
    assert [len(batch) for batch in EpochBatches(3, 8, epochs=2, seed=0)] == [3, 3]


def test_batches_are_what_methods_expect():
    sampler = EpochBatches(6, 4, 1, seed=0)
    (batch,) = batches(_data(), sampler, device=torch.device("cpu"), workers=0, channels_last=True)
    assert batch.rgb.shape == (4, 3, 16, 16)
    assert batch.rgb.dtype == torch.float32
    assert batch.rgb.max() > 1
    assert batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {0, 1, 255}
    assert batch.valid.all()
    assert batch.rgb.is_contiguous(memory_format=torch.channels_last)


def test_schedules():
    poly = Phase(epochs=1, terms={"pce": 1}, lr=0.1, power=0.9)
    assert learning_rate(poly, 0, 10) == pytest.approx(0.1)
    assert learning_rate(poly, 5, 10) == pytest.approx(0.1 * 0.5**0.9)
    warm = Phase(epochs=1, terms={"pce": 1}, lr=0.1, warmup_iters=4)
    assert [learning_rate(warm, s, 100) for s in range(4)] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    cosine = Phase(epochs=1, terms={"pce": 1}, lr=0.1, schedule="cosine")
    assert learning_rate(cosine, 50, 100) == pytest.approx(0.05)
    assert learning_rate(Phase(epochs=1, terms={"pce": 1}, lr=0.1, schedule="constant"), 99, 100) == 0.1


def test_the_step_schedule_multiplies_the_rate_again_and_again():
    sec = Phase(epochs=1, terms={"pce": 1}, lr=1e-3, schedule="step", step_iters=2000)
    places = (0, 1999, 2000, 3999, 4000, 6000, 7999)
    assert [learning_rate(sec, s, 8000) for s in places] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6])
    slow = Phase(epochs=1, terms={"pce": 1}, lr=1.0, schedule="step", step_iters=3, gamma=0.5, warmup_iters=2)
    assert [learning_rate(slow, s, 7) for s in range(7)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0.5, 0.5, 0.25])
    with pytest.raises(ValidationError, match="schedule step needs step_iters"):
        Phase(epochs=1, terms={"pce": 1}, schedule="step")


def test_seconds_per_step_are_without_validation(monkeypatch):
    """A clock that only steps (1 s each) and validations (100 s) advance."""
    now = [0.0]

    class Slow(PartialCrossEntropy):
        def losses(self, model, batch, terms):
            now[0] += 1
            return super().losses(model, batch, terms)

    def validate(model):
        now[0] += 100
        return {}

    monkeypatch.setattr("wss.training.loop.time.monotonic", lambda: now[0])
    hooks = Hooks(validate, lambda state: None, lambda rows: None, lambda n, note: None)
    loop = LoopSettings(batch_size=2, seed=3, device=torch.device("cpu"))
    rows = fit(_model(), Slow(), PHASES, _data(), loop, hooks)
    assert [(row["seconds_per_step"], row["seconds"]) for row in rows] == [(1, 103)] * 3


def test_seconds_per_step_of_a_resumed_epoch_count_its_own_steps(monkeypatch):
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    states = []
    _fit(_model(), save=lambda state: states.append(state | {"rows": list(state["rows"]), "sums": dict(state["sums"])}))
    late = next(state for state in states if (state["phase"], state["step"]) == (0, 2))
    monkeypatch.setattr("wss.training.loop.time.monotonic", iter(range(1000)).__next__)
    row = _fit(_model(), state=late)[0]  # one step of three is left
    assert row["seconds_per_step"] >= 1


def test_head_and_bias_multipliers():
    model = _model(NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"))
    phase = Phase(epochs=1, terms={"pce": 1}, lr=0.01, weight_decay=0.1)
    where = {}
    for group in make_optimiser(model, phase).param_groups:
        for parameter in group["params"]:
            where[id(parameter)] = (group["multiplier"], group["weight_decay"])
    for name, parameter in model.named_parameters():
        rate, decay = where[id(parameter)]
        head, bias = "backbone" not in name, name.endswith("bias")
        assert rate == (10 if head else 1) * (2 if bias else 1), name
        assert (decay == 0) == (parameter.ndim == 1), name


def test_freezing():
    model = _model(NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"))
    phase = Phase(epochs=1, terms={"pce": 1}, freeze=("backbone",))
    freeze(model, phase)
    before = _weights(model)
    _fit(model, phases=(phase,))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    parameters = {name for name, _ in model.named_parameters()}
    assert set(moved & parameters) == {name for name in parameters if "backbone" not in name}
    with pytest.raises(UsageError, match=r"no parameter begins with 'bakbone'; parts: backbone"):
        freeze(model, Phase(epochs=1, terms={"pce": 1}, freeze=("bakbone",)))


def test_frozen_batch_norm_keeps_its_statistics():
    model = _model(NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"))
    before = _weights(model)
    _fit(model, phases=(Phase(epochs=1, terms={"pce": 1}, batch_norm="frozen"),))
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            assert torch.equal(before[name], value) == ("backbone" in name), name
