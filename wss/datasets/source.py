"""What a data set is to the rest of wss: an ordered list of image ids, each readable on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.scribbles.strokes import Stroke

IGNORE_INDEX = 255
"""The label of a pixel that carries no class: unlabelled in scribbles, void in masks."""


@dataclass(frozen=True)
class Sample:
    """One image and whatever annotation its data set has for it.

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
    """Two slices of a volume that differ in size: the first, and the first that differs from it; None where all agree.

    Args:
        volume: The volume.
        sizes: Height and width by image id; slices that are not there are left out.
    """
    known = [i for i in volume.ids if i in sizes]
    return next(((known[0], i) for i in known if sizes[i] != sizes[known[0]]), None)


def uneven_message(name: str, pair: tuple[str, str], sizes: Mapping[str, tuple[int, ...]]) -> str:
    """The slices that ``uneven`` found, with their sizes, for people."""
    one, other = (f"{i!r} is {sizes[i][1]}x{sizes[i][0]}" for i in pair)
    return f"slices of volume {name!r} differ in size: {one}, {other}"


UNEVEN_REMEDY = (
    "bring them to one size, because a volume is scored as one grid; if they are no slices of one scan, take them out of the "
    "lists, or give kind folder the option volume_pattern that fits (null where there are no volumes)"
)
"""What to do about slices of different sizes."""


@dataclass(frozen=True)
class Catalogue:
    """What a data set declares before any image is read.

    Attributes:
        kind: The reader's name, as in ``wss init --kind``.
        classes: Class names by index, background included where the data set has one.
        palette: uint8 (K, 3), RGB colour per class.
        splits: Image ids by split name, in list order, for example ``{"train": (...), "val": (...)}``.
        volumes: Volumes by name; empty for plain photographs.
        background: Index of the background class, or None when every class is an object or stuff class.
        unmasked: Images that have no mask, as far as the list of files tells; others may lack one too.
        unscribbled: Images that have no scribbles, in the same sense.
        unboxed: Images that have no boxes, in the same sense.
        untagged: Images whose tags nobody wrote down, in the same sense; masks, boxes and scribbles may tell them.

    Raises:
        DataError: Two classes have the same name: scores are kept by name.
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
    """A data set on disk (or generated) that can be listed quickly and read image by image, from several processes."""

    catalogue: Catalogue

    def read(self, image_id: str) -> Sample:
        """Read one image with its annotations.

        Raises:
            DataError: A file is missing, unreadable or breaks a convention; the message names it and the remedy.
        """
        ...

    def files(self, image_id: str) -> Sequence[Path]:
        """The files that ``read`` opens for this image, existing or not; empty for generated data."""
        ...

    def fingerprint(self, cache: Path | None = None) -> str:
        """SHA-256 hex digest of everything that decides what ``read`` returns: equal fingerprints, equal samples.

        Args:
            cache: File in which content hashes of files may be kept from one call to the next; None keeps nothing.
        """
        ...
