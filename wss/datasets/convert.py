"""Scribbles of a data set in another format: ScribbleSup XML, text polylines, or label images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.datasets.source import Sample, Source
from wss.datasets.strokes_io import format_polylines, format_xml
from wss.errors import DataError, UsageError
from wss.scribbles import rasterise, skeleton_paths
from wss.scribbles.strokes import Stroke
from wss.store.atomic import replace_file, write_text

Format = Literal["xml", "txt", "png"]
"""``xml``: ScribbleSup's polygons of tags and points; ``txt``: ``class,x1,y1,...``, one stroke a line; ``png``: class
indices with 255 for unlabelled and the data set's palette."""


def convert(
    source: Source,
    folder: Path,
    to: Format,
    *,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> list[Path]:
    """Write every scribble of a data set as one file, named as its image, that the readers read back.

    Strokes become label images by drawing them, label images become strokes along their centre lines; stroke files keep no
    brush width. Existing files of the same name are replaced.

    Args:
        source: The data set.
        folder: Where to write; made when missing.
        to: The format.
        ids: Images; None takes all of every split.
        progress: Called with 1 and the image id after each image.

    Returns:
        The files written; images without a scribble have none.

    Raises:
        UsageError: No such format.
        DataError: An image or its scribble cannot be read, or no image has a scribble.
    """
    if to not in ("xml", "txt", "png"):
        raise UsageError(f"no scribble format {to!r}; known: xml, txt, png")
    if ids is None:
        ids = list(dict.fromkeys(i for split in source.catalogue.splits.values() for i in split))
    written = []
    for image_id in ids:
        sample = source.read(image_id)
        if sample.strokes is not None or sample.scribble is not None:
            path = folder / f"{image_id}.{to}"
            _write(path, sample, source, to)
            written.append(path)
        if progress is not None:
            progress(1, image_id)
    if not written:
        raise DataError(f"no image of the {source.catalogue.kind} data set has a scribble; nothing to convert")
    return written


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


def _write(path: Path, sample: Sample, source: Source, to: Format) -> None:
    shape = (sample.image.shape[0], sample.image.shape[1])
    if to == "xml":
        write_text(path, format_xml(sample.id, shape, strokes_of(sample), source.catalogue.classes))
    elif to == "txt":
        write_text(path, format_polylines(strokes_of(sample)))
    else:
        write_label(path, raster_of(sample), source.catalogue.palette)


def write_label(path: Path, labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write a label image as indexed PNG.

    Args:
        path: The file, replaced atomically.
        labels: uint8 (H, W), class indices and 255.
        palette: uint8 (K, 3), RGB colour per class; 255 is drawn in VOC's border colour.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[255] = (224, 224, 192)
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    with replace_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
