"""Inspect every image of a data set once: sizes, label counts, and problems of its files."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wss.datasets.files import Entry, FileSource, Scribble, label_out_of_range, size_mismatch
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import IMAGE_SUFFIXES, read_header
from wss.datasets.label_values import Counts, label_pairs
from wss.datasets.near_duplicates import reduced
from wss.datasets.orientation import TURNS, orientation, sideways
from wss.datasets.source import Source
from wss.datasets.strokes_io import outside
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.scribbles import rasterise
from wss.scribbles.strokes import Stroke

T = TypeVar("T")


@dataclass(frozen=True)
class Inspection:
    """Result of inspecting one image and its annotations.

    Attributes:
        image_id: The image.
        shape: Height and width, or None when the image cannot be read.
        digest: Hash of the decoded pixels, or None. None for blank images, because equal blank images are not copies.
        small: The image reduced by ``reduced``, or None. None for blank images.
        mask: int64 (256,), pixels per label of the mask, or None when there is none.
        scribble: int64 (256,), pixels per label of the scribble, or None when there is none.
        mask_file: The mask's file, or the image's where the mask has no file of its own; None for generated data.
        scribble_file: The same for the scribble.
        pairs: int64 (N, 3): scribble label, mask label, pixels, where both are labelled.
        boxes: int64 (256,), boxes per class, or None when the image has none to read.
        findings: Problems of this image's files.
    """

    image_id: str
    shape: tuple[int, int] | None
    digest: bytes | None
    small: NDArray[np.uint8] | None
    mask: Counts | None
    scribble: Counts | None
    mask_file: Path | None
    scribble_file: Path | None
    pairs: Counts
    boxes: Counts | None
    findings: tuple[Finding, ...]


def survey(source: Source, *, jobs: int = 1, progress: Callable[[int, str], None] | None = None) -> list[Inspection]:
    """Inspect every image of every split.

    Args:
        source: The data set.
        jobs: Number of images inspected in parallel, in threads.
        progress: Called with 1 and the image id after each image.

    Returns:
        One inspection per image, in the order of the splits.
    """
    ids = list(dict.fromkeys(i for split in source.catalogue.splits.values() for i in split))
    inspections = []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for inspection in pool.map(partial(inspect_image, source), ids):
            inspections.append(inspection)
            if progress is not None:
                progress(1, inspection.image_id)
    return inspections


def inspect_image(source: Source, image_id: str) -> Inspection:
    """Read one image with its annotations and collect their problems. Errors are recorded, not raised."""
    findings: list[Finding] = []
    image, mask, scribble, boxes = _read(source, image_id, findings)
    entry = source.entry(image_id) if isinstance(source, FileSource) else Entry(Path(image_id))
    mask_file, scribble_file = entry.mask or entry.image, entry.scribble or entry.image
    box_file = entry.objects or entry.image
    shape = None if image is None else (image.shape[0], image.shape[1])
    of_its_own = not isinstance(source, FileSource) or source.one_image_per_file
    if image is not None and of_its_own and entry.image.suffix.lower() in IMAGE_SUFFIXES:
        annotated = entry.mask or entry.scribble or entry.objects
        findings += _image_notes(image_id, entry.image, source)
        findings += _turns(image_id, entry.image, image.shape[:2], annotated is not None)
    if mask is not None:
        findings += _label_findings(image_id, mask_file, mask, shape, entry.image)
    raster: NDArray[np.uint8] | None = None
    if isinstance(scribble, tuple):
        findings += _stroke_findings(image_id, scribble_file, scribble, shape, source)
        if shape is not None:
            raster = rasterise([s for s in scribble if 0 <= s.label < len(source.catalogue.classes)], shape)
    elif scribble is not None:
        findings += _label_findings(image_id, scribble_file, scribble, shape, entry.image)
        raster = scribble
    if raster is not None and (raster == UNLABELLED).all():
        message = "the scribble has no labelled pixel"
        findings.append(Finding("warning", "empty-scribble", image_id, scribble_file, message, "scribble on the image"))
    if boxes is not None:
        findings += _box_findings(image_id, box_file, boxes, shape, len(source.catalogue.classes))
    return Inspection(
        image_id,
        shape,
        None if image is None or blank(image) else _digest(image),
        None if image is None or blank(image) else reduced(image),
        None if mask is None else np.bincount(mask.ravel(), minlength=256),
        None if raster is None else np.bincount(raster.ravel(), minlength=256),
        mask_file if isinstance(source, FileSource) else None,
        scribble_file if isinstance(source, FileSource) else None,
        label_pairs(raster, mask),
        None if boxes is None else np.bincount(np.clip(boxes[:, 0], 0, 255), minlength=256),
        tuple(dict.fromkeys(findings)),
    )


def blank(image: NDArray[np.uint8]) -> bool:
    """True if all pixels of an image (H, W, 3) are equal, such as end slices of volumes and images without data."""
    return bool((image == image[:1, :1]).all())


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes() + repr(image.shape[:2]).encode(), digest_size=16).digest()


def _read(
    source: Source, image_id: str, findings: list[Finding]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None, Scribble, NDArray[np.int32] | None]:
    def attempt(load: Callable[[str], T]) -> T | None:
        try:
            return load(image_id)
        except FileProblem as problem:
            findings.append(problem.finding(image_id))
        except DataError as error:
            findings.append(Finding("error", "unreadable-file", image_id, None, str(error), "see the message"))
        return None

    if isinstance(source, FileSource):
        image, mask = attempt(source.load_image), attempt(source.load_mask)
        return image, mask, attempt(source.load_scribble), attempt(source.load_boxes)
    sample = attempt(source.read)
    if sample is None:
        return None, None, None, None
    return sample.image, sample.mask, sample.strokes if sample.strokes is not None else sample.scribble, sample.boxes


def _turns(image_id: str, file: Path, shape: tuple[int, ...], annotated: bool) -> list[Finding]:
    """Findings for images rotated by EXIF: readers apply the rotation, but many annotation programs do not."""
    turn = orientation(file)
    if turn == 1:
        return []
    message = f"{TURNS[turn]} by its EXIF orientation ({turn}); it is read upright, as viewers show it"
    unclear = annotated and (not sideways(turn) or shape[0] == shape[1])
    if unclear:
        message += ". No size tells whether its annotations were drawn on the upright picture"
    remedy = (
        "annotations must fit the upright picture; where they were drawn on the stored pixels, remove the tag "
        f"(`exiftool -Orientation= {shlex.quote(file.name)}`)"
    )
    return [Finding("warning" if unclear else "note", "exif-turned", image_id, file, message, remedy)]


def _image_notes(image_id: str, file: Path, source: Source) -> list[Finding]:
    header = read_header(file)
    if header.bits > 8 or header.dtype.kind == "f":
        stretch = source.options.stretch if isinstance(source, FileSource) else "auto"
        usual = "the 0.5th and 99.5th percentile of each image"
        how = usual if stretch in ("auto", "percentiles") else f"stretch {stretch}"
        message = f"{header.dtype} values of {header.bits} bits are brought to 8 bits by {how}"
        remedy = "the option stretch (full, percentiles, or two numbers) chooses; two numbers give all images one range"
        return [Finding("note", "deep-image", image_id, file, message, remedy)]
    if header.colours in ("grey", "white-is-zero"):
        return [Finding("note", "grey", image_id, file, "grey image, repeated over three channels", "nothing to do")]
    return []


def _label_findings(
    image_id: str, file: Path, labels: NDArray[np.uint8], shape: tuple[int, int] | None, image: Path
) -> list[Finding]:
    if shape is not None and labels.shape != shape:
        return [size_mismatch(file, labels.shape, shape, image).finding(image_id)]
    return []


def _stroke_findings(
    image_id: str, file: Path, strokes: Sequence[Stroke], shape: tuple[int, int] | None, source: Source
) -> list[Finding]:
    findings = []
    count = len(source.catalogue.classes)
    for label in sorted({stroke.label for stroke in strokes if stroke.label >= count}):
        findings.append(label_out_of_range(file, label, count).finding(image_id))
    if shape is not None and len(away := outside(strokes, shape)):
        x, y = away[0]
        message = (
            f"{len(away)} stroke points outside the image of {shape[1]}x{shape[0]} pixels, such as x={x:g}, y={y:g}"
        )
        remedy = "they are cut off; if there are many, x and y are swapped or the image has another size"
        if not len(outside([Stroke(s.label, s.points[:, ::-1], s.width) for s in strokes], shape)):
            remedy = "x and y seem to be swapped, as then all points would be inside: write x first; otherwise they are cut off"
        findings.append(Finding("warning", "strokes-outside", image_id, file, message, remedy))
    return findings


def _box_findings(
    image_id: str, file: Path, boxes: NDArray[np.int32], shape: tuple[int, int] | None, count: int
) -> list[Finding]:
    findings = []
    for label in sorted({label for label in boxes[:, 0].tolist() if not 0 <= label < count}):
        findings.append(label_out_of_range(file, label, count).finding(image_id))
    for _, x0, y0, x1, y1 in boxes.tolist():
        if x1 < x0 or y1 < y0:
            message = f"a box goes from ({x0}, {y0}) to ({x1}, {y1})"
            findings.append(
                Finding("error", "box-inverted", image_id, file, message, "write the upper left corner first")
            )
        elif shape is not None and (min(x0, y0) < -1 or x1 > shape[1] or y1 > shape[0]):
            message = f"a box from ({x0}, {y0}) to ({x1}, {y1}) in an image of {shape[1]}x{shape[0]} pixels"
            remedy = "what is outside is cut off; if there are many, x and y are swapped or the image has another size"
            findings.append(Finding("warning", "box-outside", image_id, file, message, remedy))
    return findings
