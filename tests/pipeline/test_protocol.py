"""The protocol: what training will do, in the numbers of a paper, known before anything runs."""

import textwrap

import numpy as np
import pytest
from PIL import Image

from wss.pipeline.catalogues import catalogues
from wss.pipeline.changes import parse_overrides
from wss.pipeline.protocol import lines, protocols
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

SAMPLE = {"kind": "sample", "options": {"train": 10, "val": 3, "height": 32, "width": 32}}
PIPELINE = """
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
      - stage: train
        inputs: {samples: samples, labels: prepare}
        params:
          method: {name: pce}
          batch_size: 4
          augment: {crop: 16, flip: 0}
          phases: [{epochs: 3, terms: {pce: 1}}, {steps: 7, terms: {pce: 0.5}, lr: 0.25, schedule: constant}]
          seed: 5
      - stage: predict
        inputs: {samples: samples, model: train}
        params: {test_time: {scales: [0.5, 1], flip: true}}
"""


@pytest.fixture
def folder(tmp_path):
    """A folder data set: splits of 9 and 4 images."""
    root = tmp_path / "data"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    names = [f"{n:02}" for n in range(13)]
    for n, name in enumerate(names):
        Image.fromarray(np.full((20, 24, 3), n, np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(np.full((20, 24), n % 2, np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "classes.txt").write_text("background\nthing\n")
    (root / "train.txt").write_text("\n".join(names[:9]))
    (root / "val.txt").write_text("\n".join(names[9:]))
    return {"kind": "folder", "root": str(root)}


@pytest.fixture
def protocol(tmp_path):
    def protocol(text, dataset, *settings):
        (tmp_path / "mine.yaml").write_text(textwrap.dedent(text))
        pipeline = load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), {"dataset": dataset})
        return protocols(pipeline, catalogues(pipeline))

    return protocol


def test_training_has_the_numbers_of_a_paper(protocol, folder):
    train = protocol(PIPELINE, folder)["train"]
    assert set(train) == {
        *("split", "images", "steps", "batch_size", "crop", "resize", "scales", "augment", "network", "initialisation"),
        *("simulated", "amp", "average", "images_at_most"),
        *("method", "labels", "phases", "seed"),
    }
    assert (train["split"], train["images"], train["batch_size"], train["seed"]) == ("train", 9, 4, 5)
    assert (train["crop"], train["resize"], train["scales"], train["augment"]["flip"]) == (16, None, [1, 1], 0)
    assert (train["network"]["name"], train["method"]["name"], train["labels"]) == ("unet", "pce", "scribble")
    assert train["initialisation"] == "random"
    assert [phase["steps"] for phase in train["phases"]] == [2 * 3, 7]
    assert train["steps"] == 13
    first, second = train["phases"]
    assert (first["terms"], second["terms"]) == ({"pce": 1}, {"pce": 0.5})
    assert (first["lr"], first["schedule"], second["lr"], second["schedule"]) == (0.01, "poly", 0.25, "constant")


def test_stages_without_numbers_of_their_own_have_no_protocol(protocol, folder):
    found = protocol(PIPELINE + "      - {stage: evaluate, inputs: {samples: samples, predictions: predict}}\n", folder)
    assert list(found) == ["prepare", "train", "predict"]
    assert found["prepare"]["annotation"] == "scribble"
    predict = {"split": "val", "images": 4, "scales": [0.5, 1], "flip": True, "window": None, "overlap": 1 / 3}
    assert predict.items() <= found["predict"].items()


@pytest.mark.parametrize(
    ("settings", "images", "batch", "steps"),
    [
        ([], 9, 4, 6),
        (["train.batch_size=5"], 9, 5, 3),
        (["train.batch_size=9"], 9, 9, 3),
        (["train.batch_size=20"], 9, 20, 3),
        (["prepare.fraction=0.5"], 4, 4, 3),  # round(4.5) = 4, as `prepare` counts
        (["prepare.fraction=0.01"], 1, 4, 3),
        (["prepare.fraction=0.5", "train.method.name=densecrf"], 9, 4, 6),
        (["prepare.fraction=0.5", "train.split=val"], 4, 4, 3),  # the fraction is of the split `train`
        (["train.split=val"], 4, 4, 3),
        (["split=val"], 4, 4, 3),
        (["split=val", "prepare.fraction=0.5"], 2, 4, 3),
        (["train.phases.0.steps=11"], 9, 4, 11),
        (["train.split=none"], 0, 4, 0),
    ],
)
def test_images_and_steps(protocol, folder, settings, images, batch, steps):
    train = protocol(PIPELINE, folder, *settings)["train"]
    assert (train["images"], train["batch_size"], train["phases"][0]["steps"]) == (images, batch, steps)
    assert train["steps"] == steps + 7


def test_only_images_with_labels_count_and_drawn_ones_are_named(protocol, folder, tmp_path):
    scribbles = tmp_path / "data" / "scribbles"
    scribbles.mkdir()
    for n in (0, 1, 2, 11):
        Image.fromarray(np.full((20, 24), n % 2, np.uint8)).save(scribbles / f"{n:02}.png")

    def found(*settings):
        train = protocol(PIPELINE, folder, *settings)["train"]
        return train["images"], train["simulated"], train["phases"][0]["steps"]

    assert found() == (3, False, 3)
    assert found("train.method.name=densecrf") == (9, False, 6)  # which learns from unlabelled images too
    assert found("prepare.source=simulated") == (9, True, 6)
    assert found("prepare.annotation=mask") == (9, False, 6)
    (tmp_path / "data/masks/03.png").unlink()
    assert found("prepare.annotation=mask") == (8, False, 6)
    text = lines(protocol(PIPELINE, folder, "train.amp=true"))
    assert (
        "    labels scribble; 3 images of train, batch 4 (all 3 images), 10 steps, seed 5, autocast to bfloat16" in text
    )


@pytest.mark.parametrize(
    "settings", [[], ["train.batch_size=20"], ["prepare.fraction=0.4"], ["train.phases.0.steps=5"]]
)
def test_training_does_what_its_protocol_says(tmp_path, settings):
    (tmp_path / "mine.yaml").write_text(textwrap.dedent(PIPELINE))
    pipeline = load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), {"dataset": SAMPLE}).up_to("train")
    said = protocols(pipeline, catalogues(pipeline))["train"]
    done = run_pipeline(pipeline, Workspace(tmp_path), Context())["train"].store
    assert done.meta["num_images"] == said["images"]
    assert done.log["epochs"][-1]["step"] == said["steps"]


CHAIN = """
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
      - id: first
        stage: train
        inputs: {samples: samples, labels: prepare}
        params:
          method: {name: pce}
          network: {name: deeplab-v3plus, backbone: resnet18}
          weights: imagenet
          phases: [{epochs: 3, terms: {pce: 1}}]
      - id: walk
        stage: propagate
        inputs: {samples: samples, labels: prepare}
        params: {method: {name: random-walk}}
      - id: second
        stage: train
        inputs: {samples: samples, labels: walk, initial: first}
        params:
          method: {name: dense}
          network: {name: deeplab-v3plus, backbone: resnet18}
          phases: [{epochs: 3, terms: {ce: 1}}]
      - id: third
        stage: train
        inputs: {samples: samples, labels: walk, initial: second}
        params:
          method: {name: dense}
          network: {name: deeplab-v3plus, backbone: resnet18}
          fresh: [network.classifier]
          phases: [{epochs: 3, terms: {ce: 1}}]
      - id: fourth
        stage: train
        inputs: {samples: samples, labels: walk, initial: third}
        params:
          method: {name: dense}
          network: {name: deeplab-v3plus, backbone: resnet18}
          phases: [{epochs: 3, terms: {ce: 1}}]
"""


def test_networks_of_other_trainings_are_named_with_what_they_began_from(protocol, folder):
    found = protocol(CHAIN, folder)
    assert [found[name]["initialisation"] for name in ("first", "second", "third", "fourth")] == [
        "imagenet",
        "network of first (imagenet)",
        "network of second (imagenet), new network.classifier",
        "network of third (imagenet)",
    ]
    assert protocol(CHAIN.replace("weights: imagenet", "weights: null"), folder)["second"]["initialisation"] == (
        "network of first (random)"
    )
    assert (
        protocol(CHAIN, folder, "first.weights=other.pth")["second"]["initialisation"] == "network of first (other.pth)"
    )


def test_labels_are_those_of_the_annotation_that_they_are_made_from(protocol, folder):
    assert protocol(CHAIN, folder, "prepare.annotation=point")["third"]["labels"] == "point"
    fewer = protocol(CHAIN, folder, "prepare.fraction=0.5")
    assert [fewer[name]["images"] for name in ("first", "second", "third")] == [4, 4, 4]


def test_named_choices_come_with_their_numbers(protocol):
    pipeline = load_pipeline(
        find_pipeline("spml-scribble"), {"crf": {"preset": "vgg16", "bi_xy_std": 9}}, {"dataset": SAMPLE}
    )
    found = protocols(pipeline, catalogues(pipeline))
    assert found["crf"] == {
        "iterations": 10,
        "pos_weight": 2,
        "pos_xy_std": 2,
        "bi_weight": 4,
        "bi_xy_std": 9,
        "bi_rgb_std": 3,
    }
    assert found["similarity-walk"]["crf"] is None
    walk = {"similarity-walk": {"crf": {"preset": "resnet101"}}}
    pipeline = load_pipeline(find_pipeline("spml-scribble"), walk, {"dataset": SAMPLE})
    assert protocols(pipeline, catalogues(pipeline))["similarity-walk"]["crf"]["bi_xy_std"] == 67


# --- text ------------------------------------------------------------------------------------------------------------


def test_stages_of_the_same_protocol_share_a_block():
    found = {"a": {"x": 1.0}, "b": {"x": 2.0}, "c": {"x": 1}, "d": {"x": True}}
    assert lines(found) == ["a, c", "    x 1", "b", "    x 2", "d", "    x yes"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": 1.0, "b": 0.25, "c": 1e-4, "d": 10582, "e": 1 / 3}, "a 1, b 0.25, c 0.0001, d 10582, e 0.333333"),
        ({"a": True, "b": False, "c": None, "d": 0}, "a yes, b no, d 0"),
        ({"a": [0.5, 1.0], "b": [], "c": "word"}, "a [0.5, 1], b [], c word"),
        ({"losses": [{"name": "ncut", "sigma": 15.0}, {"name": "pce"}]}, "losses [ncut (sigma 15), pce]"),
        ({"method": {"name": "ucm", "segments": None, "t": 0.5}}, "method ucm (t 0.5)"),
        ({"segments": {"grid": 12, "scale": 1.0}}, "segments (grid 12, scale 1)"),
        ({"scales": [1.0], "window": None, "overlap": 0.5}, "scales [1]"),
        ({"scales": [1.0], "window": 65, "overlap": 0.5}, "scales [1], window 65, overlap 0.5"),
        ({"test_time": {"window": None, "overlap": 0.5, "flip": False}}, "test_time (flip no)"),
        ({"overlap": 0.5}, "overlap 0.5"),
    ],
)
def test_values_are_written_plainly(values, text):
    assert lines({"a": values}) == ["a", f"    {text}"]


def test_a_training_is_written_line_by_line(protocol, folder):
    found = protocol(CHAIN, folder, "second.batch_size=4", "second.augment={crop: 16, scale: [0.5, 2], blur: 0.5}")
    assert lines({"second": found["second"]}) == [
        "second",
        "    method dense",
        "    labels scribble drawn from masks; 9 images of train, batch 4, 6 steps, seed 0, bfloat16 where it is faster",
        "    network deeplab-v3plus resnet18, weights network of first (imagenet)",
        "    images crops of 16x16; scale 0.5 to 2, flip 0.5, blur 0.5, blur_sigma_px 0.1 to 2",
        "    phase 1: 6 steps, ce 1; optimiser sgd, lr 0.01, momentum 0.9, weight_decay 0.0005, head_multiplier 10, "
        "bias_multiplier 2, schedule poly, power 0.9, warmup_iters 0, batch_norm train",
    ]


@pytest.mark.parametrize(
    ("augment", "method", "says"),
    [
        ("{crop: [64, 96]}", "pce", "crops of 64x96"),
        ("{crop: null}", "pce", "whole if all have one size of at most 512, otherwise crops of 321x321"),
        ("{crop: null}", "classifier", "whole if all have one size of at most 512, otherwise resized to 321x321"),
        ("{crop: null, resize: 448}", "pce", "resized to 448x448, whole"),
        ("{crop: 321, resize: [448, 500]}", "pce", "resized to 448x500, crops of 321x321"),
        ("{crop: null, whole: true}", "pce", "whole, padded to one size"),
        ("{crop: null, whole: true, resize: 64}", "pce", "whole, resized to 64x64"),
    ],
)
def test_sizes_are_told_apart(protocol, folder, augment, method, says):
    term = {"pce": "pce", "classifier": "bce"}[method]
    text = PIPELINE.replace("{crop: 16, flip: 0}", augment).replace("name: pce", f"name: {method}")
    text = text.replace("{pce: 1}", f"{{{term}: 1}}").replace("{pce: 0.5}", f"{{{term}: 1}}")
    assert f"    images {says}; scale 1 to 1, flip 0.5" in lines({"train": protocol(text, folder)["train"]})


@pytest.mark.parametrize("name", ["study-losses", "spml-tag", "rw-ss", "study-rawks", "sec"])
def test_the_text_of_shipped_pipelines_holds_no_python(name):
    pipeline = load_pipeline(find_pipeline(name), everywhere={"dataset": SAMPLE})
    text = "\n".join(lines(protocols(pipeline, catalogues(pipeline))))
    for sign in ("None", "True", "False", "{", "'", ".0,", ".0\n", "unknown", "overlap"):
        assert sign not in text, sign
    if name == "study-losses":
        assert "crf-pce-unet-0, crf-ncut-unet-0, crf-densecrf-unet-0" in text
