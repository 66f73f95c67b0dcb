"""Read YOLO text files with outlines and boxes, one file per image."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wss.datasets.classlist import ClassList, read_classes
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.shapes import Area, Drawing, box_outline
from wss.datasets.strokes_io import label_of
from wss.labels import UNLABELLED

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")
"""Names of files with class names, below or beside the folder of text files."""

_MARGIN = 0.01
"""Outlines may exceed the image by this share of its sides, because programs round."""


def read_yolo(path: Path, numbers: Sequence[int], shape: tuple[int, int]) -> tuple[Drawing, int]:
    """Read one file. A line has a class number and then x, y, x, y, ... as shares of the image's sides.

    Lines with three or more points are areas. Lines with four shares are boxes: centre, width and height. The inside of a
    box is void unless an area covers it.

    Args:
        path: The text file; an empty one is an image without objects.
        numbers: Class index by YOLO's number, which counts from 0.
        shape: Height and width of the image.

    Returns:
        The drawing, and the number of boxes.

    Raises:
        DataError: Unreadable, a line of another form, a number without class, or coordinates that are not shares.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _malformed(path, f"cannot be read ({error})") from None
    boxes: list[Area] = []
    areas: list[Area] = []
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            number, *values = (float(field) for field in line.split())
        except ValueError:
            raise _malformed(path, f"line {row}: expected numbers, got {line[:60]!r}") from None
        if number not in range(len(numbers)):
            raise _malformed(
                path,
                f"line {row}: class number {number:g}, but there are {len(numbers)} classes, 0 to {len(numbers) - 1}",
                "give the class list that belongs to these files",
            )
        shares = np.array(values)
        if not ((shares >= -_MARGIN) & (shares <= 1 + _MARGIN)).all():
            raise _malformed(path, f"line {row}: expected shares of the image's sides, from 0 to 1, got {line[:60]!r}")
        sides = np.array([shape[1], shape[0]])
        if len(shares) == 4:
            centre, half = shares[:2] * sides, shares[2:] * sides / 2
            outline = box_outline(np.stack([centre - half, centre + half]))
            boxes.append(Area(UNLABELLED, (outline,), edged=True))
        elif len(shares) >= 6 and len(shares) % 2 == 0:
            areas.append(Area(numbers[int(number)], (shares.reshape(-1, 2) * sides,), edged=True))
        else:
            raise _malformed(path, f"line {row}: {len(shares)} numbers after the class, expected a box or an outline")
    return Drawing(shape, areas=(*boxes, *areas)), len(boxes)


def class_numbers(path: Path, classes: ClassList) -> tuple[list[int], Finding]:
    """The class index of each YOLO number.

    Args:
        path: A text file, or the folder of text files. A file of names (``data.yaml``, ``classes.txt``, ``obj.names``) in this
            folder, or up to two folders above, gives the name of each number. Without one, numbers count the classes without
            the background.
        classes: The classes.

    Returns:
        Class index by number, and a note that says where it comes from.

    Raises:
        DataError: The file of names is damaged, or has a name that is no class.
    """
    folder = path if path.is_dir() else path.parent
    places = [folder, *folder.resolve().parents[:2]]
    name_files = (p for place in places for name in NAME_FILES if (p := place / name).is_file())
    named = unclear = None
    for file in name_files:
        if not _is_class_list(file, classes) or _highest(path) >= len(classes.names) - 1:
            named = file
            break
        unclear = unclear or file
    if named is None:
        numbers = [index for index in range(len(classes.names)) if index != classes.background]
        names = ", ".join(f"{number} {classes.names[index]}" for number, index in enumerate(numbers))
        remedy = f"if that is wrong, write `names: [...]` in the order of the numbers into {folder / 'data.yaml'}"
        if unclear is not None:
            message = (
                "is the class list with its background, which YOLO does not count, and no number needs it: the numbers "
            )
            message += f"are read as {names}"
            return numbers, Finding("warning", "class-numbers", None, unclear, message, remedy)
        message = f"no file of class names ({', '.join(NAME_FILES)}): the numbers are read as {names}"
        return numbers, Finding("note", "class-numbers", None, folder, message, remedy)
    labels = classes.labels()
    wanted = _names(named)
    numbers = [label_of(named, "the list", name, labels) for name in wanted]
    names = ", ".join(f"{number} {name}" for number, name in enumerate(wanted))
    message = f"the numbers of YOLO are read as {names}"
    return numbers, Finding("note", "class-numbers", None, named, message, "nothing to do")


def _highest(path: Path) -> float:
    """The highest class number in text files. Lines without a number are skipped; ``read_yolo`` reports them."""
    highest = -1.0
    for file in path.glob("*.txt") if path.is_dir() else [path]:
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file.is_file() else ():
            number = line.split(maxsplit=1)[0] if line.strip() else ""
            highest = max(highest, float(number) if number.isdecimal() else -1.0)
    return highest


def _is_class_list(path: Path, classes: ClassList) -> bool:
    """True if a text file is the class list itself, with a background."""
    return path.suffix == ".txt" and classes.background is not None and tuple(_names(path)) == classes.names


def _names(path: Path) -> Sequence[str]:
    if path.suffix != ".names":
        return read_classes(path).names
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise _malformed(path, f"cannot be read ({error})", "save it as UTF-8 text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def images_beside(path: Path) -> Path:
    """The folder of images that belongs to a folder of YOLO files: ``labels`` in the path is replaced by ``images``."""
    folder = path if path.is_dir() else path.parent
    parts = folder.resolve().parts
    last = max((n for n, part in enumerate(parts) if part == "labels"), default=None)
    return folder if last is None else Path(*parts[:last], "images", *parts[last + 1 :])


def _malformed(path: Path, message: str, remedy: str = "export it in YOLO's format again") -> FileProblem:
    return FileProblem("malformed-file", path, message, remedy)
