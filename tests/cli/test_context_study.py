"""PASCAL-Context from its files to the study's report, in miniature."""

import json

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from wss.datasets.cards import load_card
from wss.pipeline.workspace import Workspace
from wss.store import LABELS, SAMPLES, Store

CARD = load_card("context")
NAMES = ("sky", "dog", "wall", "aeroplane")
SIZE = (40, 48)


@pytest.fixture
def data(tmp_path):
    """Masks of 459 classes, scribbles as label images with VOC's classes first: where orders are mixed up, they disagree."""
    root = tmp_path / "VOC2010"
    scribbles = root / "scribble_annotation/pascal_context"
    for folder in (root / "JPEGImages", root / "trainval", scribbles, root / "ImageSets/Main"):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = [f"2008_{n:06d}" for n in range(6)]
    for n, image_id in enumerate(ids):
        names = NAMES[n % 2], NAMES[2 + n % 2], "background"
        region = np.zeros(SIZE, np.int64)
        region[:, 20:], region[28:] = 1, 2
        colours = np.array([[190, 60, 60], [60, 180, 60], [70, 70, 200]])[region]
        cv2.imwrite(
            str(root / "JPEGImages" / f"{image_id}.jpg"), (colours + rng.integers(0, 30, (*SIZE, 3))).astype(np.uint8)
        )
        of_459 = np.array([_of_459(name) for name in names], np.uint16)
        savemat(root / "trainval" / f"{image_id}.mat", {"LabelMap": of_459[region]})
        strokes = np.full(SIZE, 255, np.uint8)
        order = CARD.orders["voc-first"]
        strokes[4:20, 8], strokes[4:20, 34], strokes[34, 6:40] = (order.index(name) for name in names)
        cv2.imwrite(str(scribbles / f"{image_id}.png"), strokes)
    for split, part in (("train", ids[:4]), ("val", ids[4:])):
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{i}\n" for i in part))
    return root


def _of_459(name):
    """A number in the files of 459 classes; what is none of the 59 counts as background."""
    return 398 if name == "background" else CARD.facts["label_map"][CARD.classes.index(name)]


def _store(place, stage, schema):
    (path,) = (Workspace(place).root / "artifacts" / stage).glob("*.h5")
    return Store(path, schema)


@pytest.mark.parametrize("background", [True, False])
def test_scribbles_agree_with_masks_in_the_order_of_the_card(wss, data, tmp_path, background):
    options = ["-o", "order=voc-first", "-o", f"background={str(background).lower()}"]
    found = wss("init", "--kind", "context", "--root", data, *options, "-w", tmp_path / "w", "--json")
    assert found.code == 0, found.err
    assert found.json["classes"] == list(CARD.classes)[0 if background else 1 :]
    assert len(found.json["classes"]) == (60 if background else 59)
    assert wss("prepare", "-w", tmp_path / "w", "--quiet").code == 0
    samples, labels = _store(tmp_path / "w", "samples", SAMPLES), _store(tmp_path / "w", "prepare", LABELS)
    for image_id in samples.ids:
        mask, scribble = samples.get("mask", image_id), labels.get("labels", image_id)
        drawn = scribble != 255
        assert drawn.sum() == (66 if background else 32)
        assert (mask[drawn] == scribble[drawn]).all()


@pytest.mark.slow
def test_the_study_runs_with_the_preset_of_the_paper(wss, data, tmp_path):
    place = tmp_path / "w"
    assert wss("init", "--kind", "context", "--root", data, "-o", "order=voc-first", "-w", place).code == 0
    smaller = {
        "train*.weights": "null",
        "train*.network.backbone": "resnet18",
        "train*.batch_size": "2",
        "train*.phases.*.epochs": "1",
        "factors.bound": "[spcon]",
        "factors.training": "[pce, rawks, rawks-then-q, spcon]",
    }
    settings = [part for name, value in smaller.items() for part in ("--set", f"{name}={value}")]
    done = wss("run", "study-rawks", "--preset", "rawks-resnet101", "-w", place, *settings)
    assert done.code == 0, done.err
    assert json.loads((place / "metrics.json").read_text())["classes"] == list(CARD.classes)
    page = (place / "report.html").read_text()
    for text in ("rawks-then-q", "P of rawks, seed 0", "SPCON", "without 6 %", "Without prediction"):
        assert text in page
