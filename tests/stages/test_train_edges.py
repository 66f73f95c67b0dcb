"""Edge maps: how they reach a method that learns from them."""

import cv2
import numpy as np
import pytest
import torch

from wss.errors import DataError, UsageError
from wss.methods import Bpg
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Inputs
from wss.stages.train import run as train
from wss.stages.train_params import TrainParams
from wss.store import EDGES, MODEL, Store, StoreWriter

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}
TERMS = {"bpg": {"pce": 1, "boundary": 1}, "pce": {"pce": 1}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    pipeline = load_pipeline(shipped_pipelines()["pce"], everywhere={"dataset": DATASET})
    outcomes = run_pipeline(pipeline.up_to("prepare"), Workspace(tmp_path_factory.mktemp("w")), Context())
    return outcomes["samples"].store, outcomes["prepare"].store


def _edges(path, maps):
    writer = StoreWriter(path, EDGES, {"key": "k", "params": "{}", "inputs": "{}"})
    for image_id, values in maps.items():
        writer.append(image_id, {"edges": values})
    writer.finish({})
    return Store(path, EDGES)


def _blue(samples):
    """As an edge map, the image's blue channel, from which it is seen that both moved alike."""
    return {i: samples.get("image", i)[..., 2] for i in samples.ids}


def _train(folder, prepared, edges, seen=None, monkeypatch=None, method="bpg", **augment):
    params = TrainParams.model_validate(
        {
            "method": {"name": method},
            "phases": [{"epochs": 1, "terms": TERMS[method], "lr": 1e-3}],
            "batch_size": 2,
            "augment": {"crop": None, "flip": 0, **augment},
            "validation_split": None,
        }
    )
    if seen is not None:
        real = Bpg.losses
        monkeypatch.setattr(Bpg, "losses", lambda s, m, batch, t: seen.append(batch) or real(s, m, batch, t))
    writer = StoreWriter(folder / "model.h5", MODEL, {})
    stores = {"samples": (prepared[0],), "labels": (prepared[1],), "edges": (edges,) if edges else ()}
    try:
        train(params, Inputs(stores), writer, Context())
    finally:
        writer.close()
    return writer


def test_batches_bring_the_edges_of_their_images(tmp_path, prepared, monkeypatch):
    seen = []
    writer = _train(tmp_path, prepared, _edges(tmp_path / "e.h5", _blue(prepared[0])), seen, monkeypatch)
    assert len(seen) == 2
    for batch in seen:
        assert batch.maps["edges"].dtype == torch.float32
        torch.testing.assert_close(batch.maps["edges"], batch.rgb[:, 2] / 255)
    last = writer.log["epochs"][-1]
    assert last["boundary"] > 0
    assert last["loss"] == pytest.approx(last["pce"] + last["boundary"], rel=1e-5)


def test_edges_are_interpolated_with_the_image_and_padded_with_nothing(tmp_path, prepared, monkeypatch):
    seen = []
    samples = prepared[0]
    mean = {i: np.full((32, 32), 200, np.uint8) for i in samples.ids}
    for image_id, values in mean.items():
        values[:, 16:] = samples.get("image", image_id)[:, 16:, 2]
    for maps, flat in ((_blue(samples), False), (mean, True)):
        edges = _edges(tmp_path / f"{flat}.h5", maps)
        _train(tmp_path, prepared, edges, seen, monkeypatch, crop=48, scale=(0.6, 0.9), rotate_deg=20, flip=0.5)
        monkeypatch.undo()
    blue, mixed = seen[:2], seen[2:]
    for batch in blue:
        moved = batch.maps["edges"] * 255
        assert not batch.valid.all()
        assert (moved[~batch.valid] == 0).all()
        inside = torch.from_numpy(
            np.stack([cv2.erode(v.numpy().astype(np.uint8), np.ones((3, 3))) for v in batch.valid])
        )
        difference = (moved - batch.rgb[:, 2]).abs()[inside.bool()]
        assert difference.max() <= 1.5  # the image was rounded
    for batch in mixed:  # strengths between those of two neighbours, which no label map would have
        values = (batch.maps["edges"] * 255)[batch.valid]
        assert ((values - values.round()).abs() > 0.05).any()


def test_missing_edges_are_an_error(tmp_path, prepared):
    with pytest.raises(UsageError, match=r"'bpg' learns from edge maps.*no input 'edges'"):
        _train(tmp_path, prepared, None)
    maps = _blue(prepared[0])
    absent = prepared[0].meta["splits"]["train"][2]
    del maps[absent]
    with pytest.raises(UsageError, match=rf"e\.h5 has none for '{absent}'; `wss edges`"):
        _train(tmp_path, prepared, _edges(tmp_path / "e.h5", maps))


def test_edges_of_images_that_are_not_trained_on_are_not_needed(tmp_path, prepared):
    maps = {i: values for i, values in _blue(prepared[0]).items() if i in prepared[0].meta["splits"]["train"]}
    assert len(maps) < len(prepared[0])
    assert _train(tmp_path, prepared, _edges(tmp_path / "e.h5", maps)).meta["num_images"] == 4


def test_edges_of_another_size_are_refused(tmp_path, prepared):
    maps = _blue(prepared[0])
    other = prepared[0].meta["splits"]["train"][1]
    maps[other] = maps[other][:, :30]
    with pytest.raises(DataError, match=rf"e\.h5: the edge map of '{other}' is \(32, 30\), its image \(32, 32\)"):
        _train(tmp_path, prepared, _edges(tmp_path / "e.h5", maps))


def test_methods_that_do_not_need_edges_ignore_them(tmp_path, prepared):
    maps = {i: values[:5] for i, values in _blue(prepared[0]).items()}
    edges = _edges(tmp_path / "e.h5", maps)
    assert _train(tmp_path, prepared, edges, method="pce").meta["num_images"] == 4
