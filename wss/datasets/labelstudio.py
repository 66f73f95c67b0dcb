"""Label Studio's JSON export, and its export of one PNG per label."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cvat import image_id
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import IMAGE_SUFFIXES, MAX_PIXELS, read_label
from wss.datasets.listing import files_by_stem
from wss.datasets.packed_rle import decode_packed
from wss.datasets.rle import RleError
from wss.datasets.shapes import Area, Drawing, Patch, box_outline, ellipse_outline, turned
from wss.datasets.strokes_io import FAR, label_of
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

MAX_BYTES = 2**30
"""Larger exports are refused. A brush label needs some hundred kilobytes."""

SizeOf = Callable[[str], tuple[int, int] | None]
"""Height and width of an image by its id, or None."""

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_PNG = re.compile(r"task-(\d+)(?:-annotation-(\d+)(?:-by-.*?)?)?-(.+)-\d+")
_REGIONS = ("polygon", "rectangle", "ellipse", "keypoint", "brush")
_ABOUT_REGIONS = ("choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise")
"""Results about a whole image, or about a region that another result already describes."""


def read_labelstudio(
    path: Path, labels: Mapping[str, int], size_of: SizeOf, *, width: int = 3
) -> tuple[dict[str, Drawing], list[Finding]]:
    """Read an export.

    JSON and JSON-MIN: brush labels, polygons, rectangles and ellipses (also rotated ones) are areas in the order of the file; key
    points and open polygons are strokes. A folder of PNG files has one file per label, with the task's number in its name. A JSON
    export in the same folder gives the image of each task; without it, the images are called ``task-N``. The eight digits that
    Label Studio adds before the names of uploaded files are removed.

    Args:
        path: The JSON file, or a folder that holds it or the PNG files.
        labels: Class index by name.
        size_of: Returns the size of images without regions. For images with regions, the file contains the size.
        width: Brush width of the strokes in pixels. The file does not contain it.

    Returns:
        Drawings by image id, and findings about skipped parts.

    Raises:
        DataError: Missing, damaged, an unknown class, a region of another kind, an image that was turned in Label Studio, or
            an image that several people annotated.
    """
    if not path.is_dir():
        return _from_json(path, labels, size_of, width)
    exports = sorted(path.glob("*.json"))
    if len(exports) > 1:
        raise _malformed(path, f"{len(exports)} JSON files; give one of them")
    pictures, _ = files_by_stem(path, (".png",))
    pictures = {name: file for name, file in pictures.items() if name.startswith("task-")}
    if pictures:
        return _from_pictures(path, pictures, exports[0] if exports else None, labels)
    if not exports:
        raise _malformed(path, "neither a JSON file nor PNG files named task-...")
    return _from_json(exports[0], labels, size_of, width)


def _from_json(
    path: Path, labels: Mapping[str, int], size_of: SizeOf, width: int
) -> tuple[dict[str, Drawing], list[Finding]]:
    drawings: dict[str, Drawing] = {}
    left_out: dict[str, list[str]] = defaultdict(list)
    for number, task in enumerate(_tasks(path), 1):
        name = _image_of(path, number, task)
        results = _results(path, name, task)
        if results is None:
            left_out["are not annotated"].append(name)
            continue
        if name in drawings:
            raise _malformed(
                path,
                f"image {name!r} is there twice: two tasks have it, or two annotations in JSON-MIN",
                "give every image its own file name; of several annotations, export JSON and mark one as ground truth",
            )
        drawing, ignored = _drawing(path, name, results, labels, size_of, width)
        for kind in ignored:
            left_out[f"have results of kind {kind!r}, which is no region"].append(name)
        if drawing is None:
            left_out["have no region, and --images does not tell their size,"].append(name)
        else:
            drawings[name] = drawing
    notes = [
        Finding("note", "left-out", names[0], path, f"{len(names)} images {why}: left out", "nothing to do", len(names))
        for why, names in left_out.items()
    ]
    if not drawings:
        raise _malformed(path, "; ".join(note.message for note in notes) or "holds no task")
    return drawings, notes


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _malformed(path, f"{size} bytes, more than the limit of {MAX_BYTES}")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FileProblem(
            "missing-file", path, f"cannot be read ({error.strerror})", "give the exported file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"not a JSON file ({str(error)[:80]})") from None
    tasks = [content] if isinstance(content, dict) else content
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise _malformed(path, "no list of tasks")
    return tasks


def _image_of(path: Path, number: int, task: Mapping[str, Any]) -> str:
    """The id of a task's image: the file name in its data."""
    data = task.get("data", task)
    texts = {k: v for k, v in data.items() if isinstance(v, str)} if isinstance(data, dict) else {}
    names = {key: name for key, text in texts.items() if (name := _file_in(text)) is not None}
    name = names.get("image") or (next(iter(names.values())) if len(set(names.values())) == 1 else None)
    if name is None:
        raise _malformed(
            path, f"task {task.get('id', number)} names {len(names)} image files in its data, expected one"
        )
    return image_id(name)


def _file_in(text: str) -> str | None:
    """The file name at the end of an image's path or address, without the prefix of uploads; None for other texts."""
    parts = urlsplit(text.replace("\\", "/"))
    given = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = PurePosixPath(given).name
    if PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    uploaded = _UPLOADED.fullmatch(name) if "/upload/" in given else None
    return uploaded[1] if uploaded else name


def _results(path: Path, name: str, task: Mapping[str, Any]) -> list[Any] | None:
    """The results of a task's annotation, or None if the task is not annotated."""
    annotations = task.get("annotations", task.get("completions"))
    if annotations is None:  # JSON-MIN: lists of values beside the data
        items = [item for value in task.values() if isinstance(value, list) for item in value if isinstance(item, dict)]
        return [{"value": item, **item} for item in items] or None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise _malformed(path, f"image {name!r}: no list of annotations")
    done = [one for one in annotations if not one.get("was_cancelled")]
    if len(done) > 1:
        done = [one for one in done if one.get("ground_truth")] or done
    if len(done) > 1:
        message = f"image {name!r} has {len(done)} annotations, by several people or of several times"
        remedy = "mark one of them as ground truth, or delete the others, and export again"
        raise FileProblem("malformed-file", path, message, remedy)
    if not done:
        return None
    results = done[0].get("result")
    if not isinstance(results, list):
        raise _malformed(path, f"image {name!r}: an annotation without results")
    return results


def _drawing(
    path: Path, name: str, results: Sequence[Any], labels: Mapping[str, int], size_of: SizeOf, width: int
) -> tuple[Drawing | None, list[str]]:
    """The drawing of an image, or None if its size is unknown; and the kinds of results that are not regions."""
    strokes: list[Stroke] = []
    areas: list[Area | Patch] = []
    sizes: set[tuple[int, int]] = set()
    ignored: dict[str, None] = {}
    targets = sorted({str(one["to_name"]) for one in results if isinstance(one, dict) and one.get("to_name")})
    pages = {one.get("item_index") or 0 for one in results if isinstance(one, dict)}
    if len(targets) > 1 or len(pages) > 1:
        what = f"{', '.join(targets)}" if len(targets) > 1 else f"pages {', '.join(map(str, sorted(pages, key=str)))}"
        message = f"image {name!r} has regions on several images of its task ({what})"
        raise FileProblem("malformed-file", path, message, "import every image as a task of its own")
    for number, region in enumerate(_regions(path, name, results), 1):
        kind, value = region["kind"], region["value"]
        where = f"image {name!r}, region {number}"
        if kind not in _REGIONS:
            if kind in _ABOUT_REGIONS:
                ignored[kind] = None
                continue
            if not {"x", "y", "points", "vertices", "rle", "imageDataURL"} & set(value):
                ignored[kind] = None
                continue
            raise _malformed(
                path, f"{where} is of kind {kind!r}; known are {', '.join(_REGIONS)}", "delete it and export again"
            )
        if region.get("image_rotation"):
            message = f"{where}: the image was turned by {region['image_rotation']} degrees in Label Studio"
            raise FileProblem("malformed-file", path, message, "turn it back there, and export again")
        if len(region["labels"]) != 1:
            raise _malformed(path, f"{where} has {len(region['labels'])} labels, expected one", "give it one label")
        label = label_of(path, where, region["labels"][0], labels)
        shape = _shape(path, where, region)
        sizes.add(shape)
        if kind == "brush":
            areas.append(Patch(label, (0, 0), _brush(path, where, value, shape)))
        elif kind == "keypoint":
            strokes.append(Stroke(label, _scaled(path, where, [[value.get("x"), value.get("y")]], shape) - 0.5, width))
        elif kind == "polygon" and value.get("closed") is False:
            strokes.append(Stroke(label, _scaled(path, where, value.get("points"), shape) - 0.5, width))
        else:
            areas.append(Area(label, (_outline(path, where, kind, value, shape),), edged=True))
    if len(sizes) > 1:
        raise _malformed(path, f"image {name!r} has regions of several image sizes, {sorted(sizes)}")
    known = next(iter(sizes), None) or size_of(name)
    return None if known is None else Drawing(known, tuple(strokes), tuple(areas)), list(ignored)


def _regions(path: Path, name: str, results: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Results with their kind (``polygon`` for ``polygonlabels``) and labels, which another result of the same id may have."""
    by_id: dict[str, list[str]] = defaultdict(list)
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("value"), dict) and result.get("id") is not None:
            by_id[str(result["id"])] += _labels_in(result["value"])
    for result in results:
        if isinstance(result, dict) and result.get("type") == "relation":
            continue
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            raise _malformed(path, f"image {name!r} has a result without value")
        value = result["value"]
        key = next((key for key in value if key.endswith("labels") and key != "labels"), None)
        kind = str(result.get("type") or key or ("labels" if "labels" in value else next(iter(value), "")))
        if kind == "labels":
            fields = _kind_by_fields(value)
            if fields is None:
                continue  # this result only gives a label to the region with the same id
            kind = fields
        own = _labels_in(value) or list(dict.fromkeys(by_id[str(result.get("id"))]))
        yield {**result, "kind": kind.removesuffix("labels"), "labels": own}


def _kind_by_fields(value: Mapping[str, Any]) -> str | None:
    fields = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "height": "rectangle", "x": "keypoint"}
    return next((kind for field, kind in fields.items() if field in value), None)


def _labels_in(value: Mapping[str, Any]) -> list[str]:
    return [
        str(one) for key, names in value.items() if key.endswith("labels") and isinstance(names, list) for one in names
    ]


def _shape(path: Path, where: str, region: Mapping[str, Any]) -> tuple[int, int]:
    height, wide = region.get("original_height"), region.get("original_width")
    if type(height) is not int or type(wide) is not int or min(height, wide) < 1 or height * wide > MAX_PIXELS:
        message = f"{where} has the image size {(height, wide)}, expected original_height and original_width"
        raise _malformed(path, message)
    return height, wide


def _scaled(path: Path, where: str, points: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Convert points in percent of the image's sides to pixels. 0 is the outer edge of the first pixel."""
    try:
        array = np.array(points, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not (np.abs(array) < FAR / max(shape)).all():
        raise _malformed(path, f"{where}: expected points [x, y] in percent")
    return np.asarray(array * np.array([shape[1], shape[0]]) / 100)


def _outline(
    path: Path, where: str, kind: str, value: Mapping[str, Any], shape: tuple[int, int]
) -> NDArray[np.float64]:
    if kind == "polygon":
        return _scaled(path, where, value.get("points"), shape)
    extent = ("width", "height") if kind == "rectangle" else ("radiusX", "radiusY")
    rows = [[value.get("x"), value.get("y")], [value.get(side) for side in extent]]
    corner, size = _scaled(path, where, rows, shape)
    degrees = float(_scaled(path, where, [[value.get("rotation") or 0, 0]], (1, 1))[0, 0] * 100)
    if kind == "rectangle":
        return turned(box_outline(np.stack([corner, corner + size])), degrees, corner)
    return turned(ellipse_outline(corner, (float(size[0]), float(size[1]))), degrees, corner)


def _brush(path: Path, where: str, value: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a brush label, which are those that are not completely transparent."""
    try:
        if value.get("format", "rle") != "rle":
            raise RleError(f"has the format {value['format']!r}, expected rle")
        values = decode_packed(value.get("rle"))
        if len(values) != 4 * shape[0] * shape[1]:
            raise RleError(f"has {len(values)} values, an image of {shape[1]}x{shape[0]} has {4 * shape[0] * shape[1]}")
    except RleError as error:
        raise _malformed(path, f"{where}: its run-length encoding {error}") from None
    return np.asarray(values.reshape(*shape, 4)[..., 3] > 0)


def _from_pictures(
    folder: Path, pictures: Mapping[str, Path], export: Path | None, labels: Mapping[str, int]
) -> tuple[dict[str, Drawing], list[Finding]]:
    names = {str(t.get("id")): _image_of(export, n, t) for n, t in enumerate(_tasks(export), 1)} if export else {}
    parts: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    authors: dict[str, set[str | None]] = defaultdict(set)
    for stem, file in pictures.items():
        match = _PNG.fullmatch(stem)
        label = _label_of(match[3], labels) if match else None
        if match is None or label is None:
            message = f"named neither task-...-CLASS-0.png with one of the classes {', '.join(labels)}"
            raise FileProblem("unknown-class", file, message, "correct the name, or add the class to the class list")
        if export and match[1] not in names:
            raise _malformed(file, f"task {match[1]} is not in {export.name}", "export both from the same project")
        name = names.get(match[1], f"task-{match[1]}")
        parts[name].append((labels[label], file))
        authors[name].add(match[2])
    notes = []
    twice = next((name for name, annotators in authors.items() if len(annotators) > 1), None)
    if twice is not None:
        raise _malformed(folder, f"image {twice!r} has several annotations", "keep the files of one of them")
    if export is None:
        message = "the PNG files do not tell the names of their images, which are called task-N"
        remedy = "put the JSON export of the same project into the folder"
        notes.append(Finding("warning", "names", next(iter(parts)), folder, message, remedy, len(parts)))
    drawings = {}
    claimed = []
    for name, layers in parts.items():
        drawings[name], overlap = _merged(layers)
        claimed += [name] * overlap
    if claimed:
        message = f"{len(claimed)} images have pixels of two labels, which are left unlabelled"
        remedy = "the JSON export tells which label lies above; convert that instead"
        notes.append(Finding("warning", "overlap", claimed[0], folder, message, remedy, len(claimed)))
    return drawings, notes


def _label_of(text: str, labels: Mapping[str, int]) -> str | None:
    """The class at the end of a file name, after the name of the control tag; the longest class name that fits."""
    fitting: Iterable[str] = (name for name in labels if text == name or text.endswith(f"-{name}"))
    return max(fitting, key=len, default=None)


def _merged(parts: Sequence[tuple[int, Path]]) -> tuple[Drawing, bool]:
    """Merge one picture per label into one drawing. Also returns True if two classes claim the same pixel."""
    inside = [read_label(file) > 0 for _, file in parts]
    raster: NDArray[np.uint8] = np.full(inside[0].shape, UNLABELLED, np.uint8)
    overlap: NDArray[np.bool_] = np.zeros(raster.shape, bool)
    for (label, file), pixels in zip(parts, inside, strict=True):
        if pixels.shape != raster.shape:
            raise _malformed(file, f"{pixels.shape} pixels, and other labels of the image {raster.shape}")
        overlap |= pixels & (raster != UNLABELLED) & (raster != label)
        raster[pixels] = label
    areas = [Patch(int(label), (0, 0), raster == label) for label in np.unique(raster[raster != UNLABELLED])]
    areas.append(Patch(UNLABELLED, (0, 0), overlap))
    return Drawing((raster.shape[0], raster.shape[1]), areas=tuple(areas)), bool(overlap.any())


def _malformed(path: Path, message: str, remedy: str = "export it from Label Studio as JSON again") -> FileProblem:
    return FileProblem("malformed-file", path, message, remedy)
