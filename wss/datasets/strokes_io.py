"""Scribbles in files: the XML of ScribbleSup, and polylines as text."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from defusedxml import ElementTree as SafeElementTree
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

STROKE_SUFFIXES = (".xml", ".txt")
"""Files that hold strokes, in order of preference."""

FAR = 2**30
"""Coordinates of at least this absolute value are treated as damage."""

MAX_BYTES = 16 * 2**20
"""Larger stroke files are refused. Real files have about ten kilobytes."""


def read_xml(path: Path, labels: Mapping[str, int], *, width: int = 3) -> tuple[Stroke, ...]:
    """Read strokes in the format of ScribbleSup: ``polygon`` elements with a ``tag`` and ``point`` elements (X, Y).

    Despite the name, a polygon is an open polyline. Coordinates are pixels counted from 0. Points outside the image
    occur and are kept. DTDs and entities are refused.

    Args:
        path: The XML file.
        labels: Class index by name, including ``background``.
        width: Brush width of the strokes in pixels; the files do not contain it.

    Raises:
        DataError: Missing, damaged, larger than ``MAX_BYTES``, not of this form, or with an unknown class name.

    Source:
        Lin, Dai, Jia, He, Sun: ScribbleSup, CVPR 2016, the files of the PASCAL-Scribble data set.
    """
    strokes = []
    root = xml_root(path)
    polygons = list(root.iter("polygon"))
    if not polygons and (root.tag != "annotation" or root.find(".//bndbox") is not None):
        raise _malformed(path, f"an XML file of another kind: no polygon with tag and points below <{root.tag}>")
    for number, polygon in enumerate(polygons, 1):
        label = label_of(path, f"polygon {number}", (polygon.findtext("tag") or "").strip(), labels)
        points = [
            (number_in(path, number, point.findtext("X")), number_in(path, number, point.findtext("Y")))
            for point in polygon.iter("point")
        ]
        if points:
            strokes.append(Stroke(label, np.array(points, np.float64), width))
    return tuple(strokes)


def read_polylines(path: Path, *, width: int = 3) -> tuple[Stroke, ...]:
    """Read strokes from text, one per line: ``class,x1,y1,x2,y2,...``. The class is an index; pixels count from 0.

    Args:
        path: The text file.
        width: Brush width of the strokes in pixels; the files do not contain it.

    Raises:
        DataError: Missing, damaged, larger than ``MAX_BYTES``, or a line is not of this form.
    """
    strokes = []
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _malformed(path, f"not a text file ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.strip().rstrip(", \t")
        if not fields:
            continue
        values = [number_in(path, number, field) for field in fields.split(",")]
        label = values[0]
        if len(values) < 3 or len(values) % 2 == 0 or label != int(label) or not 0 <= label < UNLABELLED:
            raise _malformed(path, f"line {number}: expected class,x1,y1,x2,y2,... with a class index from 0 to 254")
        strokes.append(Stroke(int(label), np.array(values[1:], np.float64).reshape(-1, 2), width))
    return tuple(strokes)


def format_xml(image_id: str, shape: tuple[int, int], strokes: Sequence[Stroke], classes: Sequence[str]) -> str:
    """Format strokes as an XML document for ``read_xml``. Brush widths are lost.

    Args:
        image_id: Written as the file name.
        shape: Height and width of the image.
        strokes: Strokes to write.
        classes: Class names by index.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = image_id
    size = ElementTree.SubElement(root, "size")
    ElementTree.SubElement(size, "width").text = str(shape[1])
    ElementTree.SubElement(size, "height").text = str(shape[0])
    for stroke in strokes:
        polygon = ElementTree.SubElement(root, "polygon")
        ElementTree.SubElement(polygon, "tag").text = classes[stroke.label]
        for x, y in stroke.points:
            point = ElementTree.SubElement(polygon, "point")
            ElementTree.SubElement(point, "X").text = _short(x)
            ElementTree.SubElement(point, "Y").text = _short(y)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def format_polylines(strokes: Sequence[Stroke]) -> str:
    """Format strokes as lines of text for ``read_polylines``. Brush widths are lost."""
    return "".join(",".join([str(s.label), *(_short(v) for v in s.points.ravel())]) + "\n" for s in strokes)


def outside(strokes: Sequence[Stroke], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Points outside the image.

    Args:
        strokes: Strokes.
        shape: Height and width of the image.

    Returns:
        float64 (N, 2), x and y. Pixel centres have integer coordinates, so the image extends half a pixel beyond them.
    """
    points = np.concatenate([s.points for s in strokes]) if strokes else np.zeros((0, 2))
    limit = np.array([shape[1] - 0.5, shape[0] - 0.5])
    return np.asarray(points[((points < -0.5) | (points > limit)).any(axis=1)])


def xml_root(path: Path) -> Element:
    """The root of an XML file without DTD and entities.

    Raises:
        DataError: Missing, damaged, larger than ``MAX_BYTES``, or with a DTD.
    """
    try:
        root: Element = SafeElementTree.fromstring(_bytes(path), forbid_dtd=True)
    except (SafeElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise _malformed(path, f"not a plain XML file ({error!r})") from None
    return root


def label_of(path: Path, where: str, name: str, labels: Mapping[str, int]) -> int:
    """The label of a class by its name, in composed or decomposed Unicode form.

    Args:
        path: The file that contains the name.
        where: The object or line of the file that contains it.
        name: The name.
        labels: Label by name in the composed form (NFC).

    Raises:
        DataError: There is no such class.
    """
    label = labels.get(unicodedata.normalize("NFC", name))
    if label is None:
        raise unknown_class(path, where, name, labels)
    return label


def unknown_class(path: Path, where: str, name: str, labels: Mapping[str, int]) -> FileProblem:
    """The problem for a class name that is not in the list."""
    return FileProblem(
        "unknown-class",
        path,
        f"{where} has the class name {name!r}, which is none of {', '.join(labels)}",
        "correct the name, or add it to the class list",
    )


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _malformed(path, f"{size} bytes, more than the limit of {MAX_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such file", "restore it or take it out of the list") from None
    except OSError as error:
        raise FileProblem("unreadable-label", path, f"cannot be read ({error})", "copy or download it again") from error


def number_in(path: Path, number: int, text: str | None) -> float:
    """Parse a coordinate of the ``number``-th stroke or object of a file.

    Raises:
        DataError: Not a number, or too large for a coordinate.
    """
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < FAR:
        raise _malformed(path, f"item {number}: expected a number, got {(text or '')[:40]!r}")
    return value


def _malformed(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, "export or download it again")


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
