"""A small folder data set of three classes whose images all differ, and what the data check says about it."""

import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wss.datasets import open_source
from wss.datasets.check import check
from wss.yaml_text import parse

SHAPE = (40, 48)
CLASSES = ("background", "disc", "stripe")


def save(path, values):
    """Write an array as an image, in the folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def truth(seed, shape=SHAPE):
    """A mask with a disc and a stripe, whose places depend on the seed."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[int(rng.integers(1, 6)) :][:5] = 2
    cv2.circle(mask, (int(rng.integers(8, shape[1] - 8)), int(rng.integers(20, shape[0] - 8))), 7, 1, -1)
    return mask


def scribble(mask):
    """A thin line of each class, well inside it, 255 elsewhere."""
    lines = np.full(mask.shape, 255, np.uint8)
    for label in range(3):
        inside = cv2.erode(np.pad((mask == label).astype(np.uint8), 1)[1:-1, 1:-1], np.ones((3, 3), np.uint8))
        row = int(np.argmax(inside.sum(1)))
        lines[row, np.flatnonzero(inside[row])] = label
    return lines


def picture(seed, shape=SHAPE):
    """Colours that depend on the seed, uint8 (H, W, 3): blobs, the classes of ``truth``, and noise."""
    rng = np.random.default_rng(seed + 100)
    blobs = cv2.resize(rng.uniform(0, 150, (5, 6, 3)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    colours = np.array([[0, 0, 0], [90, 20, 20], [10, 20, 90]])[truth(seed, shape)]
    return (blobs + colours + rng.normal(0, 4, (*shape, 3))).clip(0, 255).astype(np.uint8)


def write_set(root, masks=True, scribbles=True, count=6):
    """Images i0, i1, ... with lists, of which the last two are val."""
    names = [f"i{number}" for number in range(count)]
    for number, name in enumerate(names):
        save(root / f"images/{name}.png", picture(number))
        if masks:
            save(root / f"masks/{name}.png", truth(number))
        if scribbles:
            save(root / f"scribbles/{name}.png", scribble(truth(number)))
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names[:-2]))
    (root / "val.txt").write_text("".join(f"{name}\n" for name in names[-2:]))
    return root


def repaint(folder, table):
    """Replace values of all label images of a folder; values that are not named stay."""
    for path in sorted(folder.iterdir()):
        values = np.arange(256, dtype=np.uint8)
        values[list(table)] = list(table.values())
        save(path, values[np.array(Image.open(path))])


def findings(root, kind="folder", **options):
    """Findings of the check by code."""
    return {finding.code: finding for finding in check(open_source(kind, root, **options))}


def declared(remedy, number=0):
    """The options that the number-th ``set ... below dataset in wss.yaml`` of a remedy names."""
    text = re.findall(r"set (\w+: (?:\{.*?\}|\[.*?\]))", remedy)[number]
    return parse(text)


def labels_of(root, what, kind="folder", **options):
    """Masks or scribbles by image id, as the data set reads them."""
    source = open_source(kind, Path(root), **options)
    ids = [i for split in source.catalogue.splits.values() for i in split]
    return {i: getattr(source.read(i), what) for i in ids}
