"""Search for data leaks between splits: images, slices of a volume, scans of a patient, and (nearly) identical pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from wss.datasets.files import FileSource
from wss.datasets.finding import Finding, Severity
from wss.datasets.near_duplicates import near_duplicates
from wss.datasets.source import Catalogue, Source
from wss.datasets.survey import Inspection
from wss.datasets.volumes import PATIENT_SLICES, compile_pattern, find_volumes

_HELD_OUT = ("val", "test")


def leaks(source: Source, by_id: Mapping[str, Inspection]) -> list[Finding]:
    """Findings about splits that share data although they must be separate.

    Args:
        source: The data set. Splits whose names begin with "train", except for "trainval", are for training; "val" and "test" are
            held out.
        by_id: Its inspected images.
    """
    splits = _kinds(source.catalogue)
    return [
        *_images(splits),
        *_volumes(source.catalogue, splits),
        *_patients(source, splits),
        *_pictures(source, by_id, splits),
    ]


def _kinds(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """The splits that must be separate, in order."""
    training = {n: ids for n, ids in catalogue.splits.items() if n.startswith("train") and n != "trainval"}
    return training | {n: catalogue.splits[n] for n in _HELD_OUT if n in catalogue.splits}


def _apart(splits: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of splits; the second split of each pair is held out."""
    return [pair for pair in combinations(splits, 2) if pair[1] in _HELD_OUT]


def _severity(split: str) -> Severity:
    return "warning" if split in _HELD_OUT else "error"


def _images(splits: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    findings = []
    for one, other in _apart(splits):
        for image_id in sorted(set(splits[one]) & set(splits[other])):
            message = f"{image_id} is in {one} and in {other}"
            remedy = "take it out of one of them"
            findings.append(Finding(_severity(one), "split-overlap", image_id, None, message, remedy))
    return findings


def _volumes(catalogue: Catalogue, splits: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    findings = []
    for one, other in _apart(splits):
        here, there = set(splits[one]), set(splits[other])
        for name, volume in catalogue.volumes.items():
            parts = [set(volume.ids) & split for split in (here - there, there - here)]
            if all(parts):
                message = f"volume {name!r} has slices in {one} ({min(parts[0])}) and in {other} ({min(parts[1])})"
                remedy = "list all slices of a volume in one split"
                findings.append(Finding(_severity(one), "volume-overlap", min(parts[1]), None, message, remedy))
    return findings


def _patients(source: Source, splits: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    """Findings for patients (groups of the volume pattern) whose volumes are in two splits."""
    if not isinstance(source, FileSource):
        return []
    pattern = getattr(source.options, "volume_pattern", PATIENT_SLICES)
    volume_of = {i: name for name, volume in source.catalogue.volumes.items() for i in volume.ids}
    if pattern is None or not volume_of:
        return []
    _, group_of = find_volumes(volume_of, compile_pattern(pattern))
    findings = []
    for one, other in _apart(splits):
        volumes = [
            {(group_of[i], volume_of[i]) for i in splits[name] if i in group_of and i in volume_of}
            for name in (one, other)
        ]
        for group in sorted({g for g, _ in volumes[0]} & {g for g, _ in volumes[1]}):
            here, there = (sorted(v for g, v in part if g == group) for part in volumes)
            if set(here) & set(there):
                continue  # already reported for the volume
            message = f"{group} has volumes in {one} ({here[0]}) and in {other} ({there[0]})"
            remedy = "list all volumes of a patient in one split"
            findings.append(Finding("warning", "patient-overlap", None, None, message, remedy))
    return findings


def _pictures(source: Source, by_id: Mapping[str, Inspection], splits: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    held_out = {i for name in _HELD_OUT for i in splits.get(name, ())}
    training = {i for name, ids in splits.items() if name not in _HELD_OUT for i in ids}
    findings = []
    first_of: dict[bytes, str] = {}
    copies = set()
    for image_id, inspection in by_id.items():
        if inspection.digest is None:
            continue
        twin = first_of.setdefault(inspection.digest, image_id)
        if twin == image_id:
            continue
        copies.add(image_id)
        file = next(iter(source.files(image_id)), None)
        message = f"{image_id} and {twin} are the same picture"
        remedy = "remove one of them with its annotations, also from the lists"
        if (twin in training and image_id in held_out) or (image_id in training and twin in held_out):
            message += ", one for training and one held out"
            findings.append(Finding("error", "same-image", image_id, file, message, remedy))
        else:
            findings.append(Finding("warning", "duplicate-image", image_id, file, message, remedy))
    ours, theirs = (
        [i for i in by_id if i in part and i not in copies and by_id[i].small is not None]
        for part in (training - held_out, held_out - training)
    )
    smalls = ([s for i in part if (s := by_id[i].small) is not None] for part in (ours, theirs))
    for here, there in near_duplicates(*smalls):
        file = next(iter(source.files(theirs[there])), None)
        message = f"{theirs[there]} and {ours[here]} are nearly the same picture, one held out and one for training"
        remedy = "look at both; if they show the same, keep both in one split, or remove one of them"
        findings.append(Finding("warning", "near-duplicate", theirs[there], file, message, remedy))
    return findings
