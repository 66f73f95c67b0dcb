"""What stages refuse before any of a pipeline runs: splits, networks, weights and classes that cannot be."""

import numpy as np
import pytest
import torch

from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError
from wss.methods import METHODS
from wss.params import validate
from wss.stages import STAGES

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
        "wss.stages.train.make_optimiser",
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
        ({"name": "bpg", "boundary": "fg-bg"}, {"pce": 1.0, "boundary": 1.0}, 1, 0, "a class beside the background"),
        ({"name": "classifier"}, {"bce": 1.0}, 1, 0, "one class beside the background"),
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
