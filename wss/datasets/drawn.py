"""Annotations of drawing programs, as a data set without images, for conversion."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wss.datasets.classlist import ClassList
from wss.datasets.cvat import image_id, read_cvat
from wss.datasets.finding import FileProblem, Finding, Severity
from wss.datasets.images import IMAGE_SUFFIXES, read_header
from wss.datasets.labelme import read_labelme
from wss.datasets.labelstudio import read_labelstudio
from wss.datasets.listing import files_by_stem
from wss.datasets.painted import PAINTED_SUFFIXES, read_painted
from wss.datasets.qupath import read_qupath
from wss.datasets.shapes import Drawing
from wss.datasets.source import Catalogue, Sample
from wss.datasets.yolo import NAME_FILES, class_numbers, images_beside, read_yolo
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.scribbles import rasterise

Program = Literal["labelme", "cvat", "labelstudio", "yolo", "qupath", "painted"]
"""``labelme``: JSON, one file per image; ``cvat``: "CVAT for images 1.1", one XML file; ``labelstudio``: JSON, one file for all,
or PNG files, one per label; ``yolo``: text files of outlines; ``qupath``: GeoJSON, one file per image; ``painted``: label images
of napari, ilastik and other programs that count classes from 1 and leave 0 where nothing was painted."""

_ASK_FOR_IMAGES = "name the folder of images with --images, because such files do not tell the size of the image"


@dataclass(frozen=True)
class Drawings:
    """Drawings by image id, with the interface of a data set and one split ``all``.

    Images are black and have the size given in the file. Lines and points are strokes. If a drawing has areas or is painted, it
    is a raster: areas in their order, then strokes over them.

    Attributes:
        catalogue: Classes and ids.
        drawings: Drawings by image id.
        rest: Label of pixels outside all shapes; 255 leaves them unlabelled.
        notes: Findings about skipped or void parts, and about the meaning of class numbers.
    """

    catalogue: Catalogue
    drawings: dict[str, Drawing]
    rest: int = UNLABELLED
    notes: Sequence[Finding] = ()

    def read(self, image_id: str) -> Sample:
        """One drawing with a black image.

        Raises:
            DataError: The file does not tell the size of the image.
        """
        drawing = self.drawings[image_id]
        black = np.broadcast_to(np.uint8(0), (*drawing.shape, 3))
        wiped = any(stroke.label == UNLABELLED for stroke in drawing.strokes)
        if drawing.raster is None and not drawing.areas and self.rest == UNLABELLED and not wiped:
            return Sample(image_id, black, strokes=drawing.strokes)
        return Sample(image_id, black, scribble=self._raster(drawing))

    def _raster(self, drawing: Drawing) -> NDArray[np.uint8]:
        labels = np.full(drawing.shape, self.rest, np.uint8)
        if drawing.raster is not None:
            return np.where(drawing.raster == UNLABELLED, labels, drawing.raster)
        for area in drawing.areas:
            area.paint(labels)
        for void, strokes in groupby(drawing.strokes, key=lambda stroke: stroke.label == UNLABELLED):
            lines = rasterise([replace(s, label=0) if void else s for s in strokes], drawing.shape)
            labels = np.where(lines == UNLABELLED, labels, UNLABELLED if void else lines).astype(np.uint8)
        return labels


def open_drawings(
    path: Path,
    program: Program,
    classes: ClassList,
    *,
    rest: str | None = None,
    width: int = 3,
    images: Path | None = None,
) -> Drawings:
    """Read the annotations of a drawing program.

    Args:
        path: A file, or a folder of files.
        program: The program that wrote them.
        classes: The classes. Names in the files must be among them; painted numbers count them from 1.
        rest: Class of pixels outside all shapes; None leaves them unlabelled.
        width: Brush width of lines in pixels. The files do not contain it.
        images: Folder of the images, for files without image sizes; None looks in the folder of the files.

    Raises:
        DataError: Nothing there, a file is damaged, an unknown class, a shape that is none of lines, points and areas, or an
            image that is needed for its size is missing.
    """
    labels = classes.labels()
    if rest is not None and rest not in labels:
        raise DataError(f"--rest {rest}: no such class; the list has {', '.join(labels)}")
    drawings: dict[str, Drawing]
    notes: list[Finding] = []
    if program == "cvat":
        drawings, notes = read_cvat(path, labels, width=width)
    elif program == "labelme":
        drawings, notes = _labelme(path, labels, width)
    elif program == "labelstudio":
        sizes = _sizes(images)
        drawings, notes = read_labelstudio(
            path, labels, lambda name: read_header(sizes[name]).shape if name in sizes else None, width=width
        )
    elif program == "yolo":
        drawings, notes = _yolo(path, classes, images)
    elif program == "qupath":
        drawings, notes = _qupath(path, labels, images, width)
    else:
        drawings = {name: read_painted(f, len(classes.names)) for name, f in _files(path, PAINTED_SUFFIXES).items()}
    notes += _bare(path, drawings, rest) + _beyond(path, drawings)
    ids = tuple(drawings)
    catalogue = Catalogue(program, classes.names, classes.palette, {"all": ids}, {}, classes.background)
    return Drawings(catalogue, drawings, UNLABELLED if rest is None else labels[rest], notes)


def _bare(path: Path, drawings: Mapping[str, Drawing], rest: str | None) -> list[Finding]:
    """Finding for images without any drawing, if other images have drawings."""
    bare = [
        n
        for n, d in drawings.items()
        if not (d.strokes or d.areas) and (d.raster is None or (d.raster == UNLABELLED).all())
    ]
    if not bare or len(bare) == len(drawings):
        return []
    message = f"{len(bare)} images have nothing drawn on them, such as {bare[0]}: " + (
        "all their pixels are unlabelled" if rest is None else f"all their pixels become {rest}"
    )
    remedy = (
        "right if nobody has to draw on them"
        if rest is None
        else "right if they show nothing else; else leave them out"
    )
    severity: Severity = "note" if rest is None else "warning"
    return [Finding(severity, "nothing-drawn", bare[0], path, message, remedy, len(bare))]


def _beyond(path: Path, drawings: Mapping[str, Drawing]) -> list[Finding]:
    """Finding for shapes outside their image."""
    counts = {name: count for name, drawing in drawings.items() if (count := drawing.beyond())}
    if not counts:
        return []
    name = next(iter(counts))
    height, width = drawings[name].shape
    message = (
        f"{sum(counts.values())} shapes reach far beyond their image, such as on {name} of {width}x{height} pixels"
    )
    remedy = "what is outside is cut off; if there are many, they were drawn on an image of another size"
    return [Finding("warning", "outside-image", name, path, message, remedy, len(counts))]


def _labelme(path: Path, labels: Mapping[str, int], width: int) -> tuple[dict[str, Drawing], list[Finding]]:
    drawings: dict[str, Drawing] = {}
    files = _files(path, (".json",))
    others: dict[str, str] = {}
    for stem, file in files.items():
        drawing = read_labelme(file, labels, width=width)
        drawn_on = None if drawing.image is None else image_id(drawing.image)
        name = image_id(stem) if drawn_on == image_id(stem) else stem  # a.png.json is a file of a.png, if it says so
        if name in drawings:
            raise DataError(f"{file}: another file is of the same image {name!r}; move one of them away")
        drawings[name] = drawing
        others |= {name: str(drawing.image)} if drawn_on not in (None, name) else {}
    if not others:
        return drawings, []
    name, image = next(iter(others.items()))
    message = f"{len(others)} files were drawn on an image of another name, such as {name}: {image}"
    remedy = "they are taken for images of their own name; where that is wrong, rename the JSON files"
    file = next(file for stem, file in files.items() if name in (stem, image_id(stem)))
    return drawings, [Finding("warning", "other-image", name, file, message, remedy, len(others))]


def _by_image(files: Mapping[str, Path], images: Mapping[str, Path]) -> dict[str, Path]:
    """Files by the name of their image. The image of ``a.png.txt`` is ``a``, unless there is an image ``a.png.jpg``."""
    file_of: dict[str, Path] = {}
    for stem, file in files.items():
        name = stem if stem in images else image_id(stem)
        if name in file_of:
            raise DataError(f"{file}: {file_of[name].name} is of the same image {name!r}; move one of them away")
        file_of[name] = file
    return file_of


def _yolo(path: Path, classes: ClassList, images: Path | None) -> tuple[dict[str, Drawing], list[Finding]]:
    folder = images or images_beside(path)
    files = {name: f for name, f in _files(path, (".txt",)).items() if f.name not in NAME_FILES}
    numbers, note = class_numbers(path, classes)
    sizes = _sizes(folder)
    drawings: dict[str, Drawing] = {}
    boxed: dict[str, int] = {}
    files = _by_image(files, sizes)
    for name, file in files.items():
        drawings[name], boxes = read_yolo(file, numbers, _size(sizes, name, file, folder))
        boxed |= {name: boxes} if boxes else {}
    notes = [note]
    if boxed:
        first = next(iter(boxed))
        message = f"{sum(boxed.values())} objects have a box only, no outline: their pixels are void"
        remedy = "draw their outlines, or give their boxes to kind folder in a table, boxes.csv"
        notes.append(Finding("warning", "object-without-outline", first, files[first], message, remedy, len(boxed)))
    missing = sorted(set(sizes) - set(files))
    if path.is_dir() and missing:
        message = f"{len(missing)} images have no text file and are left out, such as {missing[0]}"
        remedy = "give those that show no object an empty text file"
        notes.append(Finding("note", "no-annotation", missing[0], folder, message, remedy, len(missing)))
    return drawings, notes


def _qupath(
    path: Path, labels: Mapping[str, int], images: Path | None, width: int
) -> tuple[dict[str, Drawing], list[Finding]]:
    folder = images or (path if path.is_dir() else path.parent)
    sizes = _sizes(folder)
    drawings: dict[str, Drawing] = {}
    bare: dict[str, int] = {}
    files = _by_image(_files(path, (".geojson", ".json")), sizes)
    for name, file in files.items():
        qupath_drawing = read_qupath(file, labels, _size(sizes, name, file, folder), width=width)
        drawings[name] = qupath_drawing.drawing
        bare |= {name: qupath_drawing.unclassified} if qupath_drawing.unclassified else {}
    if not bare:
        return drawings, []
    first = next(iter(bare))
    message = f"{sum(bare.values())} objects have no class: areas are void, lines and points are left out"
    remedy = "give them a class in QuPath"
    return drawings, [Finding("warning", "object-without-class", first, files[first], message, remedy, len(bare))]


def _sizes(folder: Path | None) -> dict[str, Path]:
    """Image files by name. Their headers contain the sizes."""
    return {} if folder is None else files_by_stem(folder, IMAGE_SUFFIXES)[0]


def _size(images: Mapping[str, Path], name: str, file: Path, folder: Path) -> tuple[int, int]:
    if name not in images:
        raise FileProblem("missing-file", file, f"no image {name!r} in {folder}", _ASK_FOR_IMAGES)
    return read_header(images[name]).shape


def _files(path: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The annotation files by their name without ending."""
    if path.is_file():
        return {unicodedata.normalize("NFC", path.stem): path}
    if not path.is_dir():
        raise FileProblem("missing-file", path, "no such file or folder", "give the exported file or its folder")
    files, doubtful = files_by_stem(path, suffixes)
    if not files:
        below = sorted({str(f.parent) for f in path.rglob("*") if f.suffix.lower() in suffixes})
        remedy = (
            f"such files are in {', '.join(below[:3])}; name that folder" if below else "give the folder of the export"
        )
        raise DataError(f"{path}: holds no file that ends in {' or '.join(suffixes)}; {remedy}")
    if doubtful:
        raise DataError(f"{doubtful[0].file}: another file has the same name without ending; move one of them away")
    return files
