"""The data check: errors, warnings and notes about a data set, grouped by kind of problem."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.files import FileSource
from wss.datasets.finding import Finding, Severity
from wss.datasets.label_values import (
    MISREAD,
    Counts,
    StoredLabels,
    declared_values,
    mask_values,
    scribble_values,
    set_option,
    stores_values,
)
from wss.datasets.leaks import leaks
from wss.datasets.listing import hidden_names
from wss.datasets.source import UNEVEN_REMEDY, Catalogue, Source, uneven, uneven_message
from wss.datasets.survey import Inspection, survey
from wss.datasets.volumes import missing_slice
from wss.labels import UNLABELLED

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_EXAMPLES = 4
_CONTRADICTION_WARNING = 0.001
_CONTRADICTION_ERROR = 0.05
_SWAP_MIN_PIXELS = 50


def check(source: Source, *, jobs: int = 1, progress: Callable[[int, str], None] | None = None) -> list[Finding]:
    """Read every image of every split with its annotations, and report all problems.

    Args:
        source: The data set.
        jobs: Number of images read at the same time, in threads.
        progress: Called with 1 and the image id after each image.

    Returns:
        One finding per kind of problem, errors first, with the number of images and some of their names.
    """
    inspections = survey(source, jobs=jobs, progress=progress)
    findings = list(source.notes) if isinstance(source, FileSource) else []
    findings += [finding for inspection in inspections for finding in inspection.findings]
    catalogue = source.catalogue
    by_id = {inspection.image_id: inspection for inspection in inspections}
    findings += _split_findings(catalogue, by_id)
    findings += leaks(source, by_id)
    findings += _hidden(source)
    findings += _volume_findings(catalogue, by_id)
    findings += _scribble_findings(source, by_id)
    values = _value_findings(catalogue, inspections, source)
    findings += values
    if not any(finding.code in MISREAD for finding in values):  # otherwise the following findings are consequences
        findings += _class_findings(catalogue, inspections)
        findings += _contradictions(source, inspections)
    return summarise(findings)


def info(source: Source, *, jobs: int = 1, progress: Callable[[int, str], None] | None = None) -> dict[str, Any]:
    """Statistics of a data set, as plain values.

    Args:
        source: The data set; unreadable files are skipped.
        jobs: Number of images read at the same time, in threads.
        progress: Called with 1 and the image id after each image.

    Returns:
        ``kind``; ``classes``; ``splits``: per split the number of ``images``, of those ``with_mask``, ``with_scribble`` and
        ``with_boxes``;
        ``volumes``; ``sizes``: ``distinct``, and ``smallest`` and ``largest`` by pixels as [height, width];
        ``mask_share`` and ``scribble_share``: per class the share of labelled pixels; ``mask_images`` and
        ``scribble_images``: per class the number of images; ``boxes``: per class the number of boxes;
        ``mask_void``: share of void pixels in masks; ``scribble_coverage``: share of labelled pixels in scribbles.
        Entries without anything to count are None.
    """
    catalogue = source.catalogue
    inspections = {i.image_id: i for i in survey(source, jobs=jobs, progress=progress)}
    shapes = sorted(
        {i.shape for i in inspections.values() if i.shape is not None}, key=lambda shape: shape[0] * shape[1]
    )
    masks = [i.mask for i in inspections.values() if i.mask is not None]
    scribbles = [i.scribble for i in inspections.values() if i.scribble is not None]
    boxes = [i.boxes for i in inspections.values() if i.boxes is not None]
    coverage = _void(scribbles)
    return {
        "kind": catalogue.kind,
        "classes": list(catalogue.classes),
        "splits": {
            name: {
                "images": len(ids),
                "with_mask": sum(inspections[i].mask is not None for i in ids),
                "with_scribble": sum(inspections[i].scribble is not None for i in ids),
                "with_boxes": sum(inspections[i].boxes is not None for i in ids),
            }
            for name, ids in catalogue.splits.items()
        },
        "volumes": len(catalogue.volumes),
        "sizes": {
            "distinct": len(shapes),
            "smallest": list(shapes[0]) if shapes else None,
            "largest": list(shapes[-1]) if shapes else None,
        },
        "mask_share": _shares(catalogue, masks),
        "scribble_share": _shares(catalogue, scribbles),
        "mask_images": _images(catalogue, masks),
        "scribble_images": _images(catalogue, scribbles),
        "boxes": None if not boxes else dict(zip(catalogue.classes, _sum(boxes).tolist(), strict=False)),
        "mask_void": _void(masks),
        "scribble_coverage": None if coverage is None else 1 - coverage,
    }


def summarise(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings of equal severity and code into the first one, with the number of others and some of their names."""
    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in dict.fromkeys(findings):
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    summed = []
    for members in groups.values():
        first = members[0]
        message = first.message
        others = [str(member.image_id or member.file) for member in members[1:]]
        if others:
            names = ", ".join(others[:_EXAMPLES]) + (", ..." if len(others) > _EXAMPLES else "")
            message = f"{message} (and {len(others)} more: {names})"
        count = sum(member.count for member in members)
        summed.append(Finding(first.severity, first.code, first.image_id, first.file, message, first.remedy, count))
    return sorted(summed, key=lambda finding: _ORDER.index(finding.severity))


def _split_findings(catalogue: Catalogue, by_id: dict[str, Inspection]) -> list[Finding]:
    findings = []
    for name, ids in catalogue.splits.items():
        if not ids:
            severity: Severity = "error" if name == "train" else "warning"
            remedy = "add images to it" if name == "train" else "add images with masks to it, to score against"
            findings.append(Finding(severity, "empty-split", None, None, f"split {name} is empty", remedy))
    for image_id in catalogue.splits.get("val", ()):
        if by_id[image_id].mask is None:
            message = f"{image_id} is in val but has no usable mask, so it cannot be scored"
            remedy = "add the mask, or move the image to another split"
            findings.append(Finding("warning", "val-without-mask", image_id, None, message, remedy))
    return findings


def _hidden(source: Source) -> list[Finding]:
    """Findings for hidden files and folders in the data set; they are not read."""
    if not isinstance(source, FileSource):
        return []
    findings = []
    for folder in sorted({file.parent for image_id in source.entries for file in source.files(image_id)}):
        names = hidden_names(folder)
        if names:
            message = f"{len(names)} hidden files or folders, such as {names[0]}, are not read"
            remedy = "nothing to do; remove them if they are in the way"
            findings.append(Finding("note", "hidden-files", None, folder, message, remedy, len(names)))
    return findings


def _value_findings(catalogue: Catalogue, inspections: Sequence[Inspection], source: Source) -> list[Finding]:
    masks = [
        StoredLabels(i.image_id, i.mask_file, i.mask)
        for i in inspections
        if i.mask is not None and stores_values(i.mask_file)
    ]
    scribbles = [
        StoredLabels(i.image_id, i.scribble_file, i.scribble, i.pairs)
        for i in inspections
        if i.scribble is not None and stores_values(i.scribble_file)
    ]
    for_masks, for_scribbles = declared_values(source)
    return mask_values(masks, catalogue, for_masks) + scribble_values(scribbles, catalogue, for_scribbles)


def _volume_findings(catalogue: Catalogue, by_id: dict[str, Inspection]) -> list[Finding]:
    sizes = {i: inspection.shape for i, inspection in by_id.items() if inspection.shape is not None}
    findings = []
    for name, volume in catalogue.volumes.items():
        pair = uneven(volume, sizes)
        if pair is not None:
            message = uneven_message(name, pair, sizes)
            findings.append(Finding("error", "volume-sizes", pair[1], None, message, UNEVEN_REMEDY))
        gap = missing_slice(volume.ids)
        if gap is not None:
            message = f"slices of volume {name!r} have a gap between {gap[0]!r} and {gap[1]!r}: HD95 takes them for neighbours"
            remedy = "restore the missing slices; if there never were any, number the slices without gaps"
            findings.append(Finding("warning", "missing-slices", gap[1], None, message, remedy))
    return findings


def _scribble_findings(source: Source, by_id: dict[str, Inspection]) -> list[Finding]:
    catalogue = source.catalogue
    ids = [i for name, split in catalogue.splits.items() if name.startswith("train") for i in split]
    bare = [i for i in dict.fromkeys(ids) if by_id[i].scribble is None]
    if not bare:
        return []
    if not any(inspection.scribble is not None for inspection in by_id.values()):
        if isinstance(source, FileSource) and any(source.entry(i).scribble is not None for i in bare):
            return []  # there are scribbles, and other findings report why they cannot be read
        return [_no_scribbles(source, [by_id[i] for i in bare])]
    remedy = "scribble on it, or leave it: nothing is learned from it"
    return [Finding("warning", "no-scribble", i, None, f"{i} has no usable scribble", remedy) for i in bare]


def _no_scribbles(source: Source, training: Sequence[Inspection]) -> Finding:
    """Finding for a data set without any scribble. It may have masks or boxes instead."""
    if any(inspection.mask is not None for inspection in training):
        place = getattr(getattr(source, "options", None), "scribbles", None)
        folder = source.root / place if isinstance(source, FileSource) and isinstance(place, Path) else "DIR"
        remedy = (
            "methods that need scribbles get simulated ones, drawn from the masks; "
            f"`wss data simulate --split train --out {shlex.quote(str(folder))}` writes such scribbles to files"
        )
        return Finding("note", "no-scribbles", None, None, "no image has a scribble", remedy)
    tagged = isinstance(source, FileSource) and any(source.entry(i.image_id).tags is not None for i in training)
    if tagged or any(inspection.boxes is not None for inspection in training):
        boxed = any(inspection.boxes is not None for inspection in training)
        there = " and ".join(["boxes"] * boxed + ["image tags"] * tagged)
        methods = ["`spml-box` learns from boxes"] * boxed + [
            "`sec`, `spml-tag` and `classifier` learn from image tags"
        ]
        remedy = f"{', '.join(methods)} (`wss methods`); for the other methods scribble on the images"
        return Finding("note", "no-scribbles", None, None, f"no image has a scribble, but {there} are there", remedy)
    message = "no training image has a scribble, a mask, boxes or tags"
    remedy = "scribble on some, or list what is in them in tags.csv: from bare images nothing can be learned"
    return Finding("warning", "no-scribbles", None, None, message, remedy)


def _class_findings(catalogue: Catalogue, inspections: Sequence[Inspection]) -> list[Finding]:
    findings = []
    masks = [i for i in inspections if i.mask is not None]
    scribbles = [i for i in inspections if i.scribble is not None]
    in_masks, in_scribbles = _sum(i.mask for i in masks), _sum(i.scribble for i in scribbles)
    for kind, pixels, images in (("masks", in_masks, masks), ("scribbles", in_scribbles, scribbles)):
        absent = [name for index, name in enumerate(catalogue.classes) if not pixels[index]]
        if images and absent:
            highest = int(np.flatnonzero(pixels[:UNLABELLED]).max(initial=-1))
            message = f"{', '.join(absent)} in none of the {len(images)} {kind}"
            if highest < len(catalogue.classes) - 1:
                message += f"; the highest label is {highest}, the class list goes to {len(catalogue.classes) - 1}"
            remedy = "compare the order and number of the class names with the labels; if they agree, "
            remedy += "annotate these classes in some images, or take them out of the class list"
            findings.append(Finding("warning", f"class-not-in-{kind}", None, None, message, remedy))
    background = catalogue.background
    if background is not None:
        for inspection in masks:
            counts = inspection.mask
            if counts is not None and counts[background] and not np.delete(counts[:UNLABELLED], background).any():
                void = counts[UNLABELLED] / counts.sum()
                message = f"the mask of {inspection.image_id} is all {catalogue.classes[background]}"
                message += f", but for {void:.1%} void ({UNLABELLED})" if void else ""
                remedy = "right if nothing is there" + (" but what is void" if void else "")
                findings.append(Finding("note", "background-only", inspection.image_id, None, message, remedy))
    return findings


def _swap_remedy(source: Source, inspections: Sequence[Inspection], table: NDArray[np.int64]) -> str:
    """Remedy with the option that reads scribbles in the class order of the masks, if only the order differs."""
    painted = all(stores_values(i.scribble_file) for i in inspections if i.scribble is not None)
    usual = {label: int(row.argmax()) for label, row in enumerate(table) if row.any()}
    changed = {label: other for label, other in usual.items() if other != label}
    if not painted or len(set(usual.values())) < len(usual) or declared_values(source)[1]:
        return ""
    return f"; if the masks are right, {set_option('scribbles', changed)}"


def _contradictions(source: Source, inspections: Sequence[Inspection]) -> list[Finding]:
    """Compare scribbles with masks: report the share of contradicting pixels, and classes that contradict as a whole."""
    catalogue = source.catalogue
    count = len(catalogue.classes)
    table = np.zeros((count, count), np.int64)
    wrong_images = []
    for inspection in inspections:
        pairs = inspection.pairs[(inspection.pairs[:, :2] < count).all(axis=1)]
        table[pairs[:, 0], pairs[:, 1]] += pairs[:, 2]
        if (pairs[:, 0] != pairs[:, 1]).any():
            wrong_images.append(inspection.image_id)
    total = int(table.sum())
    wrong = total - int(np.trace(table))
    if wrong == 0:
        return []
    share = wrong / total
    severity: Severity = "note"
    if share >= _CONTRADICTION_WARNING:
        severity = "error" if share >= _CONTRADICTION_ERROR else "warning"
    message = (
        f"{share:.3%} of the scribbled pixels have another class in the mask, in {len(wrong_images)} images: "
        f"{', '.join(wrong_images[:_EXAMPLES])}"
    )
    remedy = (
        "expected near object borders; if there are many, compare class order and file names of scribbles and masks"
    )
    findings = [
        Finding(severity, "scribble-contradicts-mask", wrong_images[0], None, message, remedy, len(wrong_images))
    ]
    names = catalogue.classes
    for label, name in enumerate(names):
        row = table[label]
        usual = int(row.argmax())
        if usual != label and row[usual] > row.sum() / 2 and row.sum() >= _SWAP_MIN_PIXELS:
            back = table[usual]
            swapped = int(back.argmax()) == label and back[label] > back.sum() / 2
            message = f"{row[usual] / row.sum():.0%} of the scribbles of {name} lie on {names[usual]} in the masks" + (
                ", and the other way round: the two seem to be swapped" if swapped else ""
            )
            remedy = "compare the class order of scribbles and masks" + _swap_remedy(source, inspections, table)
            findings.append(Finding("error", "class-swap", None, None, message, remedy))
    return findings


def _sum(counts: Iterable[Counts | None]) -> Counts:
    total = np.zeros(256, np.int64)
    for one in counts:
        if one is not None:
            total += one
    return total


def _shares(catalogue: Catalogue, counts: Sequence[Counts]) -> dict[str, float] | None:
    labelled: NDArray[np.int64] = _sum(counts)[: len(catalogue.classes)]
    if not labelled.sum():
        return None
    return {name: float(labelled[index] / labelled.sum()) for index, name in enumerate(catalogue.classes)}


def _images(catalogue: Catalogue, counts: Sequence[Counts]) -> dict[str, int] | None:
    if not counts:
        return None
    return {name: sum(int(one[index] > 0) for one in counts) for index, name in enumerate(catalogue.classes)}


def _void(counts: Sequence[Counts]) -> float | None:
    total = _sum(counts)
    return float(total[UNLABELLED] / total.sum()) if total.sum() else None
