"""Large images cut into tiles, with their annotations: a data set of kind ``folder``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from wss.datasets.files import FileSource, size_mismatch
from wss.datasets.finding import FileProblem
from wss.datasets.georeference import shifted
from wss.datasets.images import IMAGE_SUFFIXES
from wss.datasets.mask_files import mask_colours, write_mask_tiff
from wss.datasets.raster import MAX_PIXELS, opened, read_header
from wss.datasets.regions import RegionReader
from wss.datasets.source import Catalogue, Sample, Source
from wss.datasets.strokes_io import STROKE_SUFFIXES, format_polylines
from wss.datasets.tiff import geo_tags, open_tiff
from wss.datasets.tile_grid import TiledImage, TileSet, starts
from wss.datasets.value_map import ValueMap
from wss.datasets.whole_labels import whole_labels
from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke
from wss.store.atomic import replace_file, write_text

LARGE = MAX_PIXELS
"""Images with more pixels are read in parts."""

SPLITS = ("train", "val", "test")
"""Splits of a data set of kind ``folder``."""

_NODATA = 42113
_TIFF = (".tif", ".tiff")

Boxes = NDArray[np.int32]
Each = Callable[[Callable[..., "Cut"], Iterator[tuple[Any, ...]]], Iterator["Cut"]]
"""A function that calls a function with each tuple of arguments and yields the results in order."""


@dataclass(frozen=True)
class Cut:
    """One image that was cut.

    Attributes:
        image_id: The image.
        image: Its tiles.
        boxes: Boxes by tile, int32 (N, 5). Empty if the image has no box annotation.
        strokes: Whether the image has strokes.
        tags: Whether the image has image tags. Tiles do not get tags.
    """

    image_id: str
    image: TiledImage
    boxes: dict[str, Boxes]
    strokes: bool
    tags: bool


@dataclass(frozen=True)
class Parts:
    """An image that is read in parts.

    Attributes:
        shape: Height and width.
        picture: Function of top, left, height and width that reads RGB, uint8 (h, w, 3), and the mask of pixels with data.
        mask: The same for labels, uint8 (h, w), or None if there are none.
        scribble: The same for a scribble raster.
        strokes: Strokes in pixels of the whole image, or None.
        boxes: int32 (N, 5) in pixels of the whole image, or None.
        geo: GeoTIFF tags.
        tags: Whether the image has image tags.
    """

    shape: tuple[int, int]
    picture: Callable[[int, int, int, int], tuple[NDArray[np.uint8], NDArray[np.bool_] | None]]
    mask: Callable[[int, int, int, int], NDArray[np.uint8]] | None
    scribble: Callable[[int, int, int, int], NDArray[np.uint8]] | None
    strokes: tuple[Stroke, ...] | None
    boxes: Boxes | None
    geo: Sequence[tuple[Any, ...]] = ()
    tags: bool = False


def cut_tiles(
    source: Source,
    out: Path,
    size: int,
    overlap: int,
    *,
    each: Each | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> tuple[TileSet, list[str]]:
    """Cut the images of a data set with their masks, scribbles and boxes into a data set of kind ``folder``.

    Tiles are 8-bit RGB, as in the input of networks; values are stretched by the range of the whole image. All tiles of an
    image are in its split. Tiles without data are left out. Strokes are cut at the tile border.

    Args:
        source: The data set. The splits train, val and test are cut.
        out: Folder to write. It must not contain tiles.
        size: Side of tiles in pixels. Smaller images become one tile.
        overlap: Minimum number of pixels that neighbouring tiles share.
        each: Function that calls a function many times, possibly in several processes.
        progress: Called with 1 and the image id after each image.

    Returns:
        Content of ``tiles.json``, and messages about everything that was left out.

    Raises:
        UsageError: ``out`` holds images, the overlap does not fit, or the data set has none of these splits.
        DataError: An image or annotation cannot be read.
    """
    starts(size + 1, size, overlap)  # raises
    if (out / "images").exists() and any((out / "images").iterdir()):
        raise UsageError(f"{out / 'images'} holds files already; remove {out}, or give --out another folder")
    catalogue = source.catalogue
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for image_id in catalogue.splits.get(split, ()):
            split_of.setdefault(image_id, split)
    if not split_of:
        raise UsageError(
            f"the data set has no images in {', '.join(SPLITS)}; its splits are {', '.join(catalogue.splits)}"
        )
    notes = _left_out(catalogue, split_of)
    names = {image_id: image_id.replace("/", "__").replace("\\", "__") for image_id in split_of}
    _require_different(names)
    place = out.absolute()  # processes may have another current folder
    calls = ((source, i, names[i], split, place, size, overlap) for i, split in split_of.items())
    cuts = []
    for cut in (_cut(*call) for call in calls) if each is None else each(_cut, calls):
        cuts.append(cut)
        if progress is not None:
            progress(1, cut.image_id)
    palette = [[int(value) for value in colour] for colour in catalogue.palette]
    tiles = TileSet(size, overlap, list(catalogue.classes), palette, {cut.image_id: cut.image for cut in cuts})
    _write_lists(out, tiles, catalogue)
    _write_boxes(out, cuts, catalogue.classes)
    empty = sum(len(cut.image.empty) for cut in cuts)
    if empty:
        notes.append(f"{empty} tiles without any data are left out")
    if any(cut.tags for cut in cuts):
        notes.append("image tags are left out: they do not tell in which tile a class is")
    tiles.write(out)
    return tiles, notes


def _left_out(catalogue: Catalogue, split_of: dict[str, str]) -> list[str]:
    notes = []
    for split, ids in catalogue.splits.items():
        if split not in SPLITS:
            rest = sum(i not in split_of for i in ids)
            notes.append(f"split {split} is left out ({rest} of its images are in none of {', '.join(SPLITS)})")
    twice = sum(len(catalogue.splits.get(split, ())) for split in SPLITS) - len(split_of)
    if twice:
        notes.append(f"{twice} images are in two splits; their tiles are in the first of them")
    return notes


def _require_different(names: dict[str, str]) -> None:
    first: dict[str, str] = {}
    for image_id, name in names.items():
        other = first.setdefault(name, image_id)
        if other != image_id:
            raise UsageError(f"tiles of images {other!r} and {image_id!r} would have one name; rename one of them")


def _cut(source: Source, image_id: str, name: str, split: str, out: Path, size: int, overlap: int) -> Cut:
    """Cut one image and write its tiles."""
    with _parts(source, image_id) as parts:
        height, width = parts.shape
        rows, columns = starts(height, size, overlap), starts(width, size, overlap)
        geo = tuple(tuple(tag) for tag in parts.geo)
        tile_shape = (min(size, height), min(size, width))
        image = TiledImage(name, split, height, width, *tile_shape, rows, columns, (), geo)
        empty = []
        boxes = {}
        for tile, top, left in image.tiles():
            if not _write_tile(out, tile, parts, source.catalogue.palette, (top, left, *tile_shape)):
                empty.append(tile)
            elif parts.boxes is not None:
                boxes[tile] = clip_boxes(parts.boxes, top, left, *tile_shape)
        image = TiledImage(name, split, height, width, *tile_shape, rows, columns, tuple(empty), geo)
        return Cut(image_id, image, boxes, bool(parts.strokes), parts.tags)


def _write_tile(
    out: Path, tile: str, parts: Parts, palette: NDArray[np.uint8], window: tuple[int, int, int, int]
) -> bool:
    """Write one tile with its annotations. Returns False if the tile has no data."""
    rgb, valid = parts.picture(*window)
    if valid is not None and not valid.any():
        return False
    geo = shifted(parts.geo, window[0], window[1])
    _write_picture(out / "images", tile, rgb, valid, geo)
    for folder, read in (("masks", parts.mask), ("scribbles", parts.scribble)):
        labels = None if read is None else read(*window)
        if labels is None or (folder == "scribbles" and (labels == UNLABELLED).all()):
            continue
        if valid is not None:
            labels = np.where(valid, labels, np.uint8(UNLABELLED))
        if geo:
            write_mask_tiff(out / folder / f"{tile}.tif", [labels], labels.shape, palette, geo, flush=False)
        else:
            indexed = Image.fromarray(labels)
            indexed.putpalette(mask_colours(palette).tobytes())
            _write_png(out / folder / f"{tile}.png", indexed)
    strokes = clip_strokes(parts.strokes or (), *window)
    if strokes:
        write_text(out / "scribbles" / f"{tile}.txt", format_polylines(strokes), flush=False)
    return True


def _write_picture(
    folder: Path, tile: str, rgb: NDArray[np.uint8], valid: NDArray[np.bool_] | None, geo: Sequence[tuple[Any, ...]]
) -> None:
    """Write PNG, or TIFF for tags or pixels without data. Pixels without data are 0; black pixels with data become 1."""
    tags = list(geo)
    if valid is not None and not valid.all():
        rgb = np.where(valid[..., None], np.where((rgb == 0).all(-1, keepdims=True), np.uint8(1), rgb), np.uint8(0))
        tags.append((_NODATA, 2, 2, "0", True))
    if not tags:
        _write_png(folder / f"{tile}.png", Image.fromarray(rgb))
        return
    with replace_file(folder / f"{tile}.tif", flush=False) as temporary:
        tifffile.imwrite(temporary, rgb, photometric="rgb", compression="deflate", extratags=tags, metadata=None)


def _write_png(path: Path, image: Image.Image) -> None:
    with replace_file(path, flush=False) as temporary:
        image.save(temporary, "PNG")


@contextmanager
def _parts(source: Source, image_id: str) -> Iterator[Parts]:
    path = _own_file(source, image_id)
    if path is not None and isinstance(source, FileSource):
        shape = read_header(path).shape
        if shape[0] * shape[1] > LARGE:
            with ExitStack() as stack:
                yield _large(source, image_id, path, stack)
            return
    yield _whole(source.read(image_id), path)


def _own_file(source: Source, image_id: str) -> Path | None:
    """The image's file if it contains only this image, else None."""
    if not isinstance(source, FileSource) or not source.one_image_per_file:
        return None
    path = source.entry(image_id).image
    return path if path.suffix.lower() in IMAGE_SUFFIXES else None


def _whole(sample: Sample, path: Path | None) -> Parts:
    def cutter(values: NDArray[Any] | None) -> Any:
        if values is None:
            return None
        return lambda top, left, height, width: values[top : top + height, left : left + width]

    image, valid = cutter(sample.image), cutter(sample.valid)
    geo: Sequence[tuple[Any, ...]] = ()
    if path is not None and path.suffix.lower() in _TIFF:
        with opened(path, "unreadable-image"), open_tiff(path) as layout:
            geo = geo_tags(layout.page) if layout.orientation == 1 else ()
    return Parts(
        (sample.image.shape[0], sample.image.shape[1]),
        lambda *window: (np.ascontiguousarray(image(*window)), None if valid is None else valid(*window)),
        cutter(sample.mask),
        cutter(sample.scribble),
        sample.strokes,
        sample.boxes,
        geo,
        sample.tags is not None,
    )


def _large(source: FileSource, image_id: str, path: Path, stack: ExitStack) -> Parts:
    """An image too large for memory, and its annotations."""
    if path.suffix.lower() not in _TIFF:
        message = f"has more than {LARGE} pixels, and only TIFF can be read part by part"
        remedy = "save it as a tiled TIFF (vips tiffsave IN OUT.tif --tile, or gdal_translate -co TILED=YES IN OUT.tif)"
        raise FileProblem("too-large", path, message, remedy)
    entry = source.entry(image_id)
    reader = stack.enter_context(RegionReader(path, source.options))
    strokes = None
    scribble = None
    if entry.scribble is not None and entry.scribble.suffix.lower() in STROKE_SUFFIXES:
        annotation = source.load_scribble(image_id)
        strokes = annotation if isinstance(annotation, tuple) else None
        for stroke in strokes or ():
            source.require_class(entry.scribble, stroke.label)
    elif entry.scribble is not None:
        scribble = _labels_of(source, entry.scribble, source.options.scribble_values, path, reader.shape, stack)
    return Parts(
        reader.shape,
        reader.read,
        None
        if entry.mask is None
        else _labels_of(source, entry.mask, source.options.mask_values, path, reader.shape, stack),
        scribble,
        strokes,
        source.load_boxes(image_id),
        reader.geo,
    )


def _labels_of(
    source: FileSource, path: Path, values: ValueMap, image: Path, shape: tuple[int, int], stack: ExitStack
) -> Callable[[int, int, int, int], NDArray[np.uint8]]:
    if path.suffix.lower() not in _TIFF:
        message = f"belongs to an image of more than {LARGE} pixels, and only TIFF can be read part by part"
        raise FileProblem("too-large", path, message, "save it as a tiled TIFF with class indices")
    reader: RegionReader = stack.enter_context(_opened(path))
    if reader.shape != shape:
        raise size_mismatch(path, reader.shape, shape, image)

    def read(top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        labels = whole_labels(reader.stored(top, left, height, width), path, source.options.ignore, values)
        source.require_labels(path, labels, labels.shape, image)
        return labels

    return read


def _opened(path: Path) -> AbstractContextManager[RegionReader]:
    return RegionReader(path)


def clip_boxes(boxes: Boxes, top: int, left: int, height: int, width: int) -> Boxes:
    """The parts of boxes inside a tile, in pixels of the tile.

    Args:
        boxes: int32 (N, 5), rows ``class, x0, y0, x1, y1``. Corners belong to the box.
        top: First row of the tile.
        left: First column of the tile.
        height: Rows of the tile.
        width: Columns of the tile.
    """
    moved = boxes.reshape(-1, 5) - np.array([0, left, top, left, top], np.int32)
    inside = (moved[:, 1] < width) & (moved[:, 2] < height) & (moved[:, 3] >= 0) & (moved[:, 4] >= 0)
    moved = moved[inside]
    moved[:, 1:3] = np.maximum(moved[:, 1:3], 0)
    moved[:, 3:] = np.minimum(moved[:, 3:], np.array([width - 1, height - 1], np.int32))
    return np.asarray(moved, np.int32)


def clip_strokes(strokes: Sequence[Stroke], top: int, left: int, height: int, width: int) -> list[Stroke]:
    """The parts of strokes inside a tile, in pixels of the tile. A stroke that leaves the tile and returns is split.

    Args:
        strokes: Strokes in pixels of the image.
        top: First row of the tile.
        left: First column of the tile.
        height: Rows of the tile.
        width: Columns of the tile.
    """
    low, high = np.array([-0.5, -0.5]), np.array([width - 0.5, height - 0.5])
    clipped = []
    for stroke in strokes:
        points = stroke.points - np.array([left, top], np.float64)
        if len(points) == 1:
            pieces = [[points[0]]] if ((points[0] >= low) & (points[0] < high)).all() else []
        else:
            pieces = _pieces(points, low, high)
        clipped += [Stroke(stroke.label, np.array(piece), stroke.width) for piece in pieces]
    return clipped


def _pieces(points: NDArray[np.float64], low: NDArray[Any], high: NDArray[Any]) -> list[list[NDArray[np.float64]]]:
    """The runs of a polyline inside a rectangle."""
    pieces: list[list[NDArray[np.float64]]] = []
    open_end = False
    for start, end in pairwise(points):
        span = _inside(start, end, low, high)
        if span is None:
            open_end = False
            continue
        first, last = (np.clip(start + share * (end - start), low, high) for share in span)
        if not (open_end and span[0] == 0):
            pieces.append([first])
        pieces[-1].append(last)
        open_end = span[1] == 1
    return pieces


def _inside(
    start: NDArray[Any], end: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> tuple[float, float] | None:
    """Start and end of the part of a segment inside a rectangle, as shares of its length (Liang and Barsky)."""
    enter, leave = 0.0, 1.0
    for axis in range(2):
        step = float(end[axis] - start[axis])
        for distance, towards in ((float(low[axis] - start[axis]), step), (float(start[axis] - high[axis]), -step)):
            if towards == 0:
                if distance > 0:
                    return None
            elif towards > 0:
                enter = max(enter, distance / towards)
            else:
                leave = min(leave, distance / towards)
    return (enter, leave) if enter <= leave else None


def _write_lists(out: Path, tiles: TileSet, catalogue: Catalogue) -> None:
    for split in SPLITS:
        if split in catalogue.splits:
            images = [image for image in tiles.images.values() if image.split == split]
            names = [name for image in images for name in image.written()]
            write_text(out / f"{split}.txt", "".join(f"{name}\n" for name in names))
    content = {
        "classes": list(catalogue.classes),
        "palette": [list(colour) for colour in tiles.palette],
        "background": catalogue.background,
    }
    write_text(out / "classes.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _write_boxes(out: Path, cuts: Sequence[Cut], classes: Sequence[str]) -> None:
    """Write a row for each box. A tile without boxes has a row with only its name."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "class", "x0", "y0", "x1", "y1"])
    tiles = [(tile, boxes) for cut in cuts for tile, boxes in cut.boxes.items()]
    for tile, boxes in tiles:
        rows.writerows([tile, classes[label], *corners] for label, *corners in boxes.tolist())
        if not len(boxes):
            rows.writerow([tile, "", "", "", "", ""])
    if tiles:
        write_text(out / "boxes.csv", text.getvalue())
