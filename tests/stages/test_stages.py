"""Stages on four small images: what they store, and that an interrupted one makes only the images that are left."""

import shutil
from functools import partial

import numpy as np
import pytest

import wss.stages.crf
import wss.stages.evaluate
import wss.stages.predict
import wss.stages.prepare
import wss.stages.samples
import wss.stages.train
from wss.checkpoints import load_checkpoint
from wss.datasets import open_source
from wss.errors import DataError, UsageError
from wss.metrics import boundary_distance, confusion_matrix, iou, miou, trimap
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.scribbles import pack_strokes, unpack_strokes
from wss.stages.parallel import each
from wss.stages.splits import evenly, split_ids
from wss.stages.stage import Context

OPTIONS = {"train": 5, "val": 3, "height": 32, "width": 32}
DATASET = {"kind": "sample", "options": OPTIONS}
QUICK = {
    "train": {
        "batch_size": 2,
        "phases": [
            {"epochs": 1, "terms": {"pce": 1.0}, "lr": 0.01, "head_multiplier": 1},
            {"epochs": 1, "terms": {"pce": 1.0}, "lr": 0.001, "optimiser": "adamw"},
        ],
    },
}


def _run(folder, changes=None, target="evaluate-crf", name="pce"):
    pipeline = load_pipeline(shipped_pipelines()[name], {**QUICK, **(changes or {})}, {"dataset": DATASET})
    return run_pipeline(pipeline.up_to(*target.split()), Workspace(folder), Context())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A workspace with everything made, and the outcomes."""
    folder = tmp_path_factory.mktemp("done")
    return folder, _run(folder, target="evaluate evaluate-crf")


class Interrupted(Exception):
    pass


def _stopping(real, calls, stop_after):
    """The function, counting its calls and failing after so many."""

    def counted(*arguments, **named):
        if len(calls) == stop_after:
            raise Interrupted
        calls.append(arguments)
        return real(*arguments, **named)

    return counted


@pytest.mark.parametrize(
    ("node", "module", "function", "images"),
    [
        ("samples", wss.stages.samples, "_read", 8),
        ("prepare", wss.stages.prepare, "_annotate", 8),
        ("predict", wss.stages.predict.Predictor, "probabilities", 3),
        ("crf", wss.stages.crf, "_refine", 3),
        ("evaluate", wss.stages.evaluate, "confusion_matrix", 3),
    ],
)
def test_resumes_with_the_remaining_images(done, tmp_path, monkeypatch, node, module, function, images):
    folder, outcomes = done
    shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    expected = outcomes[node].store
    (tmp_path / expected.path.relative_to(folder)).unlink()
    real, calls = getattr(module, function), []
    monkeypatch.setattr(module, function, _stopping(real, calls, 2))
    with pytest.raises(Interrupted):
        _run(tmp_path, target=node)
    assert len(calls) == 2
    monkeypatch.setattr(module, function, _stopping(real, calls, -1))
    again = _run(tmp_path, target=node)[node]
    assert not again.skipped
    assert len(calls) == images
    assert again.store.digest == expected.digest
    assert again.store.ids == expected.ids


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_training_resumes_with_the_same_network(done, tmp_path, monkeypatch, stop_after):
    """Two phases of two steps; stopped before each step, it ends with the weights of the run that was not stopped."""
    folder, outcomes = done
    shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    expected = outcomes["train"].store
    (tmp_path / expected.path.relative_to(folder)).unlink()
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    method = wss.methods.PartialCrossEntropy
    real, calls = method.losses, []
    with monkeypatch.context() as patch:
        patch.setattr(method, "losses", _stopping(real, calls, stop_after))
        with pytest.raises(Interrupted):
            _run(tmp_path, target="train")
    monkeypatch.setattr(method, "losses", _stopping(real, calls, -1))
    again = _run(tmp_path, target="train")["train"].store
    assert len(calls) == 4
    assert again.digest == expected.digest
    assert [row["loss"] for row in again.log["epochs"]] == [row["loss"] for row in expected.log["epochs"]]
    assert not list(Workspace(tmp_path).leftovers())


def test_samples_hold_what_the_data_set_has(done):
    store = done[1]["samples"].store
    source = open_source("sample", **OPTIONS)
    assert store.meta["classes"] == list(source.catalogue.classes)
    assert store.meta["splits"] == {name: list(ids) for name, ids in source.catalogue.splits.items()}
    for image_id in store.ids:
        sample = source.read(image_id)
        assert (store.get("image", image_id) == sample.image).all()
        assert (store.get("mask", image_id) == sample.mask).all()
        assert (store.get("boxes", image_id) == sample.boxes).all()
        strokes = unpack_strokes(store.get("strokes", image_id))
        assert [(s.label, s.width) for s in strokes] == [(s.label, s.width) for s in sample.strokes]
        assert all((a.points == b.points).all() for a, b in zip(strokes, sample.strokes, strict=True))
        assert not store.has("scribble", image_id)


def test_strokes_of_no_length_are_kept():
    assert unpack_strokes(pack_strokes(())) == ()


def test_splits_are_found_or_refused(done):
    store = done[1]["samples"].store
    assert split_ids(store, "val") == ["val-0000", "val-0001", "val-0002"]
    with pytest.raises(UsageError, match="no split 'vall'; did you mean 'val'"):
        split_ids(store, "vall")


def test_labels_are_the_scribbles_and_lie_on_the_masks(done):
    samples, labels = done[1]["samples"].store, done[1]["prepare"].store
    assert labels.ids == samples.ids
    for image_id in labels.ids:
        values, mask = labels.get("labels", image_id), samples.get("mask", image_id)
        labelled = values != 255
        assert 0 < labelled.mean() < 0.5
        assert (values[labelled] == mask[labelled]).mean() > 0.9


def _labels(folder, **params):
    store = _run(folder, {"prepare": params}, "prepare")["prepare"].store
    return {i: store.get("labels", i) for i in store.ids}, store


def _count(labels):
    return sum(int((values != 255).sum()) for values in labels.values())


def test_thinner_annotations_are_parts_of_thicker_ones(tmp_path):
    whole, _ = _labels(tmp_path)
    sizes = [_count(_labels(tmp_path, shrink=rate)[0]) for rate in (0.0, 0.3, 0.6, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == _count(whole)
    dropped = [_labels(tmp_path, drop=rate)[0] for rate in (0.3, 0.6, 1.0)]
    assert [_count(d) for d in dropped] == sorted((_count(d) for d in dropped), reverse=True)
    assert _count(dropped[-1]) == 0
    points, store = _labels(tmp_path, points=True)
    assert 0 < _count(points) <= sizes[-1]
    assert store.meta["options"] == {"points": True}


def test_a_fraction_of_the_training_images_keeps_labels(tmp_path):
    kept = []
    for fraction in (0.2, 0.6, 1.0):
        labels, _ = _labels(tmp_path, fraction=fraction)
        kept.append({i for i, values in labels.items() if (values != 255).any()})
    assert [len(k) for k in kept] == [1 + 3, 3 + 3, 5 + 3]  # validation images keep theirs
    assert kept[0] < kept[1] < kept[2]


def test_masks_as_labels(tmp_path):
    outcomes = _run(tmp_path, {"prepare": {"annotation": "mask"}}, "prepare")
    samples, labels = outcomes["samples"].store, outcomes["prepare"].store
    assert all((labels.get("labels", i) == samples.get("mask", i)).all() for i in samples.ids)
    assert labels.meta["annotation"] == "mask"


@pytest.mark.parametrize(
    "params",
    [
        {"annotation": "mask", "shrink": 0.5},
        {"annotation": "mask", "source": "simulated"},
        {"points": True, "shrink": 0.5},
    ],
    ids=str,
)
def test_labels_that_contradict_are_refused(tmp_path, params):
    with pytest.raises(UsageError, match=r"annotation 'mask'|points"):
        _run(tmp_path, {"prepare": params}, "prepare")


def test_predictions_are_probabilities_of_their_labels(done):
    samples, predictions = done[1]["samples"].store, done[1]["predict"].store
    assert predictions.ids == samples.meta["splits"]["val"]
    for image_id in predictions.ids:
        labels, probs = predictions.get("labels", image_id), predictions.get("probs", image_id)
        assert probs.shape == (7, 32, 32)
        assert np.allclose(probs.astype(np.float32).sum(0), 1, atol=5e-3)
        top = np.take_along_axis(probs, labels[None].astype(np.int64), 0)[0]
        assert (top >= probs.max(0) - 1e-3).all()


def test_a_limit_takes_the_first_images(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    store = _run(tmp_path, {"predict": {"limit": 2, "probs": False}}, "predict")["predict"].store
    assert store.ids == ["val-0000", "val-0001"]
    assert not store.has("probs", "val-0000")
    with pytest.raises(UsageError, match="probs: true"):
        _run(tmp_path, {"predict": {"limit": 2, "probs": False}}, "crf")


def test_a_crf_of_no_iterations_changes_nothing(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    outcomes = _run(tmp_path, {"crf": {"iterations": 0}}, "crf")
    before, after = outcomes["predict"].store, outcomes["crf"].store
    for image_id in before.ids:
        probs = np.sort(before.get("probs", image_id).astype(np.float32), 0)
        clear = probs[-1] - probs[-2] > 2e-3
        assert (before.get("labels", image_id) == after.get("labels", image_id))[clear].all()


def test_a_number_given_replaces_the_presets():
    params = wss.stages.crf.CrfParams(preset="vgg16", bi_weight=0)
    assert params.kernels() == {"pos_weight": 2, "pos_xy_std": 2, "bi_weight": 0, "bi_xy_std": 65, "bi_rgb_std": 3}


def test_scores_are_those_of_the_summed_confusion_matrix(done):
    samples, predictions, metrics = (done[1][n].store for n in ("samples", "predict", "evaluate"))
    total = sum(
        confusion_matrix(samples.get("mask", i), predictions.get("labels", i), 7) for i in samples.meta["splits"]["val"]
    )
    assert (np.array(metrics.meta["total"]) == total).all()
    iou = np.diag(total) / np.maximum(total.sum(0) + total.sum(1) - np.diag(total), 1)
    present = (total.sum(0) + total.sum(1)) > 0
    assert metrics.meta["record"]["miou"] == pytest.approx(iou[present].mean())
    assert metrics.meta["record"]["crf"] is False
    refined = done[1]["evaluate-crf"].store.meta["record"]
    assert refined["crf"] is (refined["crf_choice"]["chosen"] != "none")


def test_bands_along_boundaries_are_scored_on_request(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    outcomes = _run(tmp_path, {"evaluate": {"trimap": [2, 500]}}, "evaluate")
    samples, predictions, metrics = (outcomes[n].store for n in ("samples", "predict", "evaluate"))
    record, plain = metrics.meta["record"], done[1]["evaluate"].store.meta["record"]
    near = sum(
        confusion_matrix(trimap(mask, boundary_distance(mask), 2), predictions.get("labels", i), 7)
        for i, mask in ((i, samples.get("mask", i)) for i in predictions.ids)
    )
    assert record["trimap_miou"]["2"] == pytest.approx(np.nanmean(iou(near)))
    assert record["trimap_accuracy"]["2"] == pytest.approx(np.trace(near) / near.sum())
    assert 0 < near.sum() < sum(metrics.get("confusion", i).sum() for i in metrics.ids)
    assert record["trimap_miou"]["500"] == plain["miou"]
    assert {name: record[name] for name in plain} == plain
    assert not any(name.startswith("trimap") for name in plain)


def test_a_phase_of_an_unknown_part_is_refused(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    phase = {"epochs": 1, "terms": {"pce": 1.0}, "freeze": ["backbon"]}
    with pytest.raises(UsageError, match="no parameter begins with 'backbon'"):
        _run(tmp_path, {"train": {**QUICK["train"], "phases": [phase]}}, "train")


def test_more_images_a_step_than_there_are(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    changes = {"train": {**QUICK["train"], "batch_size": 64}}
    store = _run(tmp_path, changes, "train")["train"].store
    assert [row["step"] for row in store.log["epochs"]] == [1, 2]


def test_training_images_are_scored_on_request_and_nothing_else_changes(done, tmp_path):
    shutil.copytree(done[0] / "artifacts", tmp_path / "artifacts")
    plain = done[1]["train"].store
    assert not any("train_miou" in row for row in plain.log["epochs"])
    changes = {"train": {**QUICK["train"], "train_images": 2}}
    outcomes = _run(tmp_path, changes, "train")
    store, samples = outcomes["train"].store, outcomes["samples"].store
    assert store.digest == plain.digest
    assert [row["val_miou"] for row in store.log["epochs"]] == [row["val_miou"] for row in plain.log["epochs"]]
    predictor = load_checkpoint(store.path)
    total = sum(
        confusion_matrix(samples.get("mask", i), predictor(np.array(samples.get("image", i))), 7)
        for i in evenly(samples.meta["splits"]["train"], 2)
    )
    assert [row["train_miou"] for row in store.log["epochs"]][-1] == pytest.approx(miou(total))
    alone = {"train": {**QUICK["train"], "train_images": 9, "validation_split": None}}
    rows = _run(tmp_path, alone, "train")["train"].store.log["epochs"]
    assert all("train_miou" in row and "val_miou" not in row for row in rows)


def test_scored_training_images_are_among_those_trained_on(tmp_path, monkeypatch):
    """With labels of a part of the images, methods that leave the others out are scored on that part."""
    scored = []
    real = wss.stages.train.evenly
    monkeypatch.setattr(wss.stages.train, "evenly", lambda ids, count: scored.append(ids) or real(ids, count))
    changes = {"prepare": {"fraction": 0.4}, "train": {**QUICK["train"], "train_images": 5, "validation_split": None}}
    outcomes = _run(tmp_path, changes, "train")
    labels = outcomes["prepare"].store
    train = outcomes["samples"].store.meta["splits"]["train"]
    assert sorted(scored[-1]) == [i for i in train if (labels.get("labels", i) != 255).any()]
    assert len(scored[-1]) == 2


def test_no_masks_for_dense_training_is_an_error(tmp_path, monkeypatch):
    real = wss.stages.samples._read

    def unmasked(source, image_id):
        from dataclasses import replace

        return replace(real(source, image_id), mask=None)

    monkeypatch.setattr(wss.stages.samples, "_read", unmasked)
    with pytest.raises(DataError, match="needs masks"):
        _run(tmp_path, {"prepare": {"annotation": "mask"}}, "prepare")


def _square(number):
    return number * number


def test_each_gives_results_in_order_one_at_a_time():
    asked = []

    def calls():
        for number in range(5):
            asked.append(number)
            yield (number,)

    results = each(_square, calls(), 1)
    assert next(results) == 0
    assert len(asked) < 5
    assert list(results) == [1, 4, 9, 16]


@pytest.mark.slow
def test_each_gives_the_same_in_several_processes():
    assert list(each(_square, ((n,) for n in range(50)), 2, batch=4)) == [n * n for n in range(50)]


def test_each_passes_errors_on():
    with pytest.raises(ZeroDivisionError):
        list(each(partial(divmod, 1), [(1,), (0,)], 1))


def test_the_report_shows_superpixels(tmp_path):
    phases = [{"epochs": 1, "terms": {"ce": 1.0}, "lr": 0.01, "head_multiplier": 1}]
    training = {"train": {"phases": phases}, "train-*": {"phases": phases}}
    cut = {"superpixels": {"method": {"name": "ucm", "segments": 7}}, "edges": {"detector": "gradient"}}
    page = _run(tmp_path, {**training, **cut}, "report", "scribblesup")["report"].store.array("html").tobytes().decode()
    assert page.count(">7 superpixels<") == 3  # one for each image shown
    assert "ucm" in page
