"""``wss data tile`` and ``wss data join``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wss.cli import options


@options.common("workspace", "jobs", "quiet", "as_json")
def tile(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the data set of tiles.")],
    size: Annotated[int, typer.Option(min=16, help="Side of tiles in pixels.")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="Overlap of neighbouring tiles in pixels.")] = 64,
    *,
    common: options.Common,
) -> None:
    """Cut large images with their masks, scribbles and boxes into a data set of kind folder.

    All tiles of an image are in the image's split. TIFF of any size is read part by part, and its georeference is kept.
    tiles.json records the place of each tile.

    Example: wss data tile -w maps --size 512 --overlap 64 --out tiles
    """
    import shlex
    from functools import partial

    from wss.datasets import open_source
    from wss.datasets.files import FileSource, ReadOptions
    from wss.datasets.tiling import cut_tiles
    from wss.stages.parallel import each

    with common.session() as session:
        source = open_source(session.workspace.dataset())
        session.guard(out, [f"{folder}/x" for folder in ("images", "masks", "scribbles")])
        count = len({i for split in ("train", "val", "test") for i in source.catalogue.splits.get(split, ())})
        tiles, notes = cut_tiles(
            source,
            out,
            size,
            overlap,
            each=partial(each, jobs=session.jobs),
            progress=session.context.progress.task("cutting", count),
        )
        for note in notes:
            session.terminal.say(note)
        width = source.options.scribble_width if isinstance(source, FileSource) else ReadOptions().scribble_width
        more = "" if width == ReadOptions().scribble_width else f" -o scribble_width={width}"
        following = f"wss init --kind folder --root {shlex.quote(str(out))}{more} --workspace ..."
        numbers = {i: len(image.rows) * len(image.columns) - len(image.empty) for i, image in tiles.images.items()}
        session.terminal.result(
            {"images": len(numbers), "tiles": sum(numbers.values()), "out": str(out)},
            lambda: session.terminal.line(
                f"{len(numbers)} images -> {sum(numbers.values())} tiles in {out}\nnext: {following}"
            ),
        )


@options.common("workspace", "quiet", "as_json")
def join(
    masks: Annotated[Path, typer.Argument(help="Folder with the masks of the tiles, written by `wss predict`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks of images.")],
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="tiles.json, or its folder; default: the folder of the masks, or of the workspace's data set.",
            show_default=False,
        ),
    ] = None,
    *,
    common: options.Common,
) -> None:
    """Join masks of tiles into masks of the images; where tiles overlap, the tile with the nearest centre wins.

    Example: wss data join predictions -o joined -w tiles-work
    """
    from wss.datasets.joining import join_tiles
    from wss.datasets.tile_grid import read_tiles

    with common.session() as session:
        record = read_tiles(_tiles_file(masks, tiles, session))
        session.guard(out, [image.name for image in record.images.values()])
        advance = session.context.progress.task("joining", len(record.images))
        written, without = join_tiles(record, masks, out, progress=advance)
        if without:
            session.terminal.say(f"{without} images have no masks of tiles in {masks} and are skipped")
        session.terminal.result(
            {"files": [str(path) for path in written], "left_out": without},
            lambda: session.terminal.line(f"{len(written)} masks written to {out}"),
        )


def _tiles_file(masks: Path, given: Path | None, session: Any) -> Path:
    from wss.datasets.tile_grid import TILES_FILE

    if given is not None:
        return given / TILES_FILE if given.is_dir() else given
    root = session.workspace.dataset().root if session.workspace.configured else None
    if not (masks / TILES_FILE).exists() and root is not None:
        return Path(root) / TILES_FILE
    return masks / TILES_FILE
