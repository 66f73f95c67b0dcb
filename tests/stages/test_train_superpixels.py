"""Superpixels and classes of images: how they reach a method that learns from them."""

import numpy as np
import pytest
import torch

from wss.errors import DataError, UsageError
from wss.methods import Spml
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Inputs, Silent
from wss.stages.train import run as train
from wss.stages.train_params import TrainParams
from wss.store import LABELS, MODEL, SUPERPIXELS, Store, StoreWriter

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    pipeline = load_pipeline(shipped_pipelines()["pce"], everywhere={"dataset": DATASET})
    outcomes = run_pipeline(pipeline.up_to("prepare"), Workspace(tmp_path_factory.mktemp("w")), Context())
    return outcomes["samples"].store, outcomes["prepare"].store


def _store(path, schema, items):
    writer = StoreWriter(path, schema, {"key": "k", "params": "{}", "inputs": "{}"})
    for image_id, arrays in items.items():
        writer.append(image_id, arrays)
    writer.meta["annotation"] = "scribble"
    writer.finish({})
    return Store(path, schema)


def _colours(samples):
    """As ids, the image's blue channel and more, from which it is seen that both moved alike and that ids may be large."""
    return {i: {"superpixels": samples.get("image", i)[..., 2].astype(np.int32) + 1000} for i in samples.ids}


def _train(folder, stores, seen=None, monkeypatch=None, context=Context(), network="unet", terms=(), **augment):
    terms = {"similarity": 0.1, "annotation": 1, "classifier": 1, **dict(terms)}
    params = TrainParams.model_validate(
        {
            "method": {"name": "spml", "grid": 2},
            "network": {"name": network, "backbone": None if network == "unet" else "resnet18"},
            "phases": [{"epochs": 1, "terms": terms, "lr": 1e-3}],
            "batch_size": 2,
            "augment": {"crop": None, "flip": 0, **augment},
            "validation_split": None,
        }
    )
    if seen is not None:
        real = Spml.losses
        monkeypatch.setattr(Spml, "losses", lambda s, m, batch, t: seen.append(batch) or real(s, m, batch, t))
    writer = StoreWriter(folder / "model.h5", MODEL, {})
    try:
        train(params, Inputs({name: (store,) for name, store in stores.items()}), writer, context)
    finally:
        writer.close()
    return writer


def test_batches_bring_superpixels_and_classes(tmp_path, prepared, monkeypatch):
    samples, labels = prepared
    superpixels = _store(tmp_path / "s.h5", SUPERPIXELS, _colours(samples))
    seen = []
    stores = {"samples": samples, "labels": labels, "superpixels": superpixels}
    _train(tmp_path, stores, seen, monkeypatch, crop=40, flip=0.5)
    assert len(seen) == 2
    for batch in seen:
        ids = batch.maps["superpixels"]
        assert ids.dtype == torch.int64
        assert (ids[~batch.valid] == -1).all()
        torch.testing.assert_close(ids[batch.valid].float() - 1000, batch.rgb[:, 2][batch.valid])
        for tags, label in zip(batch.tags, batch.labels, strict=True):
            assert set(tags.nonzero()[:, 0].tolist()) == set(label.unique().tolist()) - {255}


def test_tags_say_more_of_an_image_than_its_labels(tmp_path, prepared, monkeypatch):
    samples, labels = prepared
    count = len(samples.meta["classes"])
    tags = {i: np.arange(count) < 3 for i in samples.ids}
    both = {i: {"labels": labels.get("labels", i), "tags": tags[i].astype(np.uint8)} for i in samples.ids}
    stores = {
        "samples": samples,
        "labels": _store(tmp_path / "l.h5", LABELS, both),
        "superpixels": _store(tmp_path / "s.h5", SUPERPIXELS, _colours(samples)),
    }
    seen = []
    _train(tmp_path, stores, seen, monkeypatch)
    assert all(row.tolist() == tags[samples.ids[0]].tolist() for batch in seen for row in batch.tags)


def test_missing_superpixels_are_an_error(tmp_path, prepared):
    samples, labels = prepared
    with pytest.raises(UsageError, match=r"'spml' learns from superpixel maps.*no input 'superpixels'"):
        _train(tmp_path, {"samples": samples, "labels": labels})
    maps = _colours(samples)
    absent = samples.meta["splits"]["train"][2]
    del maps[absent]
    superpixels = _store(tmp_path / "s.h5", SUPERPIXELS, maps)
    with pytest.raises(UsageError, match=rf"s\.h5 has none for '{absent}'; `wss superpixels`"):
        _train(tmp_path, {"samples": samples, "labels": labels, "superpixels": superpixels})


def test_superpixels_of_another_size_are_refused(tmp_path, prepared):
    samples, labels = prepared
    maps = _colours(samples)
    other = samples.meta["splits"]["train"][1]
    maps[other] = {"superpixels": maps[other]["superpixels"][:, :30]}
    superpixels = _store(tmp_path / "s.h5", SUPERPIXELS, maps)
    with pytest.raises(DataError, match=rf"s\.h5: the superpixel map of '{other}' is \(32, 30\), its image \(32, 32\)"):
        _train(tmp_path, {"samples": samples, "labels": labels, "superpixels": superpixels})


@pytest.mark.parametrize(
    ("network", "weight", "warned"),
    [("deeplab-v3plus", 0.5, True), ("deeplab-v3plus", 0, False), ("deeplab-v2", 0.5, False)],
)
def test_cooccurrence_on_a_network_with_image_pooling_is_told(tmp_path, prepared, network, weight, warned):
    samples, labels = prepared
    said = []

    class Told(Silent):
        def say(self, message):
            said.append(message)

    superpixels = _store(tmp_path / "s.h5", SUPERPIXELS, _colours(samples))
    stores = {"samples": samples, "labels": labels, "superpixels": superpixels}
    _train(tmp_path, stores, context=Context(progress=Told()), network=network, terms={"cooccurrence": weight})
    assert [message for message in said if "co-occurrence" in message] == (said[:1] if warned else [])
    assert not warned or "the paper's network is deeplab-v2" in said[0]
