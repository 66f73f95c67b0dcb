"""Pictures of the random walk of an RW-SS network, and how stable its representations are, on a tiny data set."""

import numpy as np
import pytest
import torch

from wss.checkpoints import build_model
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context
from wss.viz import heat_map

DATASET = {"kind": "sample", "options": {"train": 2, "val": 2, "height": 37, "width": 42}}
STAGES = """
title: eigenspace
stages:
  - stage: samples
  - {stage: prepare, inputs: {samples: samples}}
  - id: train
    stage: train
    inputs: {samples: samples, labels: prepare}
    params:
      method: {name: rw-ss, walk: WALK}
      network: {name: unet}
      augment: {crop: 32}
      phases: [{epochs: 1, terms: {pce: 1}, lr: 0.01}]
  - {stage: eigenspace, inputs: {samples: samples, model: train}, params: {eigenvectors: 2}}
  - {id: before, stage: eigenspace, inputs: {samples: samples, model: train}, params: {name: before self-supervision}}
  - {stage: predict, inputs: {samples: samples, model: train}}
  - {stage: evaluate, inputs: {samples: samples, predictions: predict}}
  - stage: report
    inputs: {samples: samples, models: [train], predictions: [predict], metrics: [evaluate], pictures: [eigenspace, before]}
"""


def _run(folder, walk):
    path = folder / "e.yaml"
    path.write_text(STAGES.replace("WALK", walk))
    return run_pipeline(load_pipeline(path, {}, {"dataset": DATASET}), Workspace(folder / "w"), Context())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return {name: o.store for name, o in _run(tmp_path_factory.mktemp("e"), "true").items()}


def test_there_is_a_tile_of_the_images_size_for_each_caption(done):
    store = done["eigenspace"]
    assert store.ids == done["samples"].meta["splits"]["val"]
    assert store.meta["captions"][:4] == ["Before the walk", "After it", "Eigenvector 2", "Eigenvector 3"]
    assert store.meta["captions"][4:] == [
        f"A {transform} changes {what}"
        for transform in ("flip", "translation")
        for what in ("features before the walk", "features after it", "transition matrix")
    ]
    for image_id in store.ids:
        tiles = store.get("tiles", image_id)
        assert tiles.shape == (10, 37, 42, 3)
        assert all(len(np.unique(tile)) > 3 for tile in tiles)
        assert (tiles[2, :8, :8] == tiles[2, 0, 0]).all()  # one cell of the walk


def test_variations_are_shares_and_those_of_the_images(done):
    store = done["eigenspace"]
    table, _ = store.meta["tables"]
    assert [row[0] for row in table["rows"]] == ["flip", "translation"]
    assert len(table["columns"]) == 4
    numbers = np.mean([store.get("numbers", i) for i in store.ids], axis=0)
    np.testing.assert_allclose(numbers[:6], np.ravel([row[1:] for row in table["rows"]]), rtol=1e-6)
    assert (numbers[:6] > 0).all()
    assert (numbers[:6] < 1).all()


def test_changes_are_shown_where_they_are(done):
    store = done["eigenspace"]
    network = build_model(done["train"]).eval()
    for image_id in store.ids:
        image = np.array(done["samples"].get("image", image_id))
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            walk, other, lower = (
                network.walk(network.features(pixels), True) for pixels in (rgb, rgb.flip(3), rgb[:, :, 8:])
            )
        height, width = walk.before.shape[2:]
        mine, mirrored, cut = (w.log_transition[0].exp().numpy() for w in (walk, other, lower))
        mine, mirrored = mine.reshape(height, width, height, width), mirrored.reshape(height, width, height, width)
        flipped = [
            [
                np.abs(mine[y, x] - mirrored[y, width - 1 - x, :, ::-1]).sum() / (mine[y, x].sum() + 1)
                for x in range(width)
            ]
            for y in range(height)
        ]
        kept = mine[1:, :, 1:] / mine[1:, :, 1:].sum((2, 3), keepdims=True)
        shifted = np.zeros((height, width))
        shifted[1:] = np.abs(kept - cut.reshape(kept.shape)).sum((2, 3)) / 2
        for changes, tile in ((np.array(flipped), 6), (shifted, 9)):
            shares = (changes / np.percentile(changes, 99)).clip(0, 1).astype(np.float32)
            expected = heat_map(image, np.kron(shares, np.ones((8, 8), np.float32))[:37, :42])
            assert np.abs(store.get("tiles", image_id)[tile].astype(int) - expected).max() <= 8  # one step of colour
            assert np.abs(store.get("tiles", image_id)[tile].astype(int) - expected).mean() < 0.5


def test_tables_of_several_networks_have_names(done):
    titles = [table["title"] for table in done["before"].meta["tables"]]
    assert titles == [
        "What a transform changes (before self-supervision)",
        "Where features walk (before self-supervision)",
    ]
    page = done["report"].array("html").tobytes().decode()
    assert all(title in page for title in titles)
    assert done["before"].meta["tables"][0]["rows"] == done["eigenspace"].meta["tables"][0]["rows"]


def test_steps_are_those_of_the_transition_matrix(done):
    store = done["eigenspace"]
    _, table = store.meta["tables"]
    ((_, *steps),) = table["rows"]
    assert len(table["columns"]) == 5
    model = build_model(done["train"]).eval()
    with torch.inference_mode():
        stays = []
        for image_id in store.ids:
            rgb = torch.from_numpy(np.array(done["samples"].get("image", image_id))).permute(2, 0, 1)[None].float()
            transition = model.walk(model.features(rgb), transition=True).log_transition.exp()[0]
            stays.append(transition.diagonal().mean().item())
    assert steps[0] == pytest.approx(np.mean(stays), rel=1e-5)
    assert 0 < steps[1] <= 1
    assert f"alpha is {model.random_walk.alpha.item():.3g}" in table["text"]


def test_the_report_shows_table_and_pictures(done):
    page = done["report"].array("html").tobytes().decode()
    table, _ = done["eigenspace"].meta["tables"]
    assert "What a transform changes" in page
    assert "Where features walk" in page
    assert page.count('<h2 id="table-1">') == 1
    assert f"{100 * table['rows'][0][1]:.1f}" in page
    assert "Eigenvector 3" in page


def test_a_network_without_a_walk_has_no_pictures_and_the_pipeline_goes_on(tmp_path):
    outcomes = _run(tmp_path, "false")
    assert "train `rw-ss`" in outcomes["eigenspace"].store.meta["left_out"]
    page = (tmp_path / "w/report.html").read_text()
    assert (
        "<strong>before self-supervision</strong> is left out: the stage eigenspace needs a network with a random walk"
        in page
    )
