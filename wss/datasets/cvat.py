"""The XML that CVAT exports as "CVAT for images 1.1", one file for many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.images import MAX_PIXELS
from wss.datasets.shapes import Drawing, box_outline, ellipse_outline
from wss.datasets.strokes_io import number_in, unknown_class, xml_root
from wss.scribbles.strokes import Stroke


def read_cvat(path: Path, labels: Mapping[str, int], *, width: int = 3) -> dict[str, Drawing]:
    """Read an export: ``polyline`` and ``points`` as strokes, ``polygon``, ``box`` and ``ellipse`` as areas.

    Args:
        path: ``annotations.xml``.
        labels: Class index by name.
        width: Brush width of the strokes in pixels, which the file does not tell.

    Returns:
        Drawings by the image's file name without folder and ending.

    Raises:
        DataError: Missing, damaged, not this kind of export, an unknown class, or an image that is there twice.
    """
    root = xml_root(path)
    if root.tag != "annotations" or root.find("track") is not None:
        raise _malformed(path, 'not an export of kind "CVAT for images 1.1"')
    drawings: dict[str, Drawing] = {}
    for image in root.iter("image"):
        name = PurePosixPath(image.get("name", "").replace("\\", "/")).stem
        if not name or name in drawings:
            raise _malformed(path, f"image {image.get('name')!r} has no name, or one that another image has too")
        drawings[name] = _drawing(path, image, labels, width)
    if not drawings:
        raise _malformed(path, "holds no image")
    return drawings


def format_cvat(drawings: Sequence[tuple[str, tuple[int, int], Sequence[Stroke]]], classes: Sequence[str]) -> str:
    """Strokes of many images as one file that CVAT imports and ``read_cvat`` reads; brush widths are lost.

    Args:
        drawings: Image id, height and width, strokes of each image.
        classes: Class names by index.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, (image_id, shape, strokes) in enumerate(drawings):
        size = {"width": str(shape[1]), "height": str(shape[0])}
        image = ElementTree.SubElement(root, "image", {"id": str(number), "name": image_id, **size})
        for stroke in strokes:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in stroke.points)
            kind = "polyline" if len(stroke.points) > 1 else "points"
            facts = {
                "label": classes[stroke.label],
                "source": "manual",
                "occluded": "0",
                "points": points,
                "z_order": "0",
            }
            ElementTree.SubElement(image, kind, facts)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _drawing(path: Path, image: Element, labels: Mapping[str, int], width: int) -> Drawing:
    name = image.get("name", "")
    height, wide = (number_in(path, 0, image.get(side)) for side in ("height", "width"))
    if not (height >= 1 and wide >= 1 and height * wide <= MAX_PIXELS):
        raise _malformed(path, f"image {name!r} has no size of at most {MAX_PIXELS} pixels")
    strokes: list[Stroke] = []
    areas: list[tuple[int, NDArray[np.float64]]] = []
    for number, item in enumerate(image, 1):
        if item.tag not in ("polyline", "points", "polygon", "box", "ellipse"):
            if item.tag in ("mask", "skeleton", "cuboid"):
                raise _malformed(path, f"image {name!r}, shape {number} is a {item.tag}, which is not read")
            continue
        tag = item.get("label", "")
        if tag not in labels:
            raise unknown_class(path, f"image {name!r}, shape {number}", tag, labels)
        label = labels[tag]
        if item.tag == "polyline":
            strokes.append(Stroke(label, _points(path, number, item), width))
        elif item.tag == "points":
            strokes += [Stroke(label, point[None], width) for point in _points(path, number, item)]
        elif item.tag == "polygon":
            areas.append((label, _points(path, number, item)))
        elif item.tag == "box":
            values = [number_in(path, number, item.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")]
            areas.append((label, box_outline(np.array(values).reshape(2, 2))))
        else:
            x, y, rx, ry = (number_in(path, number, item.get(side)) for side in ("cx", "cy", "rx", "ry"))
            areas.append((label, ellipse_outline(np.array([x, y]), (rx, ry))))
    return Drawing((int(height), int(wide)), tuple(strokes), tuple(areas))


def _points(path: Path, number: int, item: Element) -> NDArray[np.float64]:
    pairs = [pair.split(",") for pair in item.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise _malformed(path, f"shape {number}: expected points as x,y;x,y;...")
    return np.array([[number_in(path, number, value) for value in pair] for pair in pairs], np.float64)


def _malformed(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, 'export it from CVAT as "CVAT for images 1.1"')
