"""Heat maps over images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.viz.overlays import Picture, check_image


def heat_map(image: Picture, heat: NDArray[Any], *, alpha: float = 0.75) -> Picture:
    """Paint a map of values over a grey version of an image: transparent at 0, then blue, green, and red at 1.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: Floating point (H, W), in 0..1.
        alpha: Opacity for values of 1/2 or more. Smaller values are more transparent.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: ``image`` and ``heat`` differ in size or are of the wrong type, or values are not in 0..1.
    """
    check_image(image, heat)
    values = np.asarray(heat, np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise UsageError(f"expected values of a heat map in 0..1, got {values.min():g} to {values.max():g}")
    levels = np.rint(values * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB).astype(np.float32)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    opacity = (alpha * np.minimum(1, 2 * values))[..., None]
    return np.rint(grey + opacity * (colours - grey)).astype(np.uint8)
