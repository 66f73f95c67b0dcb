"""Limits of what a client may send. ``/api/project`` tells them to the page."""

from __future__ import annotations

BODY_BYTES = 8 * 2**20
"""Longest body of a request."""
POINTS = 20_000
"""Most points of a stroke."""
OBJECTS = 5_000
"""Most objects on an image."""
CLASSES = 254
"""Most classes; 255 is the unlabelled code."""
NAME_LENGTH = 80
"""Longest name of a class."""
BRUSH = 500
"""Widest brush in pixels."""
STEPS = 200
"""Steps that undo goes back."""
REGION = 2048
"""Longest side of the part of a large image that is propagated at once."""
WHOLE = 4_000_000
"""Images with more pixels are propagated in parts."""


def as_json() -> dict[str, int]:
    """The limits that the page has to know."""
    return {
        "body_bytes": BODY_BYTES,
        "points": POINTS,
        "objects": OBJECTS,
        "classes": CLASSES,
        "name_length": NAME_LENGTH,
        "brush": BRUSH,
        "region": REGION,
        "whole_pixels": WHOLE,
    }
