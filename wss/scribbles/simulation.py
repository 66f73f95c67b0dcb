"""Simulation of human-like scribbles from dense masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from wss.labels import UNLABELLED
from wss.scribbles.rasters import brush_width, check_raster, noticed, rasterise
from wss.scribbles.skeletons import skeleton_of
from wss.scribbles.strokes import Stroke

LARGE_REGION = 0.3
"""Regions above this fraction of the image may get a second stroke, above twice this fraction a third one."""


def simulate(
    mask: NDArray[np.uint8], seed: int, *, width: int | None = None, min_area: int | None = None
) -> list[Stroke]:
    """Draw human-like scribbles on the regions of a dense mask.

    Each connected region of a class gets one smooth stroke along its middle, away from its boundary, with small random
    deviations like those of a hand. Round regions get a hook around their centre, regions too small for a line get one point,
    and regions that fill much of the image get up to three strokes. No pixel of a stroke is outside its region or on void.
    Together, the strokes cover about 1 to 3 % of an image with a few objects, and more if there are many small regions.

    Args:
        mask: uint8 (H, W), class indices and 255 for void.
        seed: Seed of the random choices; ``image_seed`` gives one per image.
        width: Largest brush width in pixels. None: 1/125 of the image's shorter side. Thin regions get a thinner brush.
        min_area: Regions with fewer pixels are skipped, because annotators overlook them, except for the largest region of each
            class in the image. None: 1/1000 of the image.

    Returns:
        Strokes by ascending class, with integer coordinates. Empty if the whole mask is void.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W), or ``width`` is below 1.
    """
    check_raster(mask, "a dense mask")
    brush = brush_width(mask, width)
    rng = np.random.default_rng(seed)
    strokes = []
    for region in noticed(mask, min_area):
        rows, columns = region.window
        share = region.inside.sum() / mask.size
        wanted = 1 + sum(share > limit and rng.random() < 0.6 for limit in (LARGE_REGION, 2 * LARGE_REGION))
        inside = np.pad(region.inside, 1)
        free = inside
        for _ in range(wanted):
            stroke, free = _stroke(inside, free, region.label, brush, rng)
            shifted = stroke.points + (columns.start - 1, rows.start - 1)
            strokes.append(Stroke(region.label, shifted, stroke.width))
            if free.sum() < LARGE_REGION * mask.size / 2:
                break
    return strokes


def _stroke(
    inside: NDArray[np.bool_], free: NDArray[np.bool_], label: int, brush: int, rng: np.random.Generator
) -> tuple[Stroke, NDArray[np.bool_]]:
    """Draw one stroke in the free part of a region, and return it with the part that is still free afterwards.

    Args:
        inside: bool (H, W), the region, with a margin of one pixel outside it.
        free: bool (H, W), pixels of ``inside`` without a stroke nearby; not empty.
        label: The region's class.
        brush: Largest brush width in pixels.
        rng: Source of randomness.
    """
    depth = np.asarray(cv2.distanceTransform(free.view(np.uint8), cv2.DIST_L2, 5), np.float32)
    deepest = float(depth.max())
    path = _middle_line(depth, rng)
    if len(path) < 2 or _length(path) < 1.2 * deepest:
        path = _hook(depth, rng)
    path = _part(path, rng.uniform(0.65, 1.0), rng)

    tip = int(np.clip(deepest, 1, brush))
    # If the stroke comes near the region's boundary, smaller deviations are tried, and finally the middle line itself.
    for tremor in (1.0, 0.5, 0.2, 0.0):
        stroke = Stroke(label, _by_hand(path, depth, tremor, rng), tip)
        drawn = rasterise([stroke], (inside.shape[0], inside.shape[1])) != UNLABELLED
        clear = depth[drawn].min() > 0.12 * deepest if tremor > 0 else inside[drawn].all()
        if clear:
            break
    else:
        centre = np.array([np.unravel_index(int(depth.argmax()), depth.shape)[::-1]], np.float64)
        stroke = Stroke(label, centre, 1)
        drawn = rasterise([stroke], (inside.shape[0], inside.shape[1])) != UNLABELLED
    away = cv2.distanceTransform((~drawn).view(np.uint8), cv2.DIST_L2, 5) > 0.6 * deepest
    return stroke, free & away


def _middle_line(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """The longest line along the middle of the inner part of a region, float64 (N, 2), x and y."""
    deepest = float(depth.max())
    inner = depth >= min(deepest, max(2.0, rng.uniform(0.2, 0.45) * deepest))
    # Thinning a wide region on a coarser grid is faster and gives the same line without its finest bends.
    stride = max(1, int(deepest / 8))
    coarse = np.ascontiguousarray(inner[::stride, ::stride])
    if not coarse.any():
        coarse, stride = inner, 1
    _, ids, stats, _ = cv2.connectedComponentsWithStats(coarse.view(np.uint8), connectivity=8)
    main = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    skeleton = skeleton_of(ids == main)
    return skeleton.pixels[list(skeleton.branches[0]), ::-1].astype(np.float64) * stride


def _hook(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """A curved line around the deepest point of a region, inside the largest circle there, float64 (N, 2)."""
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    radius = 0.6 * (float(depth.max()) - 1)
    if radius < 1:
        return np.array([[x, y]], np.float64)
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(1.2, 4.5), 24)
    flat = rng.uniform(0.3, 1.0)
    tilt = rng.uniform(0, np.pi)
    along, across = radius * np.cos(angle), radius * flat * np.sin(angle)
    return np.stack(
        [x + along * np.cos(tilt) - across * np.sin(tilt), y + along * np.sin(tilt) + across * np.cos(tilt)], 1
    )


def _part(path: NDArray[np.float64], share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random part of a path, sampled about once per pixel of arc length."""
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    length = share * travelled[-1]
    start = rng.uniform(0, travelled[-1] - length)
    places = np.linspace(start, start + length, max(1, round(length)) + 1)
    return np.stack([np.interp(places, travelled, path[:, axis]) for axis in (0, 1)], 1)


def _by_hand(
    path: NDArray[np.float64], depth: NDArray[np.float32], tremor: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth a path and add random deviations within the region; ``tremor`` 0 gives the path itself, in whole pixels."""
    if tremor > 0 and len(path) > 2:
        columns, rows = np.rint(path).astype(np.intp).T
        room = depth[rows, columns]
        sweep = max(1.0, float(room.mean()))
        sway = gaussian_filter1d(rng.normal(size=path.shape), sweep, axis=0, mode="nearest")
        sway *= 0.25 * tremor * room[:, None] / max(float(sway.std()), 1e-9)
        path = gaussian_filter1d(path + sway, tremor * min(sweep, len(path) / 8), axis=0, mode="nearest")
    kept = np.unique(np.append(np.arange(0, len(path), 3), len(path) - 1))
    # Clipping to the margin of the window ensures that a stroke that leaves the window counts as leaving the region.
    rounded = np.clip(np.rint(path[kept]), 0, np.array(depth.shape[::-1]) - 1.0)
    moved = np.concatenate([[True], (np.diff(rounded, axis=0) != 0).any(1)])
    points: NDArray[np.float64] = rounded[moved]
    return points


def _length(path: NDArray[np.float64]) -> float:
    """Arc length of a polyline in pixels."""
    return float(np.hypot(*np.diff(path, axis=0).T).sum())
