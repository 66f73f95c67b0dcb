"""Pictures of the edges that networks of BPG regress, on a tiny data set."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from wss.checkpoints import build_model
from wss.errors import UsageError
from wss.networks.layers.boundary import foreground_background
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.boundary_pictures import captions, edge_map
from wss.stages.stage import Context

DATASET = {"kind": "sample", "options": {"train": 2, "val": 3, "height": 37, "width": 42}}
STAGES = """
title: boundaries
factors:
  parts:
    plain: {method: {name: pce}, terms: {pce: 1}}
    PRN: {method: {name: bpg, boundary: none}, terms: {pce: 1}}
    BRN: {method: {name: bpg, refine: false}, terms: {pce: 1, boundary: 1}}
    all: {method: {name: bpg, boundary: all}, terms: {pce: 1, boundary: 1}}
    BPG: {method: {name: bpg}, terms: {pce: 1, boundary: 1}}
stages:
  - stage: samples
  - {stage: prepare, inputs: {samples: samples}}
  - {stage: edges, inputs: {samples: samples}, params: {detector: gradient}}
  - id: train-${parts}
    each: parts
    stage: train
    inputs: {samples: samples, labels: prepare, edges: edges}
    params:
      method: "${parts.method}"
      network: {name: unet}
      augment: {crop: 32}
      phases: [{epochs: 20, optimiser: adamw, terms: "${parts.terms}", lr: 0.01}]
      validate_every: 0
  - stage: boundary-pictures
    inputs: {samples: samples, edges: edges, models: [train-*]}
    params: {images: 2}
  - id: predict-${parts}
    each: parts
    stage: predict
    inputs: {samples: samples, model: "train-${parts}"}
  - id: evaluate-${parts}
    each: parts
    stage: evaluate
    inputs: {samples: samples, predictions: "predict-${parts}"}
  - stage: report
    inputs: {samples: samples, models: [train-*], predictions: [predict-*], metrics: [evaluate-*], pictures: [boundary-pictures]}
"""


def _run(folder, changes=None):
    path = folder / "boundaries.yaml"
    path.write_text(STAGES)
    found = run_pipeline(load_pipeline(path, changes or {}, {"dataset": DATASET}), Workspace(folder / "w"), Context())
    return {name: outcome.store for name, outcome in found.items()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("boundaries"))


def test_each_network_with_a_boundary_branch_has_a_tile(done):
    store = done["boundary-pictures"]
    assert len(store.ids) == 2
    assert set(store.ids) <= set(done["samples"].meta["splits"]["val"])
    assert store.meta["captions"] == [
        "Edges of the detector (gradient)",
        "From foreground and background, no refinement",
        "From all channels",
        "From foreground and background",
    ]
    for image_id in store.ids:
        tiles = store.get("tiles", image_id)
        assert tiles.shape == (4, 37, 42, 3)
        assert (tiles[0] == done["edges"].get("edges", image_id)[..., None]).all()
        assert all(len(np.unique(tile)) > 3 for tile in tiles)


@pytest.mark.parametrize(("tile", "part"), [(1, "BRN"), (2, "all"), (3, "BPG")])
def test_edges_are_those_of_the_networks_own_scores(done, tile, part):
    model = build_model(done[f"train-{part}"]).eval()
    store = done["boundary-pictures"]
    for image_id in store.ids:
        rgb = torch.from_numpy(np.array(done["samples"].get("image", image_id))).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            logits = model.network(model.normalise(rgb))
            maps = logits if part == "all" else foreground_background(logits, 0)
            maps = functional.interpolate(maps, (37, 42), mode="bilinear", align_corners=False)
            edges = model.boundary.last(model.boundary.convolutions(maps)).sigmoid()[0, 0].numpy()
        assert (np.abs(store.get("tiles", image_id)[tile, ..., 0] - 255.0 * edges) <= 0.51).all()
        assert (store.get("tiles", image_id)[tile] == edge_map(edges)).all()


def test_white_is_an_edge():
    assert edge_map(np.array([[0.0, 0.2, 1.0]], np.float32)).tolist() == [[[0] * 3, [51] * 3, [255] * 3]]


def test_networks_that_differ_in_their_seed_are_told_apart():
    class Trained:
        def __init__(self, seed, boundary="fg-bg"):
            self.meta = {"method": {"boundary": boundary, "refine": True}}
            self.attributes = {"seed": seed}

    assert captions([Trained(0), Trained(3), Trained(0, "all")]) == [
        "From foreground and background, seed 0",
        "From foreground and background, seed 3",
        "From all channels",
    ]


def test_the_report_shows_them(done):
    page = bytes(done["report"].array("html")).decode()
    assert page.count("From all channels</figcaption>") == 2
    assert "Edges that networks learned from" in page


def test_without_a_boundary_branch_there_is_nothing_to_show(tmp_path):
    stores = _run(tmp_path, {"factors": {"parts": ["plain", "PRN"]}})
    assert stores["boundary-pictures"].ids == []
    assert "figcaption" in bytes(stores["report"].array("html")).decode()


def test_a_network_without_the_branch_regresses_no_edges(done):
    from wss.methods import Bpg

    model = build_model(done["train-PRN"])
    with pytest.raises(UsageError, match="without a boundary branch"):
        Bpg(boundary="none").regressed_edges(model, torch.zeros(1, 7, 4, 4), 0, (4, 4))
