"""Error maps: correct and wrong pixels of a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.viz.overlays import check_image

WRONG_COLOUR = (208, 58, 30)
VOID_COLOUR = (120, 160, 205)

_TO_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def error_map(image: NDArray[np.uint8], truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
    """Paint errors over a pale grey version of the image: correct pixels stay grey, wrong pixels are red, void pixels blue.

    Args:
        image: uint8 (H, W, 3), RGB.
        truth: Integers (H, W), class indices and 255 for void.
        prediction: Integers (H, W); 255 is wrong wherever the truth is a class.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: Sizes differ, or ``image`` is not uint8 (H, W, 3).
    """
    check_image(image, truth)
    if truth.shape != prediction.shape:
        raise UsageError(
            f"truth is {truth.shape}, prediction {prediction.shape}; both must have the same height and width"
        )
    grey = np.rint(255 - 0.5 * (255 - image @ _TO_GREY)).astype(np.uint8)
    painted = np.repeat(grey[..., None], 3, axis=2)
    for where, colour in ((truth != prediction, WRONG_COLOUR), (truth == UNLABELLED, VOID_COLOUR)):
        # A quarter of the image stays visible, so that the place of an error can be recognised.
        painted[where] = np.rint(0.25 * grey[where, None] + 0.75 * np.array(colour)).astype(np.uint8)
    return painted
