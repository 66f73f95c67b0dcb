"""Encoding of images in stores: grey images as one channel, encoded images as the bytes of a JPEG or PNG file."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.errors import StoreError

CODED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""First bytes of image files that may be stored unchanged."""
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def from_grey(values: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Image (H,W,3) whose channels all have these values, read-only."""
    height, width = shape[:2]
    image: NDArray[np.uint8] = np.asarray(cv2.cvtColor(values.reshape(height, width), cv2.COLOR_GRAY2RGB))
    image.flags.writeable = False
    return image


def decode_picture(data: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG file, 1-dimensional bytes, as RGB (H,W,3), read-only. Orientations of EXIF are ignored.

    Raises:
        StoreError: The bytes are not an image of this shape.
    """
    image = _decoded(data)
    if image is None or image.shape != tuple(shape):
        raise StoreError(f"an encoded image cannot be decoded as {'x'.join(map(str, shape))}")
    image.flags.writeable = False
    return image


def picture_file(image: NDArray[np.uint8], original: bytes | None = None) -> bytes:
    """Bytes of an image file that ``decode_picture`` decodes to exactly this image.

    Args:
        image: uint8 (H,W,3), RGB.
        original: Bytes of the file from which the image was read. They are used unchanged if the file is a JPEG or PNG that
            decodes to exactly these pixels: not rotated, scaled, stretched or with other bands.

    Returns:
        ``original``, or a PNG file.
    """
    if original is not None and original.startswith(CODED):
        decoded = _decoded(np.frombuffer(original, np.uint8))
        if decoded is not None and decoded.shape == image.shape and bool((decoded == image).all()):
            return original
    grey = bool((image == image[..., :1]).all())
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., 0]) if grey else image).save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    try:
        image = cv2.imdecode(data, _FLAGS)
    except cv2.error:
        return None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
