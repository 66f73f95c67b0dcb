"""What stages refuse before any of a pipeline runs: splits, networks, weights and classes that cannot be."""

import numpy as np
import pytest
import torch
from PIL import Image

from wss.datasets import open_source
from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError
from wss.methods import METHODS
from wss.params import validate
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import STAGES
from wss.stages.evaluate import _volume_scores, check_masks
from wss.stages.stage import Context

CATALOGUE = Catalogue(
    "folder",
    ("background", "tree", "house"),
    np.zeros((3, 3), np.uint8),
    {"train": ("a", "b"), "val": ("c",), "empty": ()},
)
OF_SPLITS = sorted(name for name, stage in STAGES.items() if "split" in stage.params.model_fields)
NEEDED = {
    "train": {"method": {"name": "pce"}, "phases": [{"epochs": 1, "terms": {"pce": 1.0}}]},
    "propagate": {"method": {"name": "random-walk"}},
    "prepare": {"fraction": 0.5},
    "features": {"network": {"name": "deeplab-v2", "backbone": "resnet18"}, "weights": __file__},
}


def _check(name, params, catalogue=CATALOGUE):
    stage = STAGES[name]
    stage.check(validate(stage.params, {**NEEDED.get(name, {}), **params}, name), catalogue)


def test_stages_with_a_split_are_known():
    assert {"train", "predict", "cam", "propagate", "walk", "label-quality", "superpixel-bound"} <= set(OF_SPLITS)
    assert {"similarity-walk", "retrieve", "prototypes", "prepare", "eigenspace"} <= set(OF_SPLITS)


@pytest.mark.parametrize("name", OF_SPLITS)
def test_a_split_that_is_not_there_is_refused(name):
    _check(name, {"split": "val"})
    with pytest.raises(UsageError, match="no split 'vall'; did you mean 'val'"):
        _check(name, {"split": "vall"})
    with pytest.raises(DataError, match="'empty' of the data set is empty"):
        _check(name, {"split": "empty"})


def test_a_missing_validation_split_is_no_error():
    _check("train", {"validation_split": "test"})


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.model_fields["name"].default)
def test_every_method_can_be_checked(method):
    name = method.model_fields["name"].default
    term = sorted(method.term_names)[0]
    state = torch.get_rng_state()
    _check("train", {"method": {"name": name}, "phases": [{"epochs": 1, "terms": {term: 1.0}}]})
    assert torch.equal(torch.get_rng_state(), state)


def test_a_large_network_is_checked_without_its_memory(monkeypatch):
    devices = []
    monkeypatch.setattr(
        "wss.stages.train.trained_groups",
        lambda model, phase: devices.extend(p.device.type for p in model.parameters()),
    )
    _check("train", {"network": {"name": "deeplab-v2", "backbone": "resnet101"}})
    assert set(devices) == {"meta"}


PCE = {"epochs": 1, "terms": {"pce": 1.0}}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"method": {"name": "rw-ss", "embed": "qkv", "alpha": 0.5}}, "alpha"),
        (
            {"method": {"name": "rw-ss", "stride": 12}, "network": {"name": "deeplab-v2", "backbone": "resnet18"}},
            "stride",
        ),
        ({"augment": {"sides": [[1, 3]]}}, "names class 3, but the classes are 0 to 2"),
        ({"phases": [PCE, {**PCE, "freeze": ["backbon"]}]}, "no parameter begins with 'backbon'"),
        ({"phases": [PCE, {**PCE, "freeze": [""]}]}, "leaves nothing to train"),
        ({"weights": "no/such/file.pth"}, "no such file"),
        ({"weights": "imagenet", "network": {"name": "segformer", "backbone": "mit_b0"}}, "no imagenet weights"),
    ],
    ids=["qkv", "stride", "sides", "freeze", "frozen", "file", "published"],
)
def test_training_that_cannot_begin_is_refused(params, message):
    with pytest.raises((UsageError, DataError), match=message):
        _check("train", params)


@pytest.mark.parametrize(
    ("method", "terms", "classes", "background", "message"),
    [
        ({"name": "bpg", "boundary": "fg-bg"}, {"pce": 1.0, "boundary": 1.0}, 3, None, "needs a background class"),
        ({"name": "bpg", "boundary": "fg-bg"}, {"pce": 1.0, "boundary": 1.0}, 1, 0, "a class besides the background"),
        ({"name": "classifier"}, {"bce": 1.0}, 1, 0, "one class besides the background"),
    ],
    ids=["no-background", "only-background", "classifier"],
)
def test_classes_that_a_method_needs_are_there(method, terms, classes, background, message):
    names = CATALOGUE.classes[:classes]
    catalogue = Catalogue("folder", names, CATALOGUE.palette[:classes], CATALOGUE.splits, background=background)
    params = {"method": method, "phases": [{"epochs": 1, "terms": terms}]}
    with pytest.raises(UsageError, match=message):
        _check("train", params, catalogue)
    _check("train", params)
    if method["name"] == "bpg":
        _check("train", {"method": {**method, "boundary": "none"}, "phases": [PCE]}, catalogue)


def test_class_names_are_different():
    with pytest.raises(DataError, match="two classes named 'tree'"):
        Catalogue("sample", ("tree", "house", "tree"), np.zeros((3, 3), np.uint8), {})


@pytest.fixture
def scans(tmp_path):
    """A folder of two scans of two slices each; ``patient001`` is the one whose second slice can be of another size."""

    def make(second):
        root = tmp_path / "scans"
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for patient in (0, 1):
            for number in (0, 1):
                name, shape = f"patient{patient:03}_frame01_slice_{number}", second if patient and number else (16, 16)
                Image.fromarray(np.full((*shape, 3), 40 * patient + number, np.uint8)).save(root / f"images/{name}.png")
                Image.fromarray(np.zeros(shape, np.uint8)).save(root / f"masks/{name}.png")
        (root / "classes.txt").write_text("background\nheart\n")
        (root / "val.txt").write_text("patient001_frame01_slice_0\npatient001_frame01_slice_1\n")
        return root

    return make


def _read(folder, root):
    pipeline = load_pipeline(shipped_pipelines()["pce"], {}, {"dataset": {"kind": "folder", "root": str(root)}})
    return run_pipeline(pipeline.up_to("samples"), Workspace(folder), Context())["samples"].store


def test_slices_of_two_sizes_end_the_samples_stage(scans, tmp_path):
    message = (
        r"slices of volume 'patient001_frame01' differ in size: 'patient001_frame01_slice_0' is 16x16, "
        r"'patient001_frame01_slice_1' is 18x16; bring them to one size"
    )
    with pytest.raises(DataError, match=message):
        _read(tmp_path / "w", scans((16, 18)))


def test_slices_of_one_size_are_read(scans, tmp_path):
    assert set(_read(tmp_path / "w", scans((16, 16))).meta["volumes"]) == {"patient000_frame01", "patient001_frame01"}


def test_images_without_masks_are_known_before_anything_runs(scans):
    root = scans((16, 16))
    (root / "masks/patient001_frame01_slice_1.png").unlink()
    catalogue = open_source("folder", root).catalogue
    assert catalogue.unmasked == {"patient001_frame01_slice_1"}
    with pytest.raises(
        DataError, match=r"1 of 2 images of split 'val' have no mask .*'patient001_frame01_slice_1' first"
    ):
        check_masks(catalogue, "val")
    check_masks(catalogue, "val", limit=1)
    check_masks(catalogue, "train")


class _Fake(dict):
    """A store of masks or labels by image id."""

    meta = {
        "volumes": {"scan": {"ids": ["a", "b"], "spacing_mm": None}},
        "classes": ["background", "heart"],
        "background": 0,
    }

    def get(self, name, image_id):
        return self[image_id]

    def shape(self, name, image_id):
        return self[image_id].shape


@pytest.mark.parametrize("width", [4, 5])
def test_volumes_of_older_stores_are_checked_before_they_are_scored(width):
    slices = _Fake(a=np.ones((4, 4), np.uint8), b=np.ones((4, width), np.uint8))
    if width == 4:
        assert _volume_scores(slices, slices, Context())["dice_per_class"] == {"heart": 1.0}
    else:
        with pytest.raises(DataError, match="'a' is 4x4, 'b' is 5x4"):
            _volume_scores(slices, slices, Context())
