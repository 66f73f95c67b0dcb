"""Data sets for tests of the readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wss.datasets.cards import colour_map

SHAPE = (6, 8)


def write_image(path: Path, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


def write_label(path: Path, labels: np.ndarray, *, indexed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if indexed:
        image.putpalette(colour_map(256).tobytes())
    image.save(path)


def labels(seed: int, classes: int, void: int | None = 255) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, classes, SHAPE).astype(np.uint8)
    if void is not None:
        values[0, 0] = void
    return values


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


# voc


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    for number, name in enumerate(("t1", "t2", "v1", "s1", "s2")):
        write_image(root / "JPEGImages" / f"{name}.jpg", number)
    for number, name in enumerate(("t1", "t2", "v1")):
        write_label(root / "SegmentationClass" / f"{name}.png", labels(number, 21), indexed=True)
    write_lines(root / "ImageSets/Segmentation/train.txt", ["t1", "t2"])
    write_lines(root / "ImageSets/Segmentation/val.txt", ["v1"])
    return root


# context


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2010"
    for number, name in enumerate(("t1", "t2", "v1", "x")):
        write_image(root / "JPEGImages" / f"{name}.jpg", number)
    write_lines(root / "ImageSets/Main/train.txt", ["t1", "t2", "unlabelled"])
    write_lines(root / "ImageSets/Main/val.txt", ["v1"])
    full = np.zeros(SHAPE, np.uint16)
    full[0, :4] = (2, 458, 398, 397)  # aeroplane, wood, a class that counts as background, table
    (root / "trainval").mkdir()
    savemat(root / "trainval/t1.mat", {"LabelMap": full})
    for name in ("t2", "v1"):
        write_label(root / "SegmentationClassContext" / f"{name}.png", np.array([[0, 1, 2, 59, 255]]).repeat(6, 0))
    return root


# folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "cells"
    for number in range(10):
        write_image(root / "images" / f"c{number}.png", number)
        write_label(root / "masks" / f"c{number}.png", labels(number, 3))
        write_label(root / "scribbles" / f"c{number}.png", labels(50 + number, 3))
    write_lines(root / "classes.txt", ["0 background", "1 cell", "2 wall"])
    return root
