"""Weights of classes: from the labels, in the loss of every method that has one, and with the trained network."""

import numpy as np
import pytest
import torch

from tests.told import Told
from wss.datasets.source import Catalogue
from wss.errors import UsageError
from wss.methods import METHODS, Batch, CrossEntropyMethod, Dense, PartialCrossEntropy
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.params import canonical, validate
from wss.pipeline.changes import parse_overrides
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import STAGES
from wss.stages.stage import Context
from wss.training.class_weights import median_frequency_weights

DATASET = {"kind": "sample", "options": {"train": 3, "val": 2, "height": 32, "width": 32}}
WEIGHTED = [method for method in METHODS if issubclass(method, CrossEntropyMethod)]
NAMES = [method.model_fields["name"].default for method in WEIGHTED]


def _image(*counts):
    """Labels of an image with so many pixels of class 0, 1, ..., and 5 without label."""
    return np.concatenate(
        [np.full(count, k, np.uint8) for k, count in enumerate(counts)] + [np.full(5, 255, np.uint8)]
    )[None]


def test_weights_by_hand():
    images = [_image(6, 2, 0, 0), _image(8, 0, 2, 0)]
    # class 0: 14 of 18 labelled pixels; class 1: 2 of 8; class 2: 2 of 10; class 3: never
    expected = [0.25 / (14 / 18), 1.0, 0.25 / 0.2, 1.0]
    assert median_frequency_weights(images, 4) == pytest.approx(expected, rel=1e-5)


def test_weights_without_labels_and_of_equal_classes():
    assert median_frequency_weights([_image(0, 0)], 2) == (1.0, 1.0)
    assert median_frequency_weights([_image(4, 4, 4)], 3) == (1.0, 1.0, 1.0)
    assert median_frequency_weights([], 2) == (1.0, 1.0)


def test_every_method_with_cross_entropy_takes_them():
    assert set(NAMES) == {method.model_fields["name"].default for method in METHODS} - {"classifier"}


def _batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 32, 32), generator=generator)
    labels[:, :16] = 255
    rgb = torch.rand(2, 3, 32, 32, generator=generator) * 255
    maps = {
        "edges": torch.rand(2, 32, 32, generator=generator),
        "superpixels": torch.arange(1024).view(1, 32, 32) // 64,
    }
    maps["superpixels"] = maps["superpixels"].expand(2, -1, -1).contiguous()
    return Batch(rgb, labels, labels >= 0, maps, torch.ones(2, 3, dtype=torch.bool), 0)


TERMS = {"dense": "ce", "grabcut": "ce", "random-walk": "ce", "scribblesup": "ce", "sec": "seed", "spml": "classifier"}


@pytest.mark.parametrize("method", WEIGHTED, ids=NAMES)
def test_they_and_gamma_change_the_term(method):
    """A term with weights for class 1 alone is that of the same batch in which nothing else is labelled."""
    name = method.model_fields["name"].default
    term, batch = TERMS.get(name, "pce"), _batch()

    def value(labels, **settings):
        torch.manual_seed(0)
        made = method(**settings)
        model = made.build(NetworkSpec(name="unet"), 3).eval()
        with torch.no_grad():
            return float(
                made.losses(model, Batch(batch.rgb, labels, batch.valid, batch.maps, batch.tags, 0), {term})[term]
            )

    plain = value(batch.labels)
    only = torch.where(batch.labels == 1, 1, 255)
    assert value(batch.labels, class_weights=(0, 2, 0)) == pytest.approx(value(only), rel=1e-4)
    assert value(batch.labels, class_weights=(3, 3, 3)) == pytest.approx(plain, rel=1e-4)
    assert value(batch.labels, focal_gamma=2) < 0.9 * plain
    assert plain + 0.5 < value(batch.labels, dice=1) < plain + 1


def test_crf_rnn_weighs_its_crf_too():
    batch = _batch()
    method = next(m for m in METHODS if m.model_fields["name"].default == "crf-rnn")
    found = []
    for settings in ({}, {"class_weights": (0.0, 1.0, 0.0)}):
        torch.manual_seed(0)
        made = method(**settings)
        with torch.no_grad():
            found.append(float(made.losses(made.build(NetworkSpec(name="unet"), 3).eval(), batch, {"crf"})["crf"]))
    assert abs(found[0] - found[1]) > 1e-4


def _check(settings, classes=3):
    catalogue = Catalogue(
        "folder", tuple("abcdef"[:classes]), np.zeros((classes, 3), np.uint8), {"train": ("x",), "val": ("y",)}
    )
    stage = STAGES["train"]
    method = {"name": "pce", **settings}
    stage.check(
        validate(stage.params, {"method": method, "phases": [{"epochs": 1, "terms": {"pce": 1.0}}]}, "train"), catalogue
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": [1, 2]}, "class_weights has 2 numbers, but there are 3 classes"),
        (
            {"class_weights": [1, -2, 1]},
            r"class_weights: expected auto, null, or a list with a number of at least 0 for each class [^;]*\)$",
        ),
        ({"class_weights": [True, 2, 1]}, "expected auto, null, or a list"),
        ({"class_weights": [0, 0, 0]}, "all 0, which leaves nothing to learn"),
        ({"class_weights": "automatic"}, "class_weights: expected auto, null, or a list"),
        ({"focal_gamma": -1}, "focal_gamma"),
    ],
)
def test_what_cannot_be_is_refused_before_training(settings, message):
    with pytest.raises(UsageError, match=message):
        _check(settings)


@pytest.mark.parametrize("settings", [{"class_weights": "auto"}, {"class_weights": [1, 0, 2.5]}, {"focal_gamma": 2}])
def test_what_can_be_is_not(settings):
    _check(settings)


def test_bpg_checks_them_too():
    method = next(m for m in METHODS if m.model_fields["name"].default == "bpg")
    with pytest.raises(UsageError, match="class_weights has 2 numbers"):
        method(class_weights=(1, 1)).check({"pce"}, 3, 0)


def test_keys_of_stores_without_them_stay():
    assert canonical(PartialCrossEntropy()) == {"": "PartialCrossEntropy", "name": "pce"}
    assert canonical(PartialCrossEntropy(class_weights="auto"))["class_weights"] == "auto"


def test_auto_is_no_number_before_training_computes_it():
    batch = _batch()
    with pytest.raises(UsageError, match="stands for weights that training computes"):
        Dense(class_weights="auto").losses(Segmenter(NetworkSpec(name="unet"), 3), batch, {"ce"})


def test_training_computes_tells_and_records_them(tmp_path):
    settings = ["train.phases.*.steps=1", "train.batch_size=2"]

    def trained(*more):
        told = Told()
        pipeline = load_pipeline(shipped_pipelines()["pce"], parse_overrides([*settings, *more]), {"dataset": DATASET})
        return run_pipeline(pipeline.up_to("train"), Workspace(tmp_path), Context(progress=told)), told.lines

    plain, _ = trained()
    outcomes, lines = trained("train.method.class_weights=auto")
    store, labels = outcomes["train"].store, outcomes["prepare"].store
    classes = store.meta["classes"]
    ids = outcomes["samples"].store.meta["splits"]["train"]
    expected = median_frequency_weights([labels.get("labels", i) for i in ids], len(classes))
    assert store.meta["class_weights"] == dict(zip(classes, expected, strict=True))
    assert store.meta["method"]["class_weights"] == "auto"
    (line,) = [line for line in lines if line.startswith("class_weights auto: ")]
    assert f"{classes[0]} {expected[0]:.3g}" in line
    assert "class_weights" not in plain["train"].store.meta
    assert store.log["epochs"][-1]["loss"] != plain["train"].store.log["epochs"][-1]["loss"]
    given, _ = trained(f"train.method.class_weights={list(expected)}")
    assert given["train"].store.log["epochs"][-1]["loss"] == store.log["epochs"][-1]["loss"]
