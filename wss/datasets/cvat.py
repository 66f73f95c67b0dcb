"""The XML that CVAT exports as "CVAT for images 1.1", one file for many images."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import IMAGE_SUFFIXES, MAX_PIXELS
from wss.datasets.listing import split_suffix
from wss.datasets.shapes import Area, Drawing, Patch, box_outline, ellipse_outline, inside_runs, turned
from wss.datasets.strokes_io import label_of, number_in, xml_root
from wss.scribbles.strokes import Stroke

LABEL_MAP = "labelmap.txt"
"""The class list in CVAT's export "Segmentation mask 1.1"."""

_SHAPES = ("polyline", "points", "polygon", "box", "ellipse", "mask")


def read_cvat(path: Path, labels: Mapping[str, int], *, width: int = 3) -> tuple[dict[str, Drawing], list[Finding]]:
    """Read an export: ``polyline`` and ``points`` as strokes, ``polygon``, ``box``, ``ellipse`` and ``mask`` as areas.

    Boxes and ellipses may be rotated. Shapes are drawn in the order of ``z_order``; shapes with equal ``z_order`` in file order.

    Args:
        path: ``annotations.xml``, or its folder.
        labels: Class index by name.
        width: Brush width of the strokes in pixels. The file does not contain it.

    Returns:
        Drawings by the image's file name without folder and without the ending of an image, and what was left out.

    Raises:
        DataError: Missing, damaged, not this kind of export, an unknown class, a skeleton or cuboid, or an image that is there
            twice.
    """
    path = _export(path)
    root = xml_root(path)
    if root.tag == "annotations" and root.find("track") is not None:
        raise _malformed(path, 'holds tracks, as exports of kind "CVAT for video 1.1" do')
    if root.tag != "annotations":
        raise _malformed(path, 'not an export of kind "CVAT for images 1.1"')
    drawings: dict[str, Drawing] = {}
    tagged = []
    for image in root.iter("image"):
        name = image_id(image.get("name", ""))
        if not name:
            raise _malformed(path, f"image {image.get('id')} has no name")
        if name in drawings:
            message = f"image {image.get('name')!r} has the name {name!r} without folder and ending, which another image has too"
            remedy = "rename one of them, or delete one <image> from the file"
            raise FileProblem("malformed-file", path, message, remedy)
        drawings[name] = _drawing(path, image, labels, width)
        tagged += [name] if image.find("tag") is not None else []
    if not drawings:
        raise _malformed(path, "holds no image")
    return drawings, [_tags_left_out(path, tagged)] if tagged else []


def image_id(file_name: str) -> str:
    """The id of an image: its file name without folders, and without its ending if this is the ending of an image format.

    ``a.v1.png`` and ``a.v1`` are both ``a.v1``. The id is in the composed Unicode form, as ids of image files are.
    """
    name = unicodedata.normalize("NFC", PurePosixPath(file_name.replace("\\", "/")).name)
    stem, suffix = split_suffix(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def file_name(name: str, image: Path | None) -> str:
    """The file name of an image for a file that another program reads.

    Args:
        name: The image's id.
        image: The image's file, or None if it is not known.

    Returns:
        The name of ``image``, or ``name``, with an ending if something in it looks like one, so that ``image_id`` gives
        ``name`` again.
    """
    if image is not None and image_id(image.name) == name:
        return image.name
    return f"{name}.png" if "." in name else name


def _export(path: Path) -> Path:
    """The XML file of an export. ``path`` is the file or its folder.

    Raises:
        DataError: The folder holds another kind of export, or none.
    """
    folder = path if path.is_dir() else path.parent
    if path.name == LABEL_MAP or (path.is_dir() and (path / LABEL_MAP).exists()):
        raise FileProblem(
            "malformed-file",
            path,
            'CVAT\'s export "Segmentation mask 1.1", whose masks need no conversion',
            f"put the images into {folder / 'images'} and read it with `wss init --kind folder --root {folder} "
            f"-o masks=SegmentationClass -o classes={LABEL_MAP} -o rgb_labels=true`",
        )
    if path.is_dir():
        files = sorted(path.glob("*.xml"))
        if len(files) != 1:
            raise _malformed(path, f"a folder of {len(files)} XML files, expected one, annotations.xml")
        return files[0]
    return path


def format_cvat(drawings: Sequence[tuple[str, tuple[int, int], Sequence[Stroke]]], classes: Sequence[str]) -> str:
    """Format strokes of many images as one file for CVAT's import and ``read_cvat``. Brush widths are lost.

    Args:
        drawings: File name of the image, height and width, strokes of each image.
        classes: Class names by index.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, (name, shape, strokes) in enumerate(drawings):
        size = {"width": str(shape[1]), "height": str(shape[0])}
        image = ElementTree.SubElement(root, "image", {"id": str(number), "name": name, **size})
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
    areas: list[Area | Patch] = []
    for number, item in sorted(enumerate(image, 1), key=lambda pair: _order(path, *pair)):
        if item.tag in ("skeleton", "cuboid"):
            message = f"image {name!r}, shape {number} is a {item.tag}, which says of no pixel what it is"
            raise FileProblem(
                "malformed-file",
                path,
                message,
                "delete it in CVAT, or draw a polygon or mask instead, and export again",
            )
        if item.tag not in _SHAPES:
            continue
        label = label_of(path, f"image {name!r}, shape {number}", item.get("label", ""), labels)
        if item.tag == "polyline":
            strokes.append(Stroke(label, _points(path, number, item), width))
        elif item.tag == "points":
            strokes += [Stroke(label, point[None], width) for point in _points(path, number, item)]
        elif item.tag == "mask":
            areas.append(_patch(path, number, item, label))
        else:
            areas.append(Area(label, (_outline(path, number, item),)))
    return Drawing((int(height), int(wide)), tuple(strokes), tuple(areas))


def _order(path: Path, number: int, item: Element) -> float:
    return number_in(path, number, item.get("z_order", "0"))


def _outline(path: Path, number: int, item: Element) -> NDArray[np.float64]:
    if item.tag == "polygon":
        return _points(path, number, item)
    degrees = number_in(path, number, item.get("rotation", "0"))
    if item.tag == "box":
        values = [number_in(path, number, item.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")]
        corners = np.array(values).reshape(2, 2)
        return turned(box_outline(corners), degrees, corners.mean(0))
    x, y, rx, ry = (number_in(path, number, item.get(side)) for side in ("cx", "cy", "rx", "ry"))
    centre = np.array([x, y])
    return turned(ellipse_outline(centre, (rx, ry)), degrees, centre)


def _patch(path: Path, number: int, item: Element, label: int) -> Patch:
    """Read a brush mask: runs along the rows of its box. The first run is outside the mask."""
    left, top, wide, high = (
        int(number_in(path, number, item.get(side))) for side in ("left", "top", "width", "height")
    )
    runs = [number_in(path, number, run) for run in item.get("rle", "").split(",")]
    counts = np.array(runs, np.int64)
    if wide < 1 or high < 1 or wide * high > MAX_PIXELS or (counts < 0).any() or (counts != runs).any():
        raise _malformed(path, f"shape {number}: a mask of {wide}x{high} pixels, or runs that are no numbers of pixels")
    if counts.sum() != wide * high:
        raise _malformed(path, f"shape {number}: a mask of {wide}x{high} pixels, but its runs cover {counts.sum()}")
    return Patch(label, (left, top), inside_runs(counts, (high, wide)))


def _tags_left_out(path: Path, names: Sequence[str]) -> Finding:
    message = f"{len(names)} images have image tags, which are left out"
    return Finding(
        "note", "tags", names[0], path, message, "write tags to a table, tags.csv, for kind folder", len(names)
    )


def _points(path: Path, number: int, item: Element) -> NDArray[np.float64]:
    pairs = [pair.split(",") for pair in item.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise _malformed(path, f"shape {number}: expected points as x,y;x,y;...")
    return np.array([[number_in(path, number, value) for value in pair] for pair in pairs], np.float64)


def _malformed(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, 'export it from CVAT as "CVAT for images 1.1"')
