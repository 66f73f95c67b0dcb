"""Joining of tile masks into masks of whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.datasets.convert import write_label
from wss.datasets.files import annotation_files
from wss.datasets.finding import FileProblem
from wss.datasets.images import LABEL_SUFFIXES, read_label
from wss.datasets.mask_files import TILE, write_mask_tiff
from wss.datasets.raster import MAX_PIXELS
from wss.datasets.tile_grid import TiledImage, TileSet, owned
from wss.errors import DataError
from wss.labels import UNLABELLED

LARGE = MAX_PIXELS
"""Masks with more pixels are written as TIFF."""


def join_tiles(
    tiles: TileSet, folder: Path, out: Path, *, progress: Callable[[int, str], None] | None = None
) -> tuple[list[Path], int]:
    """Join the masks of tiles.

    Where tiles overlap, the tile with the nearest centre is used. Pixels of tiles that were not written, because they had no
    data, are 255. If the mask is written as TIFF, memory holds one row of tiles; if it is written as PNG, the whole mask.

    Args:
        tiles: Description of the tiles.
        folder: Masks of tiles, class indices.
        out: Folder for the masks of images: TIFF for images with GeoTIFF's tags or more than 80 million pixels, else PNG.
        progress: Called with 1 and the image id after each image.

    Returns:
        The files of the masks, and the number of images that were skipped because none of their tiles has a mask.

    Raises:
        DataError: No mask of any tile, an image with masks for some of its tiles only, or a mask of another size.
    """
    masks, _ = annotation_files([folder], LABEL_SUFFIXES)
    palette = np.array(tiles.palette, np.uint8)
    written = []
    without = 0
    for image_id, image in tiles.images.items():
        if _complete(image_id, image, masks, folder):
            written.append(_join(image, masks, out, palette))
        else:
            without += 1
        if progress is not None:
            progress(1, image_id)
    if not written:
        raise DataError(
            f"{folder}: no mask of any tile, such as {_first(tiles)}.png; give the folder that `wss predict` wrote for the tiles"
        )
    return written, without


def _first(tiles: TileSet) -> str:
    return next((name for image in tiles.images.values() for name, _, _ in image.tiles()), "NAME_y0000_x0000")


def _complete(image_id: str, image: TiledImage, masks: Mapping[str, Path], folder: Path) -> bool:
    """True if all tiles have masks; False if none has."""
    names = image.written()
    missing = [name for name in names if name not in masks]
    if len(missing) == len(names):
        return False
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} tiles of image {image_id!r} have no mask, such as {missing[0]}; "
            "predict them all, or take the masks of this image out of the folder"
        )
    return True


def _join(image: TiledImage, masks: Mapping[str, Path], out: Path, palette: NDArray[np.uint8]) -> Path:
    shape = (image.height, image.width)
    bands = _bands(image, masks)
    if image.geo or shape[0] * shape[1] > LARGE:
        path = out / f"{image.name}.tif"
        write_mask_tiff(path, _in_steps(bands, TILE), shape, palette, image.geo)
        return path
    path = out / f"{image.name}.png"
    write_label(path, np.concatenate(list(bands)), palette)
    return path


def _bands(image: TiledImage, masks: Mapping[str, Path]) -> Iterator[NDArray[np.uint8]]:
    """The mask from top to bottom, in bands: the rows for which each row of tiles is used."""
    columns = list(zip(image.columns, owned(image.columns, image.tile_width, image.width), strict=True))
    for top, (first, end) in zip(image.rows, owned(image.rows, image.tile_height, image.height), strict=True):
        band = np.full((end - first, image.width), UNLABELLED, np.uint8)
        for left, (begin, stop) in columns:
            path = masks.get(image.tile(top, left))
            if path is not None:
                labels = _tile(path, image)
                band[:, begin:stop] = labels[first - top : end - top, begin - left : stop - left]
        yield band


def _tile(path: Path, image: TiledImage) -> NDArray[np.uint8]:
    labels = read_label(path)
    if labels.shape != (image.tile_height, image.tile_width):
        message = f"{labels.shape[1]}x{labels.shape[0]} pixels, the tile has {image.tile_width}x{image.tile_height}"
        raise FileProblem("size-mismatch", path, message, "predict the tiles at their own size")
    return labels


def _in_steps(bands: Iterable[NDArray[np.uint8]], step: int) -> Iterator[NDArray[np.uint8]]:
    """Regroup rows into parts whose height is a multiple of ``step``, except for the last part."""
    rest: NDArray[np.uint8] | None = None
    for band in bands:
        rows = band if rest is None else np.concatenate([rest, band])
        whole = len(rows) - len(rows) % step
        if whole:
            yield rows[:whole]
        rest = rows[whole:]
    if rest is not None and len(rest):
        yield rest
