"""Annotation files of COCO: their instances, categories and images."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from wss.datasets.classlist import is_background
from wss.datasets.cvat import image_id
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import MAX_PIXELS
from wss.datasets.rle import RleError, decode_rle
from wss.datasets.strokes_io import FAR

_BACKGROUND = "background"


_SAMPLED = 100


@dataclass(frozen=True)
class Instances:
    """One annotation file.

    Attributes:
        path: The file.
        images: File name (relative, with ``/``), height and width by image id, which is the file name without folder and suffix.
        annotations: Annotations of each image, as in the file.
        categories: Class names by category id.
    """

    path: Path
    images: Mapping[str, tuple[str, int, int]]
    annotations: Mapping[str, Sequence[Mapping[str, Any]]]
    categories: Mapping[int, str]

    def problem(self, annotation: Mapping[str, Any], message: str) -> FileProblem:
        """The problem of one annotation, as an error to raise."""
        where = f"annotation {annotation.get('id', 'without id')} of image {annotation.get('image_id', 'without id')}"
        return FileProblem("annotation", self.path, f"{where} {message}", "correct it or download the file again")

    def box(self, annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
        """Left, top, width and height of an annotation's box in pixels. The upper left corner of the first pixel is 0.

        Raises:
            DataError: The annotation has no box, or an empty one.
        """
        box = annotation.get("bbox")
        try:
            x, y, width, height = (float(value) for value in box)  # type: ignore[union-attr]
        except (TypeError, ValueError, OverflowError):
            raise self.problem(annotation, f"has the box {box!r}, expected [x, y, width, height]") from None
        if not (abs(x) < FAR and abs(y) < FAR and 0 < width < FAR and 0 < height < FAR):
            raise self.problem(annotation, f"has the box {box!r}, expected finite numbers and a positive size")
        return x, y, width, height

    def extent(self, annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
        """The box of an annotation, or else the box around its outline.

        Raises:
            DataError: The annotation has neither, or the outline is damaged.
        """
        given = annotation.get("segmentation")
        if annotation.get("bbox") or not given:
            return self.box(annotation)
        if isinstance(given, Mapping):
            there = np.argwhere(self.rle(annotation, given, "segmentation"))[:, ::-1]
            corners = np.concatenate([there, there + 1])
        else:
            corners = np.concatenate([np.zeros((0, 2)), *self._outlines(annotation, given)])
        if not len(corners):
            return self.box(annotation)
        low, size = corners.min(0), np.ptp(corners, axis=0)
        return self.box({**annotation, "bbox": [*low.tolist(), *size.tolist()]})

    def rle(self, annotation: Mapping[str, Any], encoded: Any, what: str) -> NDArray[np.bool_]:
        """Decode a mask of an annotation.

        Raises:
            DataError: The mask is damaged.
        """
        try:
            return decode_rle(encoded)
        except RleError as error:
            raise self.problem(annotation, f"has a {what} that {error}") from None

    def region(self, annotation: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The pixels of an annotated object, from polygons or a run-length encoding: those whose centre is inside.

        Objects without an outline, and outlines with fewer than three points, have no pixels.

        Raises:
            DataError: The annotation is damaged or of another size.
        """
        given = annotation.get("segmentation") or []
        if isinstance(given, Mapping):
            region = self.rle(annotation, given, "segmentation")
            if region.shape != shape:
                raise self.problem(annotation, f"has a segmentation of {region.shape}, its image is {shape}")
            return region
        region = np.zeros(shape, bool)
        for points in self._outlines(annotation, given):
            if len(points) > 2:
                region[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True  # type: ignore[no-untyped-call]
        return region

    def vague(self, annotation: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Pixels that may or may not belong to the annotated object; None if its outline is complete.

        If an object has no outline, or an outline without pixels, these are the pixels of its box and its points. If only some of
        its outlines have fewer than three points, these are the pixels around their points.

        Raises:
            DataError: The annotation is damaged, or has neither outline nor box.
        """
        given = annotation.get("segmentation") or []
        outlines = [] if isinstance(given, Mapping) else self._outlines(annotation, given)
        short = [points for points in outlines if len(points) < 3]
        empty = not self.region(annotation, shape).any()
        if not empty and not short:
            return None
        unknown = np.zeros(shape, bool)
        for points in outlines if empty else short:
            _mark(unknown, points.min(0), points.max(0))
        if empty and (annotation.get("bbox") or not outlines):
            x, y, width, height = self.box(annotation)
            _mark(unknown, np.array([x, y]), np.array([x + width, y + height]))
        return unknown

    def doubtful(self, annotation: Mapping[str, Any]) -> bool:
        """True if an outline may be missing or empty. This is decided without drawing it."""
        given, box, area = annotation.get("segmentation"), annotation.get("bbox"), annotation.get("area")
        if not given or (isinstance(given, list) and any(isinstance(one, list) and len(one) < 6 for one in given)):
            return True
        thin = not isinstance(box, list) or any(not isinstance(side, int | float) or side < 2 for side in box[2:])
        return thin or not isinstance(area, int | float) or area < 1

    def _outlines(self, annotation: Mapping[str, Any], segmentation: Any) -> list[NDArray[np.float64]]:
        """The outlines of an object, float64 (N, 2) of x and y each."""
        if not isinstance(segmentation, list):
            raise self.problem(
                annotation, f"has the segmentation {str(segmentation)[:40]!r}, expected polygons or an encoding"
            )
        outlines = []
        for outline in segmentation:
            if isinstance(outline, list) and not outline:
                continue  # [[]] is not an outline
            try:
                points = np.array(outline, np.float64).reshape(-1, 2)
            except (TypeError, ValueError, OverflowError):
                points = np.full((1, 2), np.nan)
            if not len(points) or not (np.abs(points) < FAR).all():
                raise self.problem(annotation, "has an outline that is no list of x and y by turns")
            outlines.append(points)
        return outlines


def _mark(region: NDArray[np.bool_], low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Set every pixel that a box touches, at least one; ``low`` and ``high`` are x and y."""
    x0, y0 = np.maximum(np.floor(low), 0).astype(int)
    x1, y1 = np.maximum(np.ceil(high), np.floor(low) + 1).astype(int)
    region[y0 : max(y1, 0), x0 : max(x1, 0)] = True


def read_instances(path: Path) -> Instances:
    """Read an annotation file in COCO's format.

    Raises:
        DataError: Missing, no JSON, or without the lists and fields of this format; the message names the entry.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such annotation file", "correct its name") from None
    except (OSError, ValueError) as error:
        raise FileProblem("annotation-file", path, f"no readable JSON ({error})", "download it again") from None
    images: dict[str, tuple[str, int, int]] = {}
    names: dict[Any, str] = {}
    for row in rows_of(path, content, "images"):
        try:
            file = PurePosixPath(str(row["file_name"]).replace("\\", "/"))  # Windows writes folders so
            size = (int(row["height"]), int(row["width"]))
            number = known_id(row["id"])
        except (KeyError, TypeError, ValueError, OverflowError):
            message = f"has the image {str(row)[:100]}, expected id, file_name, height and width"
            raise FileProblem("annotation-file", path, message, "correct it") from None
        name = image_id(file.name)
        if file.is_absolute() or ".." in file.parts or ":" in str(file) or not name or not name.isprintable():
            message = f"names the image file {str(file)[:100]!r}, which is not inside the folder of images"
            raise FileProblem("unsafe-name", path, message, "give file names relative to it")
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            message = f"has the image {name!r} of height {size[0]} and width {size[1]}"
            raise FileProblem("annotation-file", path, message, f"correct it; at most {MAX_PIXELS} pixels are read")
        if name in images:
            message = f"names two images {name!r}"
            raise FileProblem("annotation-file", path, message, "give every image its own file name")
        if number in names:
            message = f"has the id {row['id']!r} for the images {names[number]!r} and {name!r}"
            raise FileProblem("annotation-file", path, message, "give every image its own id, also in its annotations")
        images[name] = (str(file), *size)
        names[number] = name
    annotations: dict[str, list[Mapping[str, Any]]] = {name: [] for name in images}
    for row in rows_of(path, content, "annotations"):
        number = known_id(row.get("image_id"))
        if number not in names:
            message = (
                f"has annotation {row.get('id', 'without id')} of image {row.get('image_id')!r}, which it does not list"
            )
            raise FileProblem("annotation-file", path, message, "correct it")
        annotations[names[number]].append({**row, "category_id": known_id(row.get("category_id"))})
    instances = Instances(path, images, annotations, _categories(path, content))
    _refuse_shares(instances)
    return instances


def known_id(value: Any) -> Any:
    """Normalise an id, because files of the same program may write it as an integer or as a string of digits."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def _categories(path: Path, content: Any) -> dict[int, str]:
    """Class names by category id."""
    categories: dict[int, str] = {}
    for row in rows_of(path, content, "categories"):
        number, name = known_id(row.get("id")), row.get("name")
        if type(number) is not int or not isinstance(name, str | int) or not str(name).strip():
            message = f"has the category {str(row)[:100]}, expected a whole number as id, and a name"
            raise FileProblem("annotation-file", path, message, "correct it")
        if number in categories:
            message = f"has the id {number} for the categories {categories[number]!r} and {name!r}"
            raise FileProblem("annotation-file", path, message, "give every category its own id, also in annotations")
        categories[number] = unicodedata.normalize("NFC", str(name).strip())
    return categories


def _refuse_shares(instances: Instances) -> None:
    """Refuse a file whose coordinates are fractions of the image's sides.

    Raises:
        DataError: All boxes and polygons lie between 0 and 1.
    """
    seen = False
    for rows in instances.annotations.values():
        for row in rows:
            given = row.get("segmentation")
            outlines = given if isinstance(given, list) else []
            for values in (row.get("bbox") or [], *(one for one in outlines if isinstance(one, list))):
                numbers = [value for value in values if isinstance(value, int | float)]
                if any(not 0 <= value <= 1 for value in numbers):
                    return
                seen = seen or any(0 < value < 1 for value in numbers)
    if seen:
        message = "has only coordinates between 0 and 1: they seem to be shares of the image's sides, not pixels"
        raise FileProblem(
            "annotation-file", instances.path, message, "multiply x by the image's width and y by its height"
        )


def class_indices(categories: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, background first, and the class index of each category by its id.

    Classes are in the order of the ids. A category called background is the background class. Categories with the same name are
    one class.
    """
    classes: dict[str, int] = {_BACKGROUND: 0}
    labels = {}
    for number in sorted(categories):
        name = _BACKGROUND if is_background(categories[number]) else categories[number]
        labels[number] = classes.setdefault(name, len(classes))
    return tuple(classes), labels


def category_notes(path: Path, categories: Mapping[int, str]) -> list[Finding]:
    """Report categories that are the background, and categories that share a name."""
    notes = []
    for number, name in categories.items():
        if is_background(name):
            message = f"category {number}, {name!r}, is the background class: its objects are background pixels"
            notes.append(Finding("note", "background-category", None, path, message, "nothing to do"))
    for name in dict.fromkeys(categories.values()):
        numbers = [str(number) for number, other in categories.items() if other == name]
        if len(numbers) > 1:
            message = f"categories {' and '.join(numbers)} have the same name {name!r} and are read as one class"
            notes.append(Finding("note", "same-category", None, path, message, "rename one if they are not the same"))
    return notes


def rows_of(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    """Rows of a list of an annotation file, by its name.

    Raises:
        DataError: The file has no such list of objects.
    """
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        message = f"has no list {name!r}"
        remedy = "give a file in COCO's format of object annotations (images, annotations, categories)"
        raise FileProblem("annotation-file", path, message, remedy)
    for row in rows:
        for key in ("id", "image_id", "category_id"):
            if not isinstance(known_id(row.get(key, 0)), int | str):
                message = f"has an entry among {name!r} whose {key} is {str(row[key])[:100]}"
                raise FileProblem("annotation-file", path, message, "give it a number")
    return rows


def find_folder(candidates: Sequence[Path], instances: Instances) -> Path:
    """The folder that has most of the first images of an annotation file; the first candidate if no folder has any."""
    names = [name for name, _, _ in instances.images.values()][:_SAMPLED]
    return max(candidates, key=lambda folder: sum(image_file(folder, name).exists() for name in names))


def image_file(folder: Path, name: str) -> Path:
    """The file of an image by its name in an annotation file. The names may have different Unicode forms.

    Args:
        folder: The folder of images.
        name: Relative to it, with ``/``.
    """
    path = folder / name
    if name.isascii() or path.exists():
        return path
    for part in PurePosixPath(name).parts:
        folder = folder / _spelling(folder, part)
    return folder


def _spelling(folder: Path, name: str) -> str:
    """The spelling (Unicode form) of a name in a folder; the name itself if the folder does not contain it."""
    try:
        return _spellings(folder, folder.stat().st_mtime_ns).get(unicodedata.normalize("NFC", name), name)
    except OSError:
        return name


@lru_cache(maxsize=64)
def _spellings(folder: Path, changed: int) -> dict[str, str]:
    """Names that are not ASCII by their composed form."""
    with os.scandir(folder) as entries:
        return {unicodedata.normalize("NFC", entry.name): entry.name for entry in entries if not entry.name.isascii()}
