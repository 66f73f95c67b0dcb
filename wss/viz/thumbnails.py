"""Pictures inside a page: bounded in size, encoded into the address itself."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Thumbnail:
    """A picture for an ``img`` element.

    Attributes:
        uri: A ``data:`` address.
        width: Of the encoded picture, in pixels.
        height: Of the encoded picture, in pixels.
    """

    uri: str
    width: int
    height: int


def thumbnail(image: NDArray[np.uint8], side: int = 320, quality: int = 85) -> Thumbnail:
    """Shrink a picture until neither side is longer than ``side`` and encode it as JPEG. Small ones keep their size.

    Args:
        image: uint8 (H, W, 3), RGB.
        side: Longest side in pixels.
        quality: JPEG quality, 1..95.
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image)
    if scale < 1:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Full colour resolution: halved, thin coloured lines would bleed into their surroundings.
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Thumbnail("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), *size)
