"""Small pictures for a page, embedded as ``data:`` addresses."""

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
        width: Width of the encoded picture in pixels.
        height: Height of the encoded picture in pixels.
    """

    uri: str
    width: int
    height: int


def thumbnail(image: NDArray[np.uint8], side: int = 320, quality: int = 85) -> Thumbnail:
    """Reduce a picture so that no side is longer than ``side``, and encode it as JPEG. Small pictures keep their size.

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
    # Full colour resolution, because with halved resolution the colours of thin lines would bleed.
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Thumbnail("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), *size)
