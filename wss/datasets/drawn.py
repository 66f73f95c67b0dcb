"""Annotations out of drawing programs, as a data set without images, so that they can be converted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.datasets.classlist import ClassList
from wss.datasets.cvat import read_cvat
from wss.datasets.finding import FileProblem
from wss.datasets.labelme import read_labelme
from wss.datasets.listing import files_by_stem
from wss.datasets.painted import PAINTED_SUFFIXES, read_painted
from wss.datasets.shapes import Drawing
from wss.datasets.source import IGNORE_INDEX, Catalogue, Sample
from wss.errors import DataError
from wss.scribbles import rasterise

Program = Literal["labelme", "cvat", "painted"]
"""``labelme``: JSON, one file per image; ``cvat``: "CVAT for images 1.1", one XML file; ``painted``: label images of napari,
ilastik and other programs that count classes from 1 and leave 0 where nothing was painted."""


@dataclass(frozen=True)
class Drawings:
    """Drawings by image id behind the interface of a data set, in one split ``all``.

    Images are black, of the size that the file tells. Lines and points are strokes; with areas among them, or where the
    file is painted, a drawing is a raster: areas in their order, then strokes over them.

    Attributes:
        catalogue: Classes and ids.
        drawings: By image id.
        rest: Label of pixels in no shape; 255 leaves them unlabelled.
    """

    catalogue: Catalogue
    drawings: dict[str, Drawing]
    rest: int = IGNORE_INDEX

    def read(self, image_id: str) -> Sample:
        """One drawing with a black image.

        Raises:
            DataError: The file does not tell the size of the image.
        """
        drawing = self.drawings[image_id]
        black = np.broadcast_to(np.uint8(0), (*drawing.shape, 3))
        if drawing.raster is None and not drawing.areas and self.rest == IGNORE_INDEX:
            return Sample(image_id, black, strokes=drawing.strokes)
        return Sample(image_id, black, scribble=self._raster(drawing))

    def _raster(self, drawing: Drawing) -> NDArray[np.uint8]:
        labels = np.full(drawing.shape, self.rest, np.uint8)
        if drawing.raster is not None:
            return np.where(drawing.raster == IGNORE_INDEX, labels, drawing.raster)
        for label, outline in drawing.areas:
            cv2.fillPoly(labels, [np.rint(outline).astype(np.int32)], label)
        strokes = rasterise(drawing.strokes, drawing.shape)
        return np.where(strokes == IGNORE_INDEX, labels, strokes)


def open_drawings(
    path: Path, program: Program, classes: ClassList, *, rest: str | None = None, width: int = 3
) -> Drawings:
    """Read the annotations of a drawing program.

    Args:
        path: A file, or a folder of files (``labelme``, ``painted``).
        program: Which program wrote them.
        classes: The classes; names in the files must be among them, painted numbers count them from 1.
        rest: Class of pixels in no shape; None leaves them unlabelled.
        width: Brush width of lines in pixels, which the files do not tell.

    Raises:
        DataError: Nothing there, a file is damaged, an unknown class, or a shape that is none of lines, points and areas.
    """
    labels = {name: index for index, name in enumerate(classes.names)}
    if rest is not None and rest not in labels:
        raise DataError(f"--rest {rest}: no such class; the list has {', '.join(labels)}")
    if program == "cvat":
        drawings = read_cvat(path, labels, width=width)
    elif program == "labelme":
        drawings = {f.stem: read_labelme(f, labels, width=width) for f in _files(path, (".json",))}
    else:
        drawings = {f.stem: read_painted(f, len(labels)) for f in _files(path, PAINTED_SUFFIXES)}
    ids = tuple(drawings)
    catalogue = Catalogue(program, classes.names, classes.palette, {"all": ids}, {}, classes.background)
    return Drawings(catalogue, drawings, IGNORE_INDEX if rest is None else labels[rest])


def _files(path: Path, suffixes: Sequence[str]) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileProblem("missing-file", path, "no such file or folder", "give the exported file or its folder")
    found, doubtful = files_by_stem(path, suffixes)
    if not found:
        raise DataError(f"{path}: holds no file that ends in {' or '.join(suffixes)}; give the folder of the export")
    if doubtful:
        raise DataError(f"{doubtful[0].file}: another file has the same name without ending; move one of them away")
    return found.values()
