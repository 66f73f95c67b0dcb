"""EXIF orientation: the rotation of a stored picture that makes it upright."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

_TAG = 0x0112
TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored upside down",
    5: "transposed",
    6: "turned by 90 degrees",
    7: "transposed the other way",
    8: "turned by 270 degrees",
}
"""By the value of the tag; 1 is upright."""


def orientation(file: Path) -> int:
    """The orientation of an image file, 1 to 8; 1 if it has none or cannot be opened."""
    try:
        with Image.open(file) as image:
            value = image.getexif().get(_TAG, 1)
    except Exception:  # reading the image will report the problem
        return 1
    return value if value in TURNS else 1


def sideways(value: int) -> bool:
    """True for orientations that swap height and width."""
    return value >= 5
