"""The embedded sample data set, generated from random numbers; it needs no download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wss.datasets.scenes import CLASSES, draw_scene
from wss.datasets.source import Catalogue, Sample
from wss.errors import DataError, UsageError
from wss.scribbles import image_seed, simulate

VERSION = 1
"""Increased when the same arguments give other samples, so that results of older samples are not reused."""

PALETTE = np.array(
    [(60, 60, 60), (64, 132, 214), (58, 158, 72), (198, 108, 62), (142, 86, 196), (236, 76, 124), (245, 205, 66)],
    np.uint8,
)
"""RGB colour of each class."""


class SampleSource:
    """Generated small outdoor scenes with every kind of annotation; implements ``Source``.

    The classes are water, tree, house, car, person and ball. Sky, hills and ground are background. Objects occlude each
    other and cast shadows. Light, blur and noise vary, and colours overlap between classes. Each sample has a dense
    mask, simulated strokes, tags, and a box around the visible part of each object. A sample depends only on the seed
    and its id, so data sets with different numbers of images share the common ones.

    Args:
        seed: Another seed gives another data set of the same kind.
        train: Number of images in the split "train".
        val: Number of images in the split "val".
        height: Rows of each image, in pixels, at least 32.
        width: Columns of each image, in pixels, at least 32.

    Raises:
        UsageError: An image side below 32, or a negative number of images.
    """

    def __init__(self, seed: int = 0, train: int = 160, val: int = 60, height: int = 96, width: int = 128) -> None:
        if min(height, width) < 32:
            raise UsageError(f"expected sample images of at least 32x32 pixels, got height {height}, width {width}")
        if min(train, val) < 0:
            raise UsageError(f"expected numbers of sample images >= 0, got train {train}, val {val}")
        self._seed, self._height, self._width = seed, height, width
        splits = {
            "train": tuple(f"train-{index:04d}" for index in range(train)),
            "val": tuple(f"val-{index:04d}" for index in range(val)),
        }
        self.catalogue = Catalogue(kind="sample", classes=CLASSES, palette=PALETTE, splits=splits)
        self._known = frozenset(splits["train"] + splits["val"])

    def read(self, image_id: str) -> Sample:
        """Generate one sample, in a few milliseconds.

        Raises:
            DataError: The id is in neither split.
        """
        if image_id not in self._known:
            counts = ", ".join(f"{len(ids)} in {name}" for name, ids in self.catalogue.splits.items())
            raise DataError(f"the sample data set has no image {image_id!r}; its ids are like train-0000 ({counts})")
        seed = image_seed(self._seed, f"sample-{VERSION}/{image_id}")
        scene = draw_scene(np.random.default_rng(seed), self._height, self._width)
        return Sample(
            id=image_id,
            image=scene.image,
            mask=scene.mask,
            strokes=tuple(simulate(scene.mask, seed)),
            tags=tuple(np.unique(scene.mask).tolist()),
            boxes=scene.boxes,
        )

    def files(self, image_id: str) -> Sequence[Path]:
        """No files: the samples are generated."""
        return ()

    def fingerprint(self, cache: Path | None = None) -> str:
        """SHA-256 hex digest of the generator's version and arguments; with no files to hash, ``cache`` is not used."""
        counts = [len(self.catalogue.splits[split]) for split in ("train", "val")]
        return hashlib.sha256(f"{VERSION} {self._seed} {counts} {self._height} {self._width}".encode()).hexdigest()
