"""Writing of masks as TIFF files: indexed, tiled, and with the geographic position of their image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.store.atomic import replace_file

TILE = 256
_NODATA = 42113
_BORDER = (224, 224, 192)


def write_mask_tiff(
    path: Path,
    rows: Iterable[NDArray[np.uint8]],
    shape: tuple[int, int],
    palette: NDArray[np.uint8],
    geo: Sequence[tuple[Any, ...]] = (),
    *,
    flush: bool = True,
) -> None:
    """Write a mask as an indexed TIFF with deflated tiles. An existing file is replaced atomically.

    Args:
        path: The file.
        rows: The mask from top to bottom in parts, uint8 (h, width). h is a multiple of 256, except for the last part.
        shape: Height and width.
        palette: uint8 (K, 3), colours of the classes; 255 has VOC's border colour.
        geo: GeoTIFF's tags of the image (``geo_tags``). With tags, 255 is marked as no data.
        flush: Wait until the data is on the disk, see ``replace_file``.
    """
    tags = [*geo, (_NODATA, 2, 4, "255", True)] if geo else []
    with replace_file(path, flush=flush) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(rows, shape[1]),
            shape=shape,
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="palette",
            colormap=mask_colours(palette).T.astype(np.uint16) * 257,
            compression="deflate",
            extratags=tags,
            metadata=None,
        )


def mask_colours(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours of all values of an indexed mask, uint8 (256, 3).

    Args:
        palette: uint8 (K, 3), the colours of classes; 255 has VOC's border colour, and the others are black.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[UNLABELLED] = _BORDER
    return colours


def _tiles(rows: Iterable[NDArray[np.uint8]], width: int) -> Iterator[NDArray[np.uint8]]:
    for part in rows:
        for top in range(0, part.shape[0], TILE):
            for left in range(0, width, TILE):
                tile = np.full((TILE, TILE), UNLABELLED, np.uint8)
                piece = part[top : top + TILE, left : left + TILE]
                tile[: piece.shape[0], : piece.shape[1]] = piece
                yield tile
