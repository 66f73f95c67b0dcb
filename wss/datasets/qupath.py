"""Annotations that QuPath exports as GeoJSON, one file per image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.shapes import Area, Drawing
from wss.datasets.strokes_io import FAR, label_of
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

MAX_BYTES = 2**30
"""Larger files are refused."""

_MARGIN = 0.05
"""Allowed distance of objects beyond the image, as a fraction of its sides. By default, QuPath clips objects."""

IGNORED = "Ignore*"
"""QuPath's class for ignored pixels. They become 255."""


class QuPathDrawing(NamedTuple):
    """The drawing, and the number of objects without a class. The pixels of these objects are void."""

    drawing: Drawing
    unclassified: int


def read_qupath(path: Path, labels: Mapping[str, int], shape: tuple[int, int], *, width: int = 3) -> QuPathDrawing:
    """Read one file: polygons (also with holes) as areas, lines and points as strokes.

    Smaller areas are drawn over larger ones, as in QuPath's hierarchy. Coordinates are pixels of the full image; 0 is the outer
    edge of the first pixel. Areas without a class are void, because an object of unknown class is there. Lines and points without
    a class are skipped.

    Args:
        path: The GeoJSON file: a feature, a list of features, or a collection.
        labels: Class index by name. The name is in ``properties.classification``.
        shape: Height and width of the image. The file does not contain them.
        width: Brush width of the strokes in pixels. The file does not contain it.

    Raises:
        DataError: Missing, damaged, no GeoJSON, an unknown class, or an object that lies outside of the image.
    """
    labels = {IGNORED: UNLABELLED, **labels}
    strokes: list[Stroke] = []
    areas: list[Area] = []
    unclassified = 0
    planes: set[tuple[int, int]] = set()
    for number, feature in enumerate(_features(path), 1):
        planes.add(_plane(feature.get("geometry")))
        if len(planes) > 1:
            message = f"objects lie on several planes of the image, (z, t) = {', '.join(map(str, sorted(planes)))}"
            raise _malformed(path, message, "export the objects of one plane, that of the image")
        name = _class_of(path, number, feature)
        unclassified += name is None
        label = UNLABELLED if name is None else label_of(path, f"object {number}", name, labels)
        for kind, coordinates in _simple(path, number, feature.get("geometry")):
            if kind == "Polygon":
                rings = tuple(_points(path, number, ring, shape) for ring in _list(path, number, coordinates))
                areas.append(Area(label, rings, edged=True))
            elif name is not None:
                points = [coordinates] if kind == "Point" else coordinates
                strokes.append(Stroke(label, _points(path, number, points, shape) - 0.5, width))
    areas.sort(key=lambda area: -area.size)
    return QuPathDrawing(Drawing(shape, tuple(strokes), tuple(areas)), unclassified)


def _features(path: Path) -> list[dict[str, Any]]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _malformed(path, f"{size} bytes, more than the limit of {MAX_BYTES}")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _malformed(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"not a JSON file ({str(error)[:80]})") from None
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) and "geometry" in f for f in features):
        raise _malformed(path, "no list of features with a geometry")
    return features


def _class_of(path: Path, number: int, feature: Mapping[str, Any]) -> str | None:
    """The name of an object's class. Names of several levels are joined by a colon, as in QuPath."""
    properties = feature.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    if classification is None:
        return None
    if isinstance(classification, str):
        return classification
    if isinstance(classification, dict) and isinstance(classification.get("name"), str):
        return str(classification["name"])
    if isinstance(classification, dict) and isinstance(classification.get("names"), list):
        return ": ".join(map(str, classification["names"]))
    raise _malformed(
        path, f"object {number} has the classification {str(classification)[:60]}, expected one with a name"
    )


def _plane(geometry: Any) -> tuple[int, int]:
    """Slice and time index of an object, from 0."""
    plane = geometry.get("plane") if isinstance(geometry, dict) else None
    indices = [plane.get(axis) if isinstance(plane, dict) else 0 for axis in ("z", "t")]
    return tuple(value if isinstance(value, int) else 0 for value in indices)  # type: ignore[return-value]


def _simple(path: Path, number: int, geometry: Any) -> Iterator[tuple[str, Any]]:
    """The polygons, lines and points of a geometry."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        for part in _list(path, number, geometry.get("geometries")):
            yield from _simple(path, number, part)
    elif kind in ("Polygon", "LineString", "Point"):
        yield kind, geometry.get("coordinates")
    elif kind in ("MultiPolygon", "MultiLineString", "MultiPoint"):
        for part in _list(path, number, geometry.get("coordinates")):
            yield kind.removeprefix("Multi"), part
    else:
        raise _malformed(path, f"object {number} has no geometry of a known type, but {kind!r}")


def _list(path: Path, number: int, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise _malformed(path, f"object {number} has no coordinates")
    return values


def _points(path: Path, number: int, values: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    try:
        points = np.array([point[:2] for point in values], np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not (np.abs(points) < FAR).all():
        raise _malformed(path, f"object {number}: expected coordinates [[x, y], ...]")
    sides = np.array([shape[1], shape[0]])
    low, high = points.min(0), points.max(0)
    if (
        (low > sides).any()
        or (high < 0).any()
        or (low < -_MARGIN * sides - 1).any()
        or (high > sides * (1 + _MARGIN) + 1).any()
    ):
        raise _malformed(
            path,
            f"object {number} goes from {low.tolist()} to {high.tolist()}, outside of its image of {shape[1]}x{shape[0]} pixels",
            "give the image that was annotated, at the resolution that QuPath has it",
        )
    return points


def _malformed(path: Path, message: str, remedy: str = "export it from QuPath as GeoJSON again") -> FileProblem:
    return FileProblem("malformed-file", path, message, remedy)
