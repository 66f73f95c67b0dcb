"""Labelme's JSON, one file per image."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.datasets.finding import FileProblem
from wss.datasets.images import MAX_PIXELS
from wss.datasets.shapes import Area, Drawing, Patch, box_outline, ellipse_outline
from wss.datasets.strokes_io import FAR, label_of
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

MAX_BYTES = 64 * 2**20
"""Larger files are refused. Labelme files may contain the image itself."""

_LINES = ("line", "linestrip", "point", "points")
_AREAS = ("polygon", "rectangle", "circle")

IGNORED = "__ignore__"
"""Labelme's name for ignored pixels. They become 255, as in ``labelme2voc``."""


def read_labelme(path: Path, labels: Mapping[str, int], *, width: int = 3) -> Drawing:
    """Read one file: lines and points as strokes; ``polygon``, ``rectangle``, ``circle`` and ``mask`` as areas.

    A ``mask`` is a PNG inside the file, placed between two opposite corner pixels.

    Args:
        path: The JSON file.
        labels: Class index by name.
        width: Brush width of the strokes in pixels. The file does not contain it.

    Raises:
        DataError: Missing, damaged, larger than ``MAX_BYTES``, an unknown class, or a shape of another type.
    """
    content = _content(path)
    shape = (_side(path, content, "imageHeight"), _side(path, content, "imageWidth"))
    if shape[0] * shape[1] > MAX_PIXELS:
        raise _malformed(path, f"{shape[1]}x{shape[0]} pixels, more than the limit of {MAX_PIXELS}")
    labels = {IGNORED: UNLABELLED, **labels}
    strokes: list[Stroke] = []
    areas: list[Area | Patch] = []
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise _malformed(path, "no list of shapes")
    for number, item in enumerate(shapes, 1):
        if not isinstance(item, dict):
            raise _malformed(path, f"shape {number} is no object")
        label = label_of(path, f"shape {number}", str(item.get("label", "")), labels)
        kind = item.get("shape_type") or "polygon"
        points = _points(path, number, item.get("points"))
        if kind in ("point", "points"):
            strokes += [Stroke(label, point[None], width) for point in points]
        elif kind in _LINES:
            strokes.append(Stroke(label, points, width))
        elif kind == "rectangle" and len(points) == 2:
            areas.append(Area(label, (box_outline(points),)))
        elif kind == "circle" and len(points) == 2:
            radius = float(np.hypot(*(points[1] - points[0])))
            areas.append(Area(label, (ellipse_outline(points[0], (radius, radius)),)))
        elif kind == "mask" and len(points) == 2:
            areas.append(Patch(label, *_mask(path, number, item.get("mask"), points)))
        elif kind in _AREAS and len(points) > 2:
            areas.append(Area(label, (points,)))
        else:
            known = f"known are {', '.join((*_LINES, *_AREAS))} and mask"
            message = f"shape {number} is a {kind!r} of {len(points)} points; {known}"
            raise FileProblem("malformed-file", path, message, "draw it as one of these, or delete it")
    image = content.get("imagePath")
    return Drawing(shape, tuple(strokes), tuple(areas), image=image if isinstance(image, str) and image else None)


def format_labelme(image: str, shape: tuple[int, int], strokes: Sequence[Stroke], classes: Sequence[str]) -> str:
    """Format strokes as a file for Labelme and ``read_labelme``. Brush widths are lost.

    Args:
        image: File name of the image.
        shape: Height and width of the image.
        strokes: Strokes to write.
        classes: Class names by index.
    """
    shapes = [
        {
            "label": classes[stroke.label],
            "points": stroke.points.tolist(),
            "group_id": None,
            "shape_type": "linestrip" if len(stroke.points) > 1 else "point",
            "flags": {},
        }
        for stroke in strokes
    ]
    content: dict[str, Any] = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": shape[0],
        "imageWidth": shape[1],
    }
    return json.dumps(content, indent=1) + "\n"


def _mask(
    path: Path, number: int, encoded: Any, points: NDArray[np.float64]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Upper left pixel and pixels of a mask. Its two points are opposite corner pixels, which belong to the mask."""
    (x0, y0), (x1, y1) = np.rint(points).astype(np.int64)
    try:
        data = base64.b64decode(encoded, validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _malformed(path, f"shape {number}: a mask of {image.width}x{image.height} pixels")
            values = np.array(image)
    except FileProblem:
        raise
    except (TypeError, binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise _malformed(path, f"shape {number}: its mask is no PNG in base64") from None
    if values.ndim != 2 or values.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise _malformed(
            path,
            f"shape {number}: its mask has shape {values.shape}, its points from ({x0}, {y0}) to ({x1}, {y1}) need "
            f"{(int(y1 - y0) + 1, int(x1 - x0) + 1)}",
        )
    return (int(x0), int(y0)), values > 0


def _content(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _malformed(path, f"{size} bytes, more than the limit of {MAX_BYTES}")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FileProblem("unreadable-label", path, f"cannot be read ({error})", "copy or download it again") from None
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"not a JSON file ({str(error)[:80]})") from None
    if not isinstance(content, dict):
        raise _malformed(path, "not an object of Labelme")
    return content


def _side(path: Path, content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**15:
        raise _malformed(path, f"{name} is {str(value)[:20]}, expected the image's size in pixels")
    return value


def _points(path: Path, number: int, values: Any) -> Any:
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not (np.abs(points) < FAR).all():
        raise _malformed(path, f"shape {number}: expected points [[x, y], ...]")
    return points


def _malformed(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, "save it again in Labelme")
