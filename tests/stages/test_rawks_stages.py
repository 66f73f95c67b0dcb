"""Labels of random walks and of superpixels, their quality, and the pictures, on a tiny data set."""

import numpy as np
import pytest
import torch

from wss.errors import UsageError
from wss.ops import hitting_probabilities
from wss.params import validate
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages import superpixel_bound
from wss.stages.stage import Context
from wss.stages.superpixel_bound import majority
from wss.stages.walk import HittingLabeller, WalkParams
from wss.stages.walk_pictures import boundary_map, weight_map

DATASET = {"kind": "sample", "options": {"train": 3, "val": 2, "height": 33, "width": 38}}
STAGES = """
title: rawks
stages:
  - stage: samples
  - {stage: prepare, inputs: {samples: samples}}
  - {stage: superpixels, inputs: {samples: samples}, params: {method: {name: felzenszwalb, min_size: 8}}}
  - id: train
    stage: train
    inputs: {samples: samples, labels: prepare}
    params:
      method: {name: METHOD}
      network: {name: unet}
      augment: {crop: 32}
      phases: [{epochs: 2, terms: {TERM: 1}, lr: 0.01}]
  - {stage: walk, inputs: {samples: samples, labels: prepare, model: train}}
  - {id: spopt, stage: superpixel-bound, inputs: {samples: samples, labels: prepare, superpixels: superpixels}}
  - id: spcon
    stage: superpixel-bound
    inputs: {samples: samples, labels: prepare, superpixels: superpixels}
    params: {rule: spcon}
  - {id: q-walk, stage: label-quality, inputs: {samples: samples, labels: walk}}
  - {id: q-spopt, stage: label-quality, inputs: {samples: samples, labels: spopt}}
  - {id: q-spcon, stage: label-quality, inputs: {samples: samples, labels: spcon}, params: {name: bound}}
  - {stage: walk-pictures, inputs: {samples: samples, labels: prepare, model: train}, params: {images: 1}}
"""
TRAINING_PICTURES = """
  - {id: pictures-train, stage: walk-pictures, inputs: {samples: samples, labels: prepare, model: train}, params: {split: train}}
  - {stage: predict, inputs: {samples: samples, model: train}}
  - {stage: evaluate, inputs: {samples: samples, predictions: predict}}
  - stage: report
    inputs:
      samples: samples
      labels: prepare
      models: [train]
      predictions: [predict]
      metrics: [evaluate]
      pictures: [walk-pictures, pictures-train]
"""


def _run(folder, method, term, stride=4):
    path = folder / "rawks.yaml"
    path.write_text(STAGES.replace("METHOD", method).replace("TERM", term))
    changes = {"train": {"method": {"stride": stride}}} if method == "rawks" else {}
    return run_pipeline(load_pipeline(path, changes, {"dataset": DATASET}), Workspace(folder / "w"), Context())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return {name: o.store for name, o in _run(tmp_path_factory.mktemp("rawks"), "rawks", "rawks").items()}


def test_walks_keep_scribbles_and_label_everything(done):
    for image_id in done["samples"].meta["splits"]["train"]:
        scribble, found = done["prepare"].get("labels", image_id), done["walk"].get("labels", image_id)
        certainty = done["walk"].get("certainty", image_id)
        given = scribble != 255
        assert (found[given] == scribble[given]).all()
        assert (certainty[given] == 255).all()
        assert set(np.unique(found)) == set(np.unique(scribble[given]))
        assert (certainty[~given] > 0).all()
    assert set(done["walk"].ids) == set(done["samples"].meta["splits"]["train"])


def test_at_stride_1_the_labels_are_those_of_the_walks(tmp_path):
    stores = {name: o.store for name, o in _run(tmp_path, "rawks", "rawks", stride=1).items()}
    image_id = stores["walk"].ids[0]
    scribble = stores["prepare"].get("labels", image_id)
    found = HittingLabeller(stores["train"], torch.device("cpu"))(stores["samples"].get("image", image_id), scribble)
    probs = hitting_probabilities(
        torch.from_numpy(found.boundary)[None], torch.from_numpy(np.array(scribble)).long()[None], 7
    )[0]
    assert (found.labels == probs.argmax(0).numpy()).all()
    entropy = -(probs * probs.clamp(min=1e-30).log()).sum(0).numpy()
    np.testing.assert_allclose(found.weights, np.exp(-entropy), atol=1e-5)


def test_walks_on_a_finer_grid_than_that_of_training(done):
    image_id = done["walk"].ids[0]
    image, scribble = (np.array(done[n].get(k, image_id)) for n, k in (("samples", "image"), ("prepare", "labels")))
    found = HittingLabeller(done["train"], torch.device("cpu"), stride=1)(image, scribble)
    assert found.boundary.shape == image.shape[:2]
    probs = hitting_probabilities(torch.from_numpy(found.boundary)[None], torch.from_numpy(scribble).long()[None], 7)
    assert (found.labels == probs[0].argmax(0).numpy()).all()
    with pytest.raises(UsageError, match="stride"):
        validate(WalkParams, {"stride": 0}, "walk")


def test_an_image_without_scribbles_stays_without(done):
    walker = HittingLabeller(done["train"], torch.device("cpu"))
    found = walker(np.zeros((9, 7, 3), np.uint8), np.full((9, 7), 255, np.uint8))
    assert (found.labels == 255).all()
    assert (found.weights == 0).all()


def test_bounds_are_majorities(done):
    image_id = done["spopt"].ids[0]
    segments = done["superpixels"].get("superpixels", image_id)
    mask, scribble = done["samples"].get("mask", image_id), done["prepare"].get("labels", image_id)
    for segment in np.unique(segments):
        inside = segments == segment
        best = np.bincount(mask[inside & (mask != 255)], minlength=7).argmax()
        assert set(np.unique(done["spopt"].get("labels", image_id)[inside])) == {best}
        drawn = scribble[inside & (scribble != 255)]
        expected = np.bincount(drawn, minlength=7).argmax() if drawn.size else best
        assert set(np.unique(done["spcon"].get("labels", image_id)[inside])) == {expected}
    assert majority(np.array([[0, 0, 1]]), np.array([[255, 255, 3]])).tolist() == [255, 3]


class _Images(dict):
    """A store of one kind of array by image id."""

    def __init__(self, arrays, meta=None):
        super().__init__(arrays)
        self.meta = meta or {}
        self.labels = {}

    def get(self, name, image_id):
        return self[image_id]

    def has(self, name, image_id):
        return image_id in self

    def append(self, image_id, arrays):
        self.labels[image_id] = arrays["labels"].tolist()


@pytest.mark.parametrize(("rule", "expected"), [("spopt", [[1, 1, 1, 2, 0]]), ("spcon", [[3, 3, 3, 2, 4]])])
def test_scribbles_that_contradict_masks_win_in_spcon_alone(rule, expected):
    """Three superpixels: the first with scribbles of two classes, neither that of the mask; one without; one with one."""
    inputs = {
        "samples": _Images({"a": np.array([[1, 1, 255, 2, 0]])}, {"splits": {"train": ["a"]}, "kind": "voc"}),
        "labels": _Images({"a": np.array([[3, 4, 3, 255, 4]], np.uint8)}),
        "superpixels": _Images({"a": np.array([[0, 0, 0, 1, 2]])}),
    }
    output = _Images({})
    superpixel_bound.run(superpixel_bound.SuperpixelBoundParams(rule=rule), inputs, output, Context())
    assert output.labels["a"] == expected


def test_quality_names_and_scores(done):
    records = {name: done[name].meta["record"] for name in ("q-walk", "q-spopt", "q-spcon")}
    assert [record["name"] for record in records.values()] == ["rawks", "SPOPT", "bound"]
    assert records["q-spopt"]["miou"] >= records["q-spcon"]["miou"]
    for record in records.values():
        assert 0 < record["miou"] <= 1
        assert record["coverage"] == 1
        assert record["num_images"] == 3
    agree = total = 0
    for image_id in done["walk"].ids:
        mask, found = done["samples"].get("mask", image_id), done["walk"].get("labels", image_id)
        agree, total = agree + ((mask == found) & (mask != 255)).sum(), total + (mask != 255).sum()
    counted = sum(done["q-walk"].get("counts", i).sum(0) for i in done["walk"].ids)
    assert counted.sum() == total
    assert np.trace(counted) == agree


def test_pictures_have_captions_and_colours(done):
    store = done["walk-pictures"]
    tiles = store.get("tiles", store.ids[0])
    assert tiles.shape == (3, 33, 38, 3)
    assert store.meta["captions"] == ["Boundaries", "Propagated labels", "Weights"]
    found = HittingLabeller(done["train"], torch.device("cpu"))(
        done["samples"].get("image", store.ids[0]), done["prepare"].get("labels", store.ids[0])
    )
    assert (tiles[0] == boundary_map(found)).all()
    assert boundary_map(found)[0, 0, 0] == round(255 * float(np.exp(-found.boundary[0, 0])))
    certain, painted = found.weights == 1, weight_map(found)
    assert (painted[certain][:, 0] > painted[certain][:, 2]).all()  # red


def test_other_networks_are_refused(tmp_path):
    with pytest.raises(UsageError, match="random walks need a network trained by rawks"):
        _run(tmp_path, "pce", "pce")


def test_the_report_shows_training_images_that_nobody_predicted(tmp_path):
    stages = STAGES.replace("METHOD", "rawks").replace("TERM", "rawks") + TRAINING_PICTURES
    path = tmp_path / "rawks.yaml"
    path.write_text(stages)
    found = run_pipeline(load_pipeline(path, {}, {"dataset": DATASET}), Workspace(tmp_path / "w"), Context())
    done = {name: outcome.store for name, outcome in found.items()}
    page = bytes(done["report"].array("html")).decode()
    assert set(done["pictures-train"].ids) == set(done["samples"].meta["splits"]["train"])
    shown = [image_id for image_id in done["samples"].ids if f"<code>{image_id}</code>" in page]
    assert [image_id.split("-")[0] for image_id in shown] == [
        "train",
        "train",
        "val",
        "val",
    ]  # as many as predicted ones
    assert page.count("Propagated labels</figcaption>") == 2 + 1
    assert "Without prediction" in page
