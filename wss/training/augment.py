"""Random augmentation of a training sample: one geometric transform for image and labels, then colours and blur."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.params import LATER, Params

Range = tuple[float, float]


class AugmentParams(Params):
    """Augmentation of training samples. By default, half of the samples are mirrored and nothing else changes."""

    crop: int | tuple[int, int] | None = 321
    """Height and width of the crop in pixels; one number for a square. None: no crop, each image keeps its own size."""
    resize: int | tuple[int, int] | None = None
    """Height and width to which every image is resized first, without keeping its aspect ratio; one number for a square. None:
    no resizing. With ``crop`` None, the result is the whole resized image."""
    whole: bool = Field(default=False, json_schema_extra=LATER)
    """Keep each image whole after ``resize`` and ``scale``; ``crop`` must be null. Images of several sizes are padded at the
    right and at the bottom to one common size: the largest height and the largest width, at the largest scale. The padding has
    the colour ``fill_rgb``, and no loss counts it."""
    scale: Range = (1.0, 1.0)
    """Smallest and largest scale factor of the image; the factor is drawn uniformly between them."""
    rotate_deg: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation about the image's centre, in degrees, in both directions."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of mirroring left and right."""
    sides: tuple[tuple[int, int], ...] = ()
    """Pairs of class indices that are swapped in mirrored images, for example left hand and right hand. Image tags are not
    swapped."""
    brightness: float = Field(default=0.0, ge=0, le=1)
    """Largest relative change of brightness: colours are multiplied by a factor in 1 - brightness .. 1 + brightness."""
    contrast: float = Field(default=0.0, ge=0, le=1)
    """Largest relative change of contrast: differences from the image's mean grey are multiplied by a factor in 1 - contrast ..
    1 + contrast."""
    saturation: float = Field(default=0.0, ge=0, le=1)
    """Largest relative change of saturation: differences of colours from their own grey are multiplied by a factor in
    1 - saturation .. 1 + saturation."""
    hue_deg: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation of the hue in degrees, in both directions. Grey values and brightness do not change."""
    blur: float = Field(default=0.0, ge=0, le=1)
    """Probability of Gaussian blur."""
    blur_sigma_px: Range = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the result."""
    fill_rgb: tuple[int, int, int] = (124, 116, 104)
    """Colour outside the image. The default is ImageNet's mean, which networks normalise to zero."""

    @field_validator("crop", "resize")
    @classmethod
    def _size_is_positive(cls, size: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        if size is not None and np.min(size) < 1:
            raise ValueError("crops and resized images must have at least one pixel")
        return size

    @field_validator("sides")
    @classmethod
    def _sides_are_pairs(cls, sides: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        classes = [label for pair in sides for label in pair]
        if len(set(classes)) < len(classes) or not all(0 <= label < UNLABELLED for label in classes):
            raise ValueError("expected pairs of class indices from 0 to 254, each class in at most one pair")
        return sides

    @field_validator("scale", "blur_sigma_px")
    @classmethod
    def _range_is_ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two positive numbers, the smaller one first")
        return value

    @field_validator("fill_rgb")
    @classmethod
    def _fill_is_a_colour(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(0 <= channel <= 255 for channel in value):
            raise ValueError("expected three numbers in 0..255")
        return value

    @model_validator(mode="after")
    def _whole_images_have_no_crop(self) -> AugmentParams:
        if self.whole and self.crop is not None:
            raise ValueError(
                f"whole images are not cropped, and crop is {self.crop}; set crop to null or whole to false"
            )
        return self


def common_size(sizes: Iterable[tuple[int, ...]], params: AugmentParams) -> tuple[int, int]:
    """Height and width into which every whole image fits at the largest scale.

    Args:
        sizes: Height and width of each image, at least one.
        params: Augmentations; ``resize`` and ``scale`` matter.
    """
    wanted = _both(params.resize)
    height, width = np.max([wanted] if wanted else list(sizes), axis=0).tolist()
    return _scaled((height, width), params.scale[1])


def augment(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[Any]],
    params: AugmentParams,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
    inside: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Draw one random augmentation of a training sample.

    Resizing, scale, flip, rotation and crop are one affine transform, the same for the image and all maps. If the scaled image
    is larger than the crop, the crop has a random place in the image; if it is smaller, the image has a random place in the
    crop. A whole image (``AugmentParams.whole``) is in the upper left corner of the result. The image is reduced by area
    averaging, and interpolated linearly otherwise.

    Label maps take the nearest pixel. Nearest-neighbour sampling alone would lose thin strokes and single points when the
    image shrinks or turns. So every labelled pixel is also transformed forward. If the nearest pixel is unlabelled but labelled
    pixels fall into a pixel of the result, the most frequent of their labels is taken (of equally frequent ones the highest, so
    that background yields). If a class still has no pixel because another class covers it, it gets the pixels that its own
    pixels fall on. So a scribble is lost only if it is outside the crop, and one-pixel strokes stay one pixel wide when the
    image shrinks. Bands of unlabelled pixels narrow by at most one pixel on each side.

    Args:
        image: uint8 (H,W,3), RGB.
        maps: Aligned maps (H,W) by name: uint8 label maps with 255 for unlabelled; int32 maps of ids; float32 maps.
        params: The augmentations.
        rng: Random generator. The number of draws is always the same, so that one option does not change the effect of others.
        size: For whole images, height and width of the result (``common_size``); None for the size of the scaled image.
        inside: uint8 (H,W), 0 where the image has no data; None if it has data everywhere.

    Returns:
        The image, uint8 (h,w,3); the maps (h,w); and ``valid``, bool (h,w). Outside the image and where it has no data, the image
        is ``fill_rgb``, label maps are 255, id maps -1, float maps 0, and ``valid`` is False: padding is not the same as
        unlabelled. Labels without data must already be 255 in the input.

    Raises:
        DataError: A map differs from the image in size, or has another dtype; or a whole image is larger than ``size``.

    OpenCV's own threads do not help at this size. Processes that load data call ``cv2.setNumThreads(0)`` once when they
    start, as the loader's workers do. This function does not change that global setting.
    """
    height, width = image.shape[:2]
    for name, values in maps.items():
        if values.shape != (height, width):
            raise DataError(f"map {name!r}: expected the image's size {(height, width)}, got {values.shape}")
    draws = rng.random(10)
    whole = _both(params.resize) or (height, width)
    scaled = _scaled(whole, _between(params.scale, draws[0]))
    angle = params.rotate_deg * (2 * draws[1] - 1)
    if params.whole:
        size, corner = size or scaled, [0, 0]
        if size[0] < scaled[0] or size[1] < scaled[1]:
            raise DataError(f"a whole image of {scaled} pixels does not fit into {size}")
    else:
        size = _both(params.crop) or whole
        corner = [_offset(scaled[axis] - size[axis], draws[2 + axis]) for axis in (0, 1)]
    flip = bool(draws[4] < params.flip)
    forward = _affine((height, width), scaled, angle, corner, flip)
    shrinks = scaled[0] < height or scaled[1] < width

    given = np.ones((height, width), np.uint8) if inside is None else inside
    valid = _warp(given, forward, size, cv2.INTER_NEAREST, 0).astype(bool)
    warped: dict[str, NDArray[Any]] = {}
    for name, values in maps.items():
        if values.dtype == np.uint8:
            labels = _warp(values, forward, size, cv2.INTER_NEAREST, UNLABELLED)
            if shrinks or angle:
                _carry_labels(values, labels, forward)
            warped[name] = _other_side(params.sides)[labels] if flip and params.sides else labels
        elif values.dtype == np.int32:
            # OpenCV cannot warp int32; nearest-neighbour copies of float32 keep the bits
            ids = _warp(values.view(np.float32), forward, size, cv2.INTER_NEAREST, 0.0).view(np.int32)
            warped[name] = np.where(valid, ids, np.int32(-1))
        elif values.dtype == np.float32:
            warped[name] = np.where(valid, _smooth_warp(values, forward, size, scaled, shrinks), np.float32(0))
        else:
            raise DataError(f"map {name!r}: expected uint8 labels, int32 ids or float32 values, got {values.dtype}")

    result: NDArray[np.uint8] = _smooth_warp(image, forward, size, scaled, shrinks)
    result = _jitter(result, valid, params, draws[5:9])
    if draws[9] < params.blur:
        sigma = _between(params.blur_sigma_px, draws[9] / params.blur)  # uniform in 0..1, given that it blurs
        result = np.asarray(cv2.GaussianBlur(result, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
    result[~valid] = params.fill_rgb
    return result, warped, valid


def _other_side(sides: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """Lookup table, uint8 (256,), from labels to labels in a mirrored image."""
    table = np.arange(256, dtype=np.uint8)
    for one, other in sides:
        table[[one, other]] = other, one
    return table


def _both(sides: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (sides, sides) if isinstance(sides, int) else sides


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _between(limits: Range, draw: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * draw


def _offset(room: int, draw: float) -> int:
    """An integer between 0 and ``room``, both included; ``room`` may be negative."""
    steps = min(int(draw * (abs(room) + 1)), abs(room))
    return steps if room >= 0 else -steps


def _affine(
    size: tuple[int, int], scaled: tuple[int, int], angle: float, corner: list[int], flip: bool
) -> NDArray[np.float64]:
    """Affine matrix (2,3) from pixels (x, y) of the source to pixels of the result. Pixel centres have integer coordinates."""
    height, width = scaled
    to_unit = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # scaling fixes the edges of the image, not pixel centres
    resize = np.diag([width / size[1] * (-1 if flip else 1), height / size[0], 1.0])
    if flip:
        resize[0, 2] = width
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    turn = np.array([[cos, sin, width / 2 - corner[1]], [-sin, cos, height / 2 - corner[0]], [0, 0, 1]])
    matrix: NDArray[np.float64] = np.linalg.inv(to_unit) @ turn @ centre @ resize @ to_unit
    return matrix[:2]


def _warp(
    values: NDArray[Any], forward: NDArray[np.float64], size: tuple[int, int], interpolation: int, fill: float
) -> NDArray[Any]:
    warped: NDArray[Any] = cv2.warpAffine(values, forward, size[::-1], flags=interpolation, borderValue=fill)
    return warped


def _smooth_warp(
    values: NDArray[Any],
    forward: NDArray[np.float64],
    size: tuple[int, int],
    scaled: tuple[int, int],
    shrinks: bool,
) -> NDArray[Any]:
    """Warp with area averaging if the image shrinks, then linear interpolation. Border values are repeated outside."""
    if shrinks:
        height, width = values.shape[:2]
        reduced = (min(scaled[0], height), min(scaled[1], width))
        sx, sy = reduced[1] / width, reduced[0] / height
        values = cv2.resize(values, reduced[::-1], interpolation=cv2.INTER_AREA)
        # reduced pixel u stands for source pixel (u + 0.5) / s - 0.5
        enlarge = np.array([[1 / sx, 0, 0.5 / sx - 0.5], [0, 1 / sy, 0.5 / sy - 0.5], [0, 0, 1]])
        forward = forward @ enlarge
    warped: NDArray[Any] = cv2.warpAffine(
        values, forward, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return warped


def _carry_labels(source: NDArray[np.uint8], target: NDArray[np.uint8], forward: NDArray[np.float64]) -> None:
    """Add the labels of ``source`` that nearest-neighbour sampling lost to ``target``, in place."""
    height, width = target.shape
    absent = np.bincount(source.ravel(), minlength=256).astype(bool) & (np.bincount(target.ravel(), minlength=256) == 0)
    # only pixels near unlabelled ones can fall on a pixel whose nearest pixel is unlabelled; others of a dense mask are skipped
    reach = math.ceil(math.sqrt(0.5) / np.linalg.norm(forward[:, :2], axis=0).min() + 0.5)
    labelled = source != UNLABELLED
    near = cv2.dilate((~labelled).view(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).view(bool)
    y, x = np.nonzero(labelled & (near | absent[source]))
    column = np.rint(forward[0, 0] * x + forward[0, 1] * y + forward[0, 2]).astype(np.int64)
    row = np.rint(forward[1, 0] * x + forward[1, 1] * y + forward[1, 2]).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell, label = (row * width + column)[inside], source[y, x][inside]
    flat = target.reshape(-1)
    lost = flat[cell] == UNLABELLED
    keys, votes = np.unique(cell[lost] * 256 + label[lost], return_counts=True)
    keys = keys[np.argsort(votes, kind="stable")]  # of several assignments to a pixel, the last one wins
    flat[keys // 256] = keys % 256
    for missing in np.flatnonzero(absent):
        if missing != UNLABELLED and not (flat == missing).any():
            flat[cell[label == missing]] = missing


def _jitter(
    image: NDArray[np.uint8], valid: NDArray[np.bool_], params: AugmentParams, draws: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue, in this order, by one affine transform of colours."""
    spread = np.array([params.brightness, params.contrast, params.saturation, params.hue_deg])
    if not spread.any():
        return image
    brightness, contrast, saturation = 1 + spread[:3] * (2 * draws[:3] - 1)
    hue = np.deg2rad(spread[3] * (2 * draws[3] - 1))
    luma = np.array([0.299, 0.587, 0.114])
    grey = np.tile(luma, (3, 1))
    # rotate in the plane of constant luma: up to scale, (R-Y, B-Y) are orthogonal axes of the colour circle of YIQ
    yiq = np.array([luma, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = np.array([[1, 0, 0], [0, np.cos(hue), -np.sin(hue)], [0, np.sin(hue), np.cos(hue)]])
    colours = np.linalg.inv(yiq) @ turn @ yiq @ (grey + saturation * (np.eye(3) - grey))
    mean = brightness * luma @ np.array(cv2.mean(image, valid.astype(np.uint8))[:3])
    matrix = np.column_stack([brightness * contrast * colours, np.full(3, (1 - contrast) * mean)])
    return np.asarray(cv2.transform(image, matrix), np.uint8)
