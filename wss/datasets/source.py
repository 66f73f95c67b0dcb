"""The interface of data sets: an ordered list of image ids, each of which can be read independently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.scribbles.strokes import Stroke


@dataclass(frozen=True)
class Sample:
    """One image and the annotations that its data set has for it.

    Attributes:
        id: Unique within the data set; never a path outside its root.
        image: uint8 (H, W, 3), RGB, upright (EXIF orientation applied). Grey images are repeated over the channels.
        mask: Dense truth, uint8 (H, W), class indices and 255 for void, or None.
        strokes: Scribbles as polylines, or None when the data set has none or only rasters.
        scribble: Scribbles as a raster, uint8 (H, W), 255 = unlabelled, or None when the data set has strokes or none.
        tags: Classes present, sorted indices, or None when unknown.
        boxes: int32 (N, 5) rows ``class, x0, y0, x1, y1`` (inclusive pixels), or None when unknown.
        valid: bool (H, W), False where the image has no data; None where it has data everywhere. Masks and scribbles are 255
            there.
    """

    id: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
    strokes: tuple[Stroke, ...] | None = None
    scribble: NDArray[np.uint8] | None = None
    tags: tuple[int, ...] | None = None
    boxes: NDArray[np.int32] | None = None
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Volume:
    """Slices that belong to one three-dimensional scan, for Dice and Hausdorff distance per volume.

    Attributes:
        ids: Image ids in slice order.
        spacing_mm: Distance between slices, rows and columns in millimetres; None when unknown (distances in voxels).
    """

    ids: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None = None


def uneven(volume: Volume, sizes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Find two slices of a volume that differ in size: the first slice, and the first one that differs from it.

    Args:
        volume: The volume.
        sizes: Height and width by image id. Slices without an entry are skipped.

    Returns:
        Ids of the two slices, or None if all sizes are equal.
    """
    known = [i for i in volume.ids if i in sizes]
    return next(((known[0], i) for i in known if sizes[i] != sizes[known[0]]), None)


def uneven_message(name: str, pair: tuple[str, str], sizes: Mapping[str, tuple[int, ...]]) -> str:
    """Message about the slices found by ``uneven``, with their sizes."""
    one, other = (f"{i!r} is {sizes[i][1]}x{sizes[i][0]}" for i in pair)
    return f"slices of volume {name!r} differ in size: {one}, {other}"


UNEVEN_REMEDY = (
    "bring them to one size, because a volume is scored as one grid; if they are no slices of one scan, take them out of the "
    "lists, or give kind folder the option volume_pattern that fits (null where there are no volumes)"
)
"""Remedy for slices of different sizes."""


@dataclass(frozen=True)
class Catalogue:
    """Properties of a data set that are known before any image is read.

    Attributes:
        kind: The reader's name, as in ``wss init --kind``.
        classes: Class names by index, background included where the data set has one.
        palette: uint8 (K, 3), RGB colour per class.
        splits: Image ids by split name, in list order, for example ``{"train": (...), "val": (...)}``.
        volumes: Volumes by name; empty for plain photographs.
        background: Index of the background class, or None when every class is an object or stuff class.
        unmasked: Images without a mask according to the list of files. Other images may also lack one.
        unscribbled: Images without scribbles, in the same sense.
        unboxed: Images without boxes, in the same sense.
        untagged: Images without a tag annotation, in the same sense. Tags may still follow from masks, boxes or scribbles.

    Raises:
        DataError: Two classes have the same name. Scores are stored by name.
    """

    kind: str
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]
    splits: Mapping[str, tuple[str, ...]]
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    background: int | None = 0
    unmasked: frozenset[str] = frozenset()
    unscribbled: frozenset[str] = frozenset()
    unboxed: frozenset[str] = frozenset()
    untagged: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        twice = next((name for name in self.classes if self.classes.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"the data set has two classes named {twice!r}; give every class its own name")


class Source(Protocol):
    """A data set, on disk or generated. Listing is fast. Images are read one by one, also from several processes."""

    catalogue: Catalogue

    def read(self, image_id: str) -> Sample:
        """Read one image with its annotations.

        Raises:
            DataError: A file is missing, unreadable or breaks a convention. The message names the file and a remedy.
        """
        ...

    def files(self, image_id: str) -> Sequence[Path]:
        """The files that ``read`` opens for this image, existing or not; empty for generated data."""
        ...

    def fingerprint(self, cache: Path | None = None) -> str:
        """SHA-256 hex digest of everything that affects the result of ``read``. Equal fingerprints mean equal samples.

        Args:
            cache: File in which content hashes of files are stored between calls; None stores nothing.
        """
        ...
