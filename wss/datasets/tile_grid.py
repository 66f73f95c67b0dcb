"""Positions of the tiles of an image, and the pixels that each tile decides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from wss.datasets.finding import FileProblem
from wss.errors import UsageError
from wss.store.atomic import write_text

TILES_FILE = "tiles.json"
_FORMAT = "wss tiles"
_VERSION = 1

GeoTags = Sequence[tuple[Any, ...]]
"""Tags in the form of ``tifffile``: code, type, count, value, and True for the first page only."""


def starts(length: int, size: int, overlap: int) -> tuple[int, ...]:
    """The first pixels of the tiles along one side; the last tile ends with the image.

    Args:
        length: Pixels of the side.
        size: Pixels of a tile. A shorter side has one tile.
        overlap: Minimum number of pixels that neighbouring tiles share.

    Raises:
        UsageError: ``overlap`` is not from 0 to below ``size``.
    """
    if not 0 <= overlap < size:
        raise UsageError(f"an overlap of {overlap} pixels; expected 0 to {size - 1} for tiles of {size}")
    if length <= size:
        return (0,)
    inner = range(0, length - size, size - overlap)
    return (*inner, length - size)


def owned(places: Sequence[int], size: int, length: int) -> list[tuple[int, int]]:
    """The pixels along one side that each tile decides: those nearest to its centre. Ties go to the first tile.

    Args:
        places: First pixels of tiles, ascending.
        size: Pixels of a tile.
        length: Pixels of the side.

    Returns:
        For each tile, the first pixel and the pixel after the last.
    """
    ends = [(one + other + size - 1) // 2 + 1 for one, other in pairwise(places)]
    return list(zip([0, *ends], [*ends, length], strict=True))


@dataclass(frozen=True)
class TiledImage:
    """The tiles of one image.

    Attributes:
        name: Prefix of the tiles' names.
        split: The image's split.
        height: Rows.
        width: Columns.
        tile_height: Rows of a tile.
        tile_width: Columns of a tile.
        rows: First rows of tiles.
        columns: First columns of tiles.
        empty: Names of tiles that were not written because they have no data.
        geo: GeoTIFF tags of the image.
    """

    name: str
    split: str
    height: int
    width: int
    tile_height: int
    tile_width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    empty: tuple[str, ...] = ()
    geo: tuple[tuple[Any, ...], ...] = ()

    def tile(self, top: int, left: int) -> str:
        """The name of a tile."""
        return f"{self.name}_y{top:04d}_x{left:04d}"

    def written(self) -> list[str]:
        """Names of the tiles that have data."""
        empty = set(self.empty)
        return [name for name, _, _ in self.tiles() if name not in empty]

    def tiles(self) -> Iterator[tuple[str, int, int]]:
        """Names, first rows and first columns of all tiles, from top to bottom."""
        for top in self.rows:
            for left in self.columns:
                yield self.tile(top, left), top, left


@dataclass(frozen=True)
class TileSet:
    """Content of ``tiles.json``.

    Attributes:
        size: Side of tiles.
        overlap: Minimum number of pixels that neighbouring tiles share.
        classes: Class names.
        palette: One ``[r, g, b]`` per class.
        images: By image id.
    """

    size: int
    overlap: int
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    images: Mapping[str, TiledImage] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write ``tiles.json`` into a folder."""
        path = folder / TILES_FILE
        content = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        write_text(path, json.dumps(content, indent=1) + "\n")
        return path


def read_tiles(path: Path) -> TileSet:
    """Read ``tiles.json``.

    Raises:
        DataError: Missing, damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT or content.pop("version") != _VERSION:
            raise ValueError("of another format or version")
        images = {
            image_id: TiledImage(
                **{**record, **{n: tuple(record[n]) for n in ("rows", "columns", "empty")}, "geo": _tags(record["geo"])}
            )
            for image_id, record in content.pop("images").items()
        }
        return TileSet(**content, images=images)
    except FileNotFoundError:
        remedy = "name the file that `wss data tile` wrote with --tiles, or its workspace with --workspace"
        raise FileProblem("missing-file", path, "no such file", remedy) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"not what `wss data tile` writes ({error!r})"
        raise FileProblem("malformed-file", path, message, "cut the tiles again") from None


def _tags(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple((*row[:3], tuple(row[3]) if isinstance(row[3], list) else row[3], row[4]) for row in rows)
