"""Read image tags and boxes of a user's data set from tables of comma-separated values."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wss.datasets.cvat import image_id
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.source import Source
from wss.datasets.strokes_io import FAR, label_of

TAGS_FILE = "tags.csv"
BOXES_FILE = "boxes.csv"

_IMAGE = ("image", "filename", "file", "file_name", "name", "id", "image_id", "img")
_CLASS = ("class", "classes", "tag", "tags", "label", "labels", "class_name")
_CORNERS = (("x0", "xmin", "x_min"), ("y0", "ymin", "y_min"), ("x1", "xmax", "x_max"), ("y1", "ymax", "y_max"))
_TRUTH = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}

Tags = tuple[int, ...]
Boxes = tuple[tuple[int, int, int, int, int], ...]


class _Row(NamedTuple):
    """A line of a table: its number, its image, and its other fields."""

    line: int
    image: str
    fields: tuple[str, ...]


def read_tags(path: Path, labels: Mapping[str, int], images: Collection[str]) -> tuple[dict[str, Tags], list[Finding]]:
    """Read the classes that are present in each image.

    The first column is the image, with or without folders and file ending. Columns are separated by commas, semicolons or
    tabs. There are two forms. In the first, the second column has one class, or several separated by ``;``, ``|`` or
    spaces. An image may have several rows, and an empty field means that no class is present. In the second form, there is
    one column per class with its name in the header, which is required, and values 0 or 1.

    Args:
        path: The table.
        labels: Class index by name.
        images: Ids of the images.

    Returns:
        Sorted class indices by image, and findings for rows without image.

    Raises:
        DataError: Missing, no UTF-8 text, or a row of another form or with an unknown class; the message names the line.
    """
    header, rows = _table(path, images)
    known = set(images)
    classes_of: dict[str, set[int]] = {}
    if header is None or header[0].lower() in _CLASS:
        for row in rows:
            names = _names(row.fields[0], labels) if len(row.fields) == 1 else []
            if len(row.fields) != 1:
                raise _problem(path, f"line {row.line}: {len(row.fields) + 1} columns, expected image,class")
            named = [label_of(path, f"line {row.line}", name, labels) for name in names]
            classes_of.setdefault(row.image, set()).update(named)
    else:
        columns = [label_of(path, "the header", name, labels) for name in header]
        if len(set(columns)) < len(columns):
            raise _problem(path, "two columns of the header have the same class")
        for row in rows:
            if len(row.fields) != len(header) or not all(field.lower() in _TRUTH for field in row.fields):
                raise _problem(path, f"line {row.line}: expected 0 or 1 for each of the {len(header)} classes")
            if row.image in classes_of:
                raise _problem(path, f"line {row.line}: image {row.image!r} is there twice")
            present = zip(columns, row.fields, strict=True)
            classes_of[row.image] = {label for label, field in present if _TRUTH[field.lower()]}
    tags = {image: tuple(sorted(classes)) for image, classes in classes_of.items() if image in known}
    return tags, _orphans(path, classes_of, images)


def read_boxes(
    path: Path, labels: Mapping[str, int], images: Collection[str]
) -> tuple[dict[str, Boxes], list[Finding]]:
    """Read the boxes of objects.

    Columns are ``image,class,x0,y0,x1,y1`` in this order, or in any order if there is a header. Names such as ``xmin`` are
    also accepted. Coordinates are pixels counted from 0 and are rounded. Both corners belong to the box. A row with only
    the image means that the image has no objects.

    Args:
        path: The table.
        labels: Class index by name.
        images: Ids of the images.

    Returns:
        Rows ``class, x0, y0, x1, y1`` by image, and findings for rows without image.

    Raises:
        DataError: Missing, no UTF-8 text, or a row of another form, with an unknown class, or with the lower right corner first;
            the message names the line.
    """
    header, rows = _table(path, images)
    order = _box_columns(path, header) if header is not None else range(5)
    boxes_of: dict[str, list[tuple[int, int, int, int, int]]] = {}
    columns = 5 if header is None else len(header)
    shares = []
    for row in rows:
        boxes = boxes_of.setdefault(row.image, [])
        if not any(row.fields):
            continue
        if len(row.fields) <= max(order) or any(row.fields[columns:]):
            raise _problem(path, f"line {row.line}: {len(row.fields) + 1} columns, expected image,class,x0,y0,x1,y1")
        name, *texts = (row.fields[column] for column in order)
        label = label_of(path, f"line {row.line}", name, labels)
        corners = [_pixel(path, row.line, text) for text in texts]
        shares.append(all(0 <= corner <= 1 for corner in corners) and any(corner % 1 for corner in corners))
        x0, y0, x1, y1 = (round(corner) for corner in corners)
        if x1 < x0 or y1 < y0:
            message = f"line {row.line}: a box from ({x0}, {y0}) to ({x1}, {y1})"
            raise FileProblem("box-inverted", path, message, "write the upper left corner first, then the lower right")
        boxes.append((label, x0, y0, x1, y1))
    if shares and all(shares):
        message = "all corners lie between 0 and 1: they seem to be shares of the image's sides"
        raise FileProblem("malformed-file", path, message, "multiply x by the image's width and y by its height")
    known = set(images)
    return {image: tuple(rows) for image, rows in boxes_of.items() if image in known}, _orphans(path, boxes_of, images)


def tag_counts(source: Source) -> dict[str, int] | None:
    """Number of images per class according to the tag annotations; None if there are none."""
    tags = [entry.tags for entry in getattr(source, "entries", {}).values() if entry.tags is not None]
    names = enumerate(source.catalogue.classes)
    return {name: sum(index in one for one in tags) for index, name in names} if tags else None


def _table(path: Path, images: Collection[str]) -> tuple[list[str] | None, list[_Row]]:
    """The header without its first column, or None where there is no header, and the rows below it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = next((mark for mark in "\t," if mark in first), ";")
        lines = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such table", "correct its name in the options") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"cannot be read ({error})"
        raise FileProblem("malformed-file", path, message, "save it as comma-separated values in UTF-8") from None
    rows = [
        (number, [field.strip() for field in fields])
        for number, fields in enumerate(lines, 1)
        if any(field.strip() for field in fields)
    ]
    if not rows:
        raise _problem(path, "holds no row")
    short = next((number for number, fields in rows if len(fields) < 2), None)
    if short is not None:
        raise _problem(path, f"line {short}: one column, expected image,class")
    header = rows.pop(0)[1] if _is_header(rows[0][1], images) else None
    names = [_Row(number, image_id(fields[0]), tuple(fields[1:])) for number, fields in rows]
    folders: dict[str, PurePosixPath] = {}
    for row, (_, fields) in zip(names, rows, strict=True):
        folder = PurePosixPath(fields[0].replace("\\", "/")).parent
        if folders.setdefault(row.image, folder) != folder:
            message = f"line {row.line}: image {row.image!r} in the folder {folder}, above it in {folders[row.image]}"
            raise FileProblem("malformed-file", path, message, "keep the rows of one folder, that of the images")
    unnamed = next((row.line for row in names if not row.image), None)
    if unnamed is not None:
        raise _problem(path, f"line {unnamed}: no image is named")
    return None if header is None else header[1:], names


def _is_header(fields: Sequence[str], images: Collection[str]) -> bool:
    """True if a first line is a header: its first field names a column, and is no image or the second field does too."""
    return fields[0].lower() in _IMAGE and (image_id(fields[0]) not in images or fields[1].lower() in _CLASS)


def _names(field: str, labels: Mapping[str, int]) -> list[str]:
    """The class names in a field. Names may contain spaces if the whole field is a name or semicolons separate names."""
    names: list[str] = []
    for part in (unicodedata.normalize("NFC", part.strip()) for part in re.split(r"[;|]", field)):
        names += [part] if part in labels else part.split()
    return names


def _box_columns(path: Path, header: Sequence[str]) -> list[int]:
    """Numbers of the columns with class and corners, after the image's."""
    names = [name.lower() for name in header]
    order = []
    for wanted in (_CLASS, *_CORNERS):
        columns = [number for number, name in enumerate(names) if name in wanted]
        if len(columns) != 1:
            raise _problem(
                path, f"the header {','.join(header)} has {len(columns)} columns called {' or '.join(wanted)}"
            )
        order += columns
    return order


def _pixel(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < FAR:
        raise _problem(path, f"line {line}: expected a number of pixels, got {text[:40]!r}")
    return value


def _orphans(path: Path, names: Collection[str], images: Collection[str]) -> list[Finding]:
    """Findings for rows whose image is not there, told apart from names that differ only in case."""
    lower = {name.lower(): name for name in images}
    doubtful = []
    for name in names:
        if name in images:
            continue
        if name.lower() in lower:
            message = f"{name} in the table differs from image {lower[name.lower()]} in upper and lower case"
            doubtful.append(Finding("warning", "case-mismatch", name, path, message, "give both the same name"))
        else:
            message = f"the table has {name}, and there is no such image"
            doubtful.append(Finding("warning", "orphan", name, path, message, "add the image or remove the row"))
    return doubtful


def _problem(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, "write image,class, or for boxes image,class,x0,y0,x1,y1")
