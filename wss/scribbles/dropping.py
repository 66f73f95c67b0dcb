"""Missing scribbles: objects that the annotator overlooked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.rasters import check_raster, check_stroke, components, rasterise
from wss.scribbles.strokes import Stroke


@overload
def drop(
    scribbles: Sequence[Stroke],
    probability: float,
    seed: int,
    *,
    objects: NDArray[np.integer] | None = None,
) -> list[Stroke]: ...
@overload
def drop(
    scribbles: NDArray[np.uint8],
    probability: float,
    seed: int,
    *,
    objects: NDArray[np.integer] | None = None,
) -> NDArray[np.uint8]: ...
def drop(
    scribbles: Sequence[Stroke] | NDArray[np.uint8],
    probability: float,
    seed: int,
    *,
    objects: NDArray[np.integer] | None = None,
) -> list[Stroke] | NDArray[np.uint8]:
    """Remove all scribbles of each object with some probability.

    ``objects`` gives the object of each scribble; ``scribbled_objects`` computes it. Without it, each scribble is a separate
    object: a stroke, or in rasters a connected component of equal label. With the same seed, a larger probability removes at
    least the scribbles that a smaller probability removes.

    Args:
        scribbles: Strokes, or a raster scribble, uint8 (H, W) with 255 = unlabelled.
        probability: Probability that an object loses its scribbles, in [0, 1].
        seed: Seed of the random choice; ``image_seed`` gives one per image.
        objects: Integer object ids, one per stroke (N,); or (H, W), such as an instance mask, or ``connected_regions`` of a
            dense mask: a scribble belongs to the id under most of its pixels. Negative ids mean no object.

    Returns:
        The same kind as ``scribbles``: the remaining strokes, in order; or a new uint8 (H, W) with removed pixels set to 255.

    Raises:
        UsageError: ``probability`` is outside [0, 1], the scribbles are malformed, or ``objects`` has another size.

    Source:
        The scribble-drop data set of RW-SS (2021): "every object in images may drop (i.e. delete) all the scribble
        annotations with a defined possibility".
    """
    if not 0 <= probability <= 1:
        raise UsageError(f"expected a drop probability in [0, 1], got {probability}")
    per_stroke = objects is not None and not isinstance(scribbles, np.ndarray) and objects.shape == (len(scribbles),)
    if objects is not None and not ((per_stroke or objects.ndim == 2) and np.issubdtype(objects.dtype, np.integer)):
        raise UsageError(
            f"expected objects as integer ids (H, W), or one per stroke, got {objects.dtype} of shape {objects.shape}"
        )
    draws = _Draws(np.random.default_rng(seed), probability)

    if isinstance(scribbles, np.ndarray):
        check_raster(scribbles, "a raster scribble")
        if objects is not None and objects.shape != scribbles.shape:
            raise UsageError(f"expected objects of the scribble's shape {scribbles.shape}, got {objects.shape}")
        rest = scribbles.copy()
        for _, window, inside in components(scribbles):
            owner = None if objects is None else _most_common(objects[window][inside])
            if draws.lost(owner):
                rest[window][inside] = UNLABELLED
        return rest

    remaining = []
    for index, stroke in enumerate(scribbles):
        check_stroke(stroke, index)
        owner = None
        if objects is not None and per_stroke:
            owner = int(objects[index]) if objects[index] >= 0 else None
        elif objects is not None:
            height, width = objects.shape
            owner = _most_common(objects[rasterise([stroke], (height, width)) != UNLABELLED])
        if not draws.lost(owner):
            remaining.append(stroke)
    return remaining


class _Draws:
    """One random decision per object, also if the object has several scribbles."""

    def __init__(self, rng: np.random.Generator, probability: float) -> None:
        self._rng = rng
        self._probability = probability
        self._decisions: dict[int, bool] = {}

    def lost(self, owner: int | None) -> bool:
        decision = bool(self._rng.random() < self._probability)
        return decision if owner is None else self._decisions.setdefault(owner, decision)


def _most_common(ids: NDArray[np.integer]) -> int | None:
    """The most frequent id; of equally frequent ids, the smallest. None if there is no id or it is negative."""
    values, counts = np.unique(ids, return_counts=True)
    if len(values) == 0 or values[counts.argmax()] < 0:
        return None
    return int(values[counts.argmax()])
