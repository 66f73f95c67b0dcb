"""Image tags: where they come from, and how they reach a method."""

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wss.methods
import wss.stages.samples
from wss.errors import DataError, UsageError
from wss.losses import partial_cross_entropy
from wss.methods import Batch, Method, Phase
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Inputs
from wss.stages.train import run as train
from wss.stages.train_params import TrainParams
from wss.store import LABELS, MODEL, Store, StoreWriter
from wss.training.augment import AugmentParams

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}


def _prepare(folder, **params):
    pipeline = load_pipeline(
        shipped_pipelines()["pce"], {"prepare": {"annotation": "tag", **params}}, {"dataset": DATASET}
    )
    outcomes = run_pipeline(pipeline.up_to("prepare"), Workspace(folder), Context())
    return outcomes["samples"].store, outcomes["prepare"].store


def _present(tags):
    assert tags.dtype == np.uint8
    return set(np.flatnonzero(tags).tolist())


def _without(monkeypatch, *names, change=lambda sample: sample):
    real = wss.stages.samples._read
    nothing = dict.fromkeys((*names, "tags"))
    monkeypatch.setattr(wss.stages.samples, "_read", lambda s, i: change(replace(real(s, i), **nothing)))


def test_tags_are_the_classes_of_the_mask(tmp_path):
    samples, labels = _prepare(tmp_path)
    assert labels.ids == samples.ids
    for image_id in labels.ids:
        assert (labels.get("labels", image_id) == 255).all()
        assert labels.get("labels", image_id).shape == samples.get("mask", image_id).shape
        assert _present(labels.get("tags", image_id)) == {0, *np.unique(samples.get("mask", image_id)).tolist()}
    assert labels.meta == {"annotation": "tag", "simulated": True, "options": {}}
    assert len({tuple(labels.get("tags", i)) for i in labels.ids}) > 1


def test_void_is_no_class_and_the_background_is_always_there(tmp_path, monkeypatch):
    def change(sample):
        mask = np.full_like(sample.mask, 255)
        mask[:4] = 3
        return replace(sample, mask=mask)

    _without(monkeypatch, change=change)
    _, labels = _prepare(tmp_path)
    assert all(_present(labels.get("tags", i)) == {0, 3} for i in labels.ids)


@pytest.mark.parametrize("missing", [("mask",), ("mask", "boxes"), ("mask", "strokes")], ids=str)
def test_without_masks_tags_come_from_what_is_there(tmp_path, monkeypatch, missing):
    seen = {}

    def change(sample):
        if sample.boxes is not None:
            seen[sample.id] = {0, *sample.boxes[:, 0].tolist()}
        else:
            seen[sample.id] = {0, *(stroke.label for stroke in sample.strokes)}
        return sample

    _without(monkeypatch, *missing, change=change)
    _, labels = _prepare(tmp_path)
    assert {i: _present(labels.get("tags", i)) for i in labels.ids} == seen
    assert not labels.meta["simulated"]


def test_tags_from_a_scribble_image(tmp_path, monkeypatch):
    def change(sample):
        scribble = np.full(sample.image.shape[:2], 255, np.uint8)
        scribble[3, :], scribble[9, :] = 2, 5
        return replace(sample, scribble=scribble)

    _without(monkeypatch, "mask", "boxes", "strokes", change=change)
    _, labels = _prepare(tmp_path)
    assert all(_present(labels.get("tags", i)) == {0, 2, 5} for i in labels.ids)


def test_nothing_to_take_tags_from_is_an_error(tmp_path, monkeypatch):
    _without(monkeypatch, "mask", "boxes", "strokes")
    with pytest.raises(DataError, match="masks, boxes or scribbles"):
        _prepare(tmp_path)


def test_a_fraction_of_the_training_images_keeps_tags(tmp_path):
    samples, labels = _prepare(tmp_path, fraction=0.5)
    tagged = {i for i in labels.ids if labels.has("tags", i)}
    assert len(tagged & set(samples.meta["splits"]["train"])) == 2
    assert tagged >= set(samples.meta["splits"]["val"])
    assert labels.meta["options"] == {"fraction": 0.5}


@pytest.mark.parametrize("params", [{"shrink": 0.5}, {"drop": 0.1}, {"points": True}, {"source": "given"}], ids=str)
def test_tags_take_no_scribble_options(tmp_path, params):
    with pytest.raises(UsageError, match="annotation 'tag' takes no scribble options"):
        _prepare(tmp_path, **params)


class Tagged(Method):
    """A method that looks at its batches."""

    name: Literal["tagged"] = "tagged"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce"})
    needs: ClassVar[frozenset[str]] = frozenset({"tags"})
    seen: ClassVar[list[Batch]] = []

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        self.seen.append(batch)
        return {"pce": partial_cross_entropy(model(batch.rgb), batch.labels)}


def _train(folder, samples, labels, augment=AugmentParams(crop=None, flip=0)):
    params = TrainParams.model_construct(
        **{
            **{name: field.default for name, field in TrainParams.model_fields.items()},
            "method": Tagged(),
            "phases": (Phase(epochs=1, terms={"pce": 1.0}),),
            "batch_size": 2,
            "augment": augment,
            "validation_split": None,
        }
    )
    Tagged.seen.clear()
    writer = StoreWriter(folder / "model.h5", MODEL, {})
    said = []
    try:
        train(params, Inputs({"samples": (samples,), "labels": (labels,)}), writer, Context(progress=_Heard(said)))
    finally:
        writer.close()
    return writer, said


class _Heard:
    def __init__(self, said):
        self._said = said

    def say(self, message):
        self._said.append(message)

    def task(self, label, total, done=0):
        return lambda units, note: None


def _store(path, images):
    """A labels store with the given arrays."""
    writer = StoreWriter(path, LABELS, {"key": "k", "params": "{}", "inputs": "{}"})
    for image_id, arrays in images.items():
        writer.append(image_id, arrays)
    writer.meta.update(annotation="tag", simulated=False, options={})
    writer.finish({})
    return Store(path, LABELS)


def test_batches_bring_the_tags_of_their_images(tmp_path):
    samples, labels = _prepare(tmp_path)
    writer, _ = _train(tmp_path, samples, labels)
    assert writer.meta["num_images"] == 4
    assert len(Tagged.seen) == 2
    for batch in Tagged.seen:
        assert batch.tags.dtype == torch.bool
        assert batch.background == 0
        for rgb, tags in zip(batch.rgb, batch.tags, strict=True):
            (image_id,) = (i for i in samples.ids if (samples.get("image", i) == rgb.permute(1, 2, 0).numpy()).all())
            assert (labels.get("tags", image_id) == tags.numpy()).all()


def test_images_without_tags_and_labels_are_left_out(tmp_path):
    samples, labels = _prepare(tmp_path, fraction=0.5)
    writer, _ = _train(tmp_path, samples, labels)
    assert writer.meta["num_images"] == 2


def test_labels_without_tags_are_refused(tmp_path):
    samples, labels = _prepare(tmp_path)
    drawn = np.zeros((32, 32), np.uint8)
    train_ids = samples.meta["splits"]["train"]
    bare = _store(tmp_path / "bare.h5", {i: {"labels": drawn} for i in train_ids[1:]})
    with pytest.raises(DataError, match=f"image tags, and '{train_ids[1]}' has labels only"):
        _train(tmp_path, samples, bare)
    tags = labels.get("tags", train_ids[0])
    mixed = {train_ids[0]: {"labels": drawn, "tags": tags}, train_ids[1]: {"labels": drawn}}
    with pytest.raises(DataError, match=f"'{train_ids[1]}' has labels only"):
        _train(tmp_path, samples, _store(tmp_path / "mixed.h5", mixed))
    empty = _store(tmp_path / "empty.h5", {i: {"labels": np.full_like(drawn, 255)} for i in train_ids})
    with pytest.raises(DataError, match="no image of split 'train' has them"):
        _train(tmp_path, samples, empty)


def test_images_of_several_sizes_are_seen_whole(tmp_path, monkeypatch):
    def change(sample):
        if sample.id != "train-0001":
            return sample
        return replace(sample, image=sample.image[:20], mask=sample.mask[:20])

    _without(monkeypatch, "boxes", "strokes", change=change)
    samples, labels = _prepare(tmp_path)
    _, said = _train(tmp_path, samples, labels)
    assert any("whole images resized to 32x32" in message for message in said)
    assert all(batch.rgb.shape[2:] == (32, 32) and bool(batch.valid.all()) for batch in Tagged.seen)
    _, said = _train(tmp_path, samples, labels, AugmentParams(crop=None, resize=(24, 40)))
    assert not said
    assert all(batch.rgb.shape[2:] == (24, 40) for batch in Tagged.seen)


def test_images_of_several_sizes_are_padded_where_they_stay_whole(tmp_path, monkeypatch):
    sizes = {"train-0000": (32, 31), "train-0001": (19, 32), "train-0002": (25, 7), "train-0003": (32, 31)}

    def change(sample):
        height, width = sizes.get(sample.id, (32, 32))
        return replace(sample, image=sample.image[:height, :width], mask=sample.mask[:height, :width])

    _without(monkeypatch, "boxes", "strokes", change=change)
    samples, labels = _prepare(tmp_path)
    ids = samples.meta["splits"]["train"]
    _, said = _train(tmp_path, samples, labels, AugmentParams(crop=None, whole=True, flip=0))
    assert said == ["images of 3 sizes: padded to 32x32"]
    found = {}
    for batch in Tagged.seen:
        assert batch.rgb.shape[2:] == batch.labels.shape[1:] == (32, 32)
        for rgb, valid, tags in zip(batch.rgb, batch.valid, batch.tags, strict=True):
            height, width = (int(valid.any(axis).sum()) for axis in (1, 0))
            assert valid.sum() == height * width
            assert valid[:height, :width].all()
            found[rgb[:, :height, :width].permute(1, 2, 0).numpy().astype(np.uint8).tobytes()] = tags.tolist()
    assert found == {samples.get("image", i).tobytes(): labels.get("tags", i).astype(bool).tolist() for i in ids}


@pytest.mark.parametrize("annotation", ["scribble", "tag and scribble"])
@pytest.mark.parametrize("name", ["pce", "dmpls"])
def test_the_penalty_for_absent_classes_learns_which_they_are(tmp_path, monkeypatch, name, annotation):
    """From tags, and otherwise from the labelled pixels of the whole image."""
    samples, scribbles = _prepare(tmp_path, annotation="scribble")
    path = tmp_path / "labels.h5"
    writer = StoreWriter(path, LABELS, {"key": "k"})
    named = {}
    for place, i in enumerate(scribbles.ids):
        arrays = {"labels": scribbles.get("labels", i)}
        named[i] = set(np.unique(arrays["labels"]).tolist()) - {255}
        if annotation != "scribble" and place % 2:
            named[i] = {0, 2, 3}
            arrays["tags"] = np.isin(np.arange(len(samples.meta["classes"])), [0, 2, 3]).astype(np.uint8)
        writer.append(i, arrays)
    writer.meta.update(scribbles.meta)
    writer.finish({})
    seen = []
    real = wss.methods.Dmpls.losses if name == "dmpls" else wss.methods.PartialCrossEntropy.losses

    def losses(self, model, batch, terms):
        found = real(self, model, batch, terms)
        seen.append((batch.tags, found))
        return found

    monkeypatch.setattr(type(TrainParams(method={"name": name}, phases=[_phase("pce")]).method), "losses", losses)
    for terms in (("pce",), ("pce", "absent")):
        seen.clear()
        params = TrainParams(
            method={"name": name},
            network={"name": "unet", "widths": (4, 8)},
            phases=[_phase(*terms)],
            augment=AugmentParams(crop=16, flip=0),
            batch_size=4,
            amp=False,
            validate_every=0,
        )
        output = StoreWriter(tmp_path / f"{'-'.join(terms)}.h5", MODEL, {"key": "m"})
        stores = {"samples": (samples,), "labels": (Store(path, LABELS),)}
        train(params, Inputs(stores), output, Context())
        ((tags, found),) = seen
        assert set(found) == set(terms)
        if terms == ("pce",):
            assert tags is None
        else:
            assert float(found["absent"].detach()) > 0
            rows = sorted(tuple(np.flatnonzero(row).tolist()) for row in tags.numpy())
            assert rows == sorted(tuple(sorted(named[i])) for i in samples.meta["splits"]["train"])


def _phase(*terms):
    return Phase(epochs=1, terms=dict.fromkeys(terms, 1.0))
