"""Scribbles of a data set in another format: of ScribbleSup, Labelme or CVAT, text polylines, or label images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.datasets.coco_writer import format_coco
from wss.datasets.cvat import file_name, format_cvat
from wss.datasets.files import Entry
from wss.datasets.labelme import format_labelme
from wss.datasets.painted import write_painted
from wss.datasets.source import Catalogue, Sample
from wss.datasets.strokes_io import format_polylines, format_xml
from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.params import nearest
from wss.scribbles import rasterise, skeleton_paths
from wss.scribbles.strokes import Stroke
from wss.store.atomic import replace_file, write_text

Format = Literal["xml", "txt", "png", "labelme", "cvat", "painted", "coco"]
"""``xml``: ScribbleSup's polygons of tags and points; ``txt``: ``class,x1,y1,...``, one stroke a line; ``png``: class
indices with 255 for unlabelled and the data set's palette; ``labelme``: its JSON; ``cvat``: one annotations.xml for all;
``painted``: TIFF as napari and ilastik have it, 0 for unlabelled and classes from 1; ``coco``: one instances.json for all, an
object for each connected region."""


_ENDINGS = {"labelme": "json", "painted": "tif"}


class Scribbles(Protocol):
    """Input of a conversion: a data set, or the result of ``open_drawings``."""

    @property
    def catalogue(self) -> Catalogue:
        """Classes, palette and ids."""
        ...

    def read(self, image_id: str) -> Sample:
        """One image with its scribble."""
        ...


def convert(
    source: Scribbles,
    folder: Path,
    to: Format,
    *,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> list[Path]:
    """Write every scribble of a data set to one file with the name of its image. The readers can read the files.

    ``cvat`` and ``coco`` write one file for all images; ``coco`` is read as masks. Strokes are drawn to make label images; label
    images are thinned to strokes along their centre lines. Stroke files do not contain the brush width. Existing files of the
    same name are replaced, unless they belong to the data set.

    Args:
        source: The data set.
        folder: Output folder; it is created if it does not exist.
        to: The format.
        ids: Image ids; None for all images of all splits.
        progress: Called with 1 and the image id after each image.

    Returns:
        The files written; images without a scribble have none.

    Raises:
        UsageError: No such format, or scribbles of the data set would be replaced.
        DataError: An image or its scribble cannot be read, or no image has a scribble.
    """
    if to not in get_args(Format):
        raise UsageError(f"no scribble format {to!r}{nearest(to, get_args(Format))}")
    if ids is None:
        ids = list(dict.fromkeys(i for split in source.catalogue.splits.values() for i in split))
    _keep_own(source, folder, to, ids)
    written = []
    together: list[tuple[str, tuple[int, int], Sequence[Stroke]]] = []
    regions: list[tuple[str, NDArray[np.uint8]]] = []
    for image_id in ids:
        sample = source.read(image_id)
        if sample.strokes is not None or sample.scribble is not None:
            if to == "coco":
                regions.append((_file_name(source, image_id), raster_of(sample)))
            elif to == "cvat":
                together.append((_file_name(source, image_id), _shape(sample), strokes_of(sample)))
            else:
                written.append(_write(folder, sample, source, to))
        if progress is not None:
            progress(1, image_id)
    if together:
        written.append(folder / "annotations.xml")
        write_text(written[0], format_cvat(together, source.catalogue.classes))
    if regions:
        written.append(folder / "instances.json")
        write_text(written[0], format_coco(regions, source.catalogue.classes, source.catalogue.background))
    if not written:
        raise DataError(f"no image of the {source.catalogue.kind} data set has a scribble; nothing to convert")
    return written


def _keep_own(source: Scribbles, folder: Path, to: Format, ids: Sequence[str]) -> None:
    """Raise if results would replace files of the data set, such as scribbles that a person drew."""
    entries: Mapping[str, Entry] = getattr(source, "entries", {})
    own = []
    for image_id in ids:
        path, entry = folder / f"{image_id}.{_ENDINGS.get(to, to)}", entries.get(image_id)
        if path.exists() and entry is not None:
            own += [
                path
                for f in (entry.image, entry.mask, entry.scribble)
                if f is not None and f.exists() and path.samefile(f)
            ]
    if own:
        raise UsageError(
            f"{own[0]} is a file of the data set, and would be replaced{f' ({len(own)} such files)' if len(own) > 1 else ''}; "
            "give --out another folder"
        )


def strokes_of(sample: Sample) -> tuple[Stroke, ...]:
    """The scribble as strokes; a raster is thinned to its centre lines."""
    if sample.strokes is not None:
        return sample.strokes
    return () if sample.scribble is None else tuple(skeleton_paths(sample.scribble))


def raster_of(sample: Sample) -> NDArray[np.uint8]:
    """The scribble as a label image, uint8 (H, W) with 255 for unlabelled; strokes are drawn."""
    if sample.scribble is not None:
        return sample.scribble
    return rasterise(sample.strokes or (), sample.image.shape[:2])


def _write(folder: Path, sample: Sample, source: Scribbles, to: Format) -> Path:
    path = folder / f"{sample.id}.{_ENDINGS.get(to, to)}"
    if to == "png":
        write_label(path, raster_of(sample), source.catalogue.palette)
        return path
    if to == "painted":
        write_painted(path, raster_of(sample))
        return path
    strokes, classes = strokes_of(sample), source.catalogue.classes
    if to == "xml":
        text = format_xml(sample.id, _shape(sample), strokes, classes)
    elif to == "labelme":
        text = format_labelme(_file_name(source, sample.id), _shape(sample), strokes, classes)
    else:
        text = format_polylines(strokes)
    write_text(path, text)
    return path


def _file_name(source: Scribbles, image_id: str) -> str:
    entries: Mapping[str, Entry] = getattr(source, "entries", {})
    return file_name(image_id, entries[image_id].image if image_id in entries else None)


def _shape(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[0], sample.image.shape[1]


def write_label(path: Path, labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write a label image as indexed PNG.

    Args:
        path: The file, replaced atomically.
        labels: uint8 (H, W), class indices and 255.
        palette: uint8 (K, 3), RGB colour per class; 255 is drawn in VOC's border colour.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[UNLABELLED] = (224, 224, 192)
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    with replace_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
