"""Views (scaled and mirrored versions) of images for which features are stored, and training samples cut from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wss.labels import UNLABELLED
from wss.training.augment import AugmentParams, augment
from wss.training.batches import ReadSample, TrainingSet

LEVELS = ("level1", "level2", "level3", "level4")
"""Names of a backbone's four feature maps, from fine to coarse."""


class View(NamedTuple):
    """One scaled and possibly mirrored version of an image.

    Attributes:
        scale: Factor by which height and width are multiplied.
        mirrored: True if left and right are swapped.
    """

    scale: float
    mirrored: bool


def views_of(scales: Sequence[float], mirrored: bool) -> tuple[View, ...]:
    """All combinations of scales and mirroring. The first view has the first scale and is not mirrored."""
    return tuple(View(scale, flip) for scale in scales for flip in ((False, True) if mirrored else (False,)))


def seen(
    image: NDArray[np.uint8], maps: dict[str, NDArray[Any]], view: View, inside: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Transform an image and its maps to a view; see ``augment``."""
    params = AugmentParams(crop=None, whole=True, scale=(view.scale, view.scale), flip=float(view.mirrored))
    return augment(image, maps, params, np.random.default_rng(0), inside=inside)


def grids(size: tuple[int, int], views: Sequence[View], stride: int) -> list[tuple[int, int]]:
    """Height and width of the feature map of each view of an image, for one stride.

    Args:
        size: Height and width of the image.
        views: The views, in the order in which their features are stored.
        stride: Stride of the feature maps in pixels.
    """
    sides = [[max(1, round(side * view.scale)) for side in size] for view in views]
    return [(-(-height // stride), -(-width // stride)) for height, width in sides]


class ViewSet(TrainingSet):
    """Training samples with stored features. A sample is a crop of a random view, aligned with the grid of the coarsest features.

    The maps of a sample hold its labels, and its features, float16 (h,w,C), under the names in ``LEVELS``.

    Args:
        ids: Image ids.
        read: Reads an image with its maps.
        features: Returns the stored features of an image by name, (positions of all views, C).
        views: The views, in the order in which they are stored.
        strides: Strides of the stored features, by name.
        crop: Height and width of the samples in pixels, multiples of the largest stride.
        flip: Probability of a mirrored view.
        fill_rgb: Colour outside the image.
        seed: Seed of the choice of view and place, together with the draw.
        tags: See ``TrainingSet``.
        background: See ``TrainingSet``.
    """

    def __init__(
        self,
        ids: Sequence[str],
        read: ReadSample,
        features: Callable[[str], dict[str, NDArray[np.float16]]],
        views: Sequence[View],
        strides: dict[str, int],
        crop: tuple[int, int],
        flip: float,
        fill_rgb: tuple[int, int, int],
        seed: int,
        tags: dict[str, NDArray[np.bool_]] | None = None,
        background: int | None = None,
    ) -> None:
        super().__init__(ids, read, AugmentParams(crop=crop), seed, tags, background)
        self._features, self._views, self._strides = features, list(views), strides
        self._crop, self._flip, self._fill = crop, flip, fill_rgb

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        index, draw = item
        image_id = self.ids[index]
        rng = np.random.default_rng((self._seed, draw))
        image, maps = self._read(image_id)
        number = self._chosen(rng)
        size = image.shape[:2]
        image, maps, valid = seen(image, maps, self._views[number], maps.pop("valid", None))
        step = max(self._strides.values())
        corner = [_start(side, crop, step, rng) for side, crop in zip(image.shape[:2], self._crop, strict=True)]
        area = tuple(slice(start, start + crop) for start, crop in zip(corner, self._crop, strict=True))
        image[~valid] = self._fill
        sample: dict[str, Any] = {
            "rgb": _padded(image[area], self._crop, self._fill),
            "valid": _padded(valid[area], self._crop, False),
            "maps": {name: _padded(values[area], self._crop, _nothing(values)) for name, values in maps.items()},
        }
        stored = self._features(image_id)
        for name, stride in self._strides.items():
            shapes = grids((size[0], size[1]), self._views, stride)
            first = sum(height * width for height, width in shapes[:number])
            height, width = shapes[number]
            grid = stored[name][first : first + height * width].reshape(height, width, -1)
            cells = tuple(slice(part.start // stride, part.stop // stride) for part in area)
            sample["maps"][name] = _padded(grid[cells], (self._crop[0] // stride, self._crop[1] // stride), 0)
        return sample if self._tags is None else {**sample, "tags": self._tags[image_id]}

    def _chosen(self, rng: np.random.Generator) -> int:
        """Index of a random view."""
        mirrored = bool(rng.random() < self._flip)
        fitting = [number for number, view in enumerate(self._views) if view.mirrored == mirrored]
        fitting = fitting or list(range(len(self._views)))
        return fitting[int(rng.integers(len(fitting)))]


def stored_maps(maps: Mapping[str, Tensor]) -> list[Tensor | None] | None:
    """The feature maps of a batch, float32 (B,C,h,w), in the form of ``given_features``; None if the batch has no features."""
    if not any(name in maps for name in LEVELS):
        return None
    return [maps[name].permute(0, 3, 1, 2).float() if name in maps else None for name in LEVELS]


def _start(side: int, crop: int, step: int, rng: np.random.Generator) -> int:
    """A random multiple of ``step`` at which a crop starts. Every pixel is in at least one possible crop."""
    last = max(0, -(-(side - crop) // step))
    return int(rng.integers(last + 1)) * step


def _padded(values: NDArray[Any], size: tuple[int, int], fill: Any) -> NDArray[Any]:
    """Put values (h,w,...) into the upper left corner of an array of ``size`` that is filled with ``fill``."""
    if values.shape[:2] == size:
        return np.ascontiguousarray(values)
    padded = np.empty((*size, *values.shape[2:]), values.dtype)
    padded[...] = fill
    padded[: values.shape[0], : values.shape[1]] = values
    return padded


def _nothing(values: NDArray[Any]) -> int:
    """Value of a map outside the image, by its dtype; see ``augment``."""
    return {"uint8": UNLABELLED, "int32": -1}.get(values.dtype.name, 0)
