"""PNG files in memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.errors import UsageError
from wss.viz.palette import check_labels, full_palette


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image losslessly.

    Args:
        image: uint8 (H, W, 3), RGB, or (H, W), grey.

    Raises:
        UsageError: The image has another dtype or shape.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise UsageError(f"expected an image as uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    return _bytes(Image.fromarray(image))


def indexed_png(labels: NDArray[Any], palette: NDArray[np.uint8]) -> bytes:
    """Encode labels as pixel values, with a palette for viewers.

    Args:
        labels: Integers (H, W), class indices and 255. ``numpy.array(Image.open(...))`` returns them unchanged.
        palette: uint8 (K, 3), RGB.

    Raises:
        DataError: A label that is neither a class nor 255.
        UsageError: ``labels`` is not an integer array (H, W), or ``palette`` is not a palette.
    """
    check_labels(labels, len(palette))
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(full_palette(palette).tobytes())
    return _bytes(picture)


def _bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
