"""Colours for classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED

VOID_COLOUR = (224, 224, 192)
"""Colour of these pixels, as in PASCAL VOC's masks."""

_GOLDEN_ANGLE = np.pi * (3 - 5**0.5)
_TONES = ((0.68, 0.17), (0.52, 0.15), (0.82, 0.12))  # lightness and chroma, used in turn


def distinct_palette(count: int, background: int | None = 0) -> NDArray[np.uint8]:
    """Colours for data sets without their own palette: hues at golden-angle distances, in three tones.

    Args:
        count: Number of classes, at most 255.
        background: The class that gets a neutral dark grey, or None.

    Returns:
        uint8 (count, 3), RGB, all different.

    Raises:
        UsageError: ``count`` is out of range.

    Source: Ottosson, A perceptual color space for image processing, 2020 (OKLab to linear sRGB).
    """
    if not 0 <= count <= UNLABELLED:
        raise UsageError(f"expected 0 to {UNLABELLED} classes, got {count}")
    index = np.arange(count)
    tone = np.array(_TONES)[index % len(_TONES)]
    hue = 0.5 + index * _GOLDEN_ANGLE
    colours = _from_oklab(tone[:, 0], tone[:, 1] * np.cos(hue), tone[:, 1] * np.sin(hue))
    if background is not None and background < count:
        colours[background] = (52, 56, 62)
    return colours


def _from_oklab(lightness: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.uint8]:
    lms = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(lms**3 @ to_rgb.T, 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: NDArray[np.uint8] = np.rint(255 * gamma).astype(np.uint8)
    return colours


def full_palette(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Palette of all 256 labels: the classes' colours, black for labels without a class, and the void colour at 255.

    Args:
        palette: uint8 (K, 3), RGB, K <= 255.

    Raises:
        UsageError: The palette is not uint8 (K, 3) with K <= 255.
    """
    palette = np.asarray(palette)
    if palette.dtype != np.uint8 or palette.ndim != 2 or palette.shape[1] != 3 or len(palette) > UNLABELLED:
        raise UsageError(f"expected a palette as uint8 (K, 3), K <= {UNLABELLED}, got {palette.dtype} {palette.shape}")
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[UNLABELLED] = VOID_COLOUR
    return table


def colourise(labels: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint every pixel with the colour of its class.

    Args:
        labels: Integers (H, W), class indices and 255.
        palette: uint8 (K, 3), RGB.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: A label that is neither a class nor 255.
        UsageError: ``labels`` is not an integer array (H, W), or ``palette`` is not a palette.
    """
    table = full_palette(palette)
    check_labels(labels, len(palette))
    painted: NDArray[np.uint8] = table[labels]
    return painted


def check_labels(labels: NDArray[Any], num_classes: int) -> None:
    """Check that ``labels`` is an integer array (H, W) of classes and 255.

    Raises:
        DataError: A label is neither a class nor 255.
        UsageError: ``labels`` is not an integer array (H, W).
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UsageError(f"expected labels as integers (H, W), got {labels.dtype} {labels.shape}")
    wrong = labels[(labels != UNLABELLED) & ((labels < 0) | (labels >= num_classes))]
    if wrong.size:
        raise DataError(
            f"label {wrong[0]} has no colour: expected 0..{num_classes - 1} or {UNLABELLED}; check the class list of the data set"
        )
