"""Data sets of a user's volumes: NIfTI files, DICOM series or TIFF stacks in folders, cut into slices."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wss.datasets.classlist import read_classes
from wss.datasets.dicom import DicomSeries, is_series
from wss.datasets.files import Entry, FileSource, Scribble
from wss.datasets.finding import FileProblem, Finding, Severity
from wss.datasets.images import Picture
from wss.datasets.listing import read_list, split_by_hash
from wss.datasets.nifti import NiftiVolume
from wss.datasets.source import Catalogue, Volume
from wss.datasets.unread_volumes import unread_volume
from wss.datasets.value_map import ValueMap
from wss.datasets.volume_file import (
    NIFTI_ENDINGS,
    STACK_ENDINGS,
    VolumeFile,
    open_volume,
    require_same_grid,
)
from wss.datasets.volume_options import VolumeOptions
from wss.datasets.volume_slices import read_slice, slice_id, usual_axis
from wss.datasets.whole_labels import whole_labels
from wss.errors import DataError, UsageError

_CLASS_FILES = ("classes.txt", "classes.yaml", "classes.yml", "classes.json")


_BESIDE = (".json", ".txt", ".csv", ".tsv", ".md", ".xml", ".yaml")
"""Endings of files that people keep beside volumes."""


class VolumeSource(FileSource):
    """Volumes in folders, cut into slices. An annotation has the name of its volume.

    Image ids are ``NAME_slice_NNN``, with numbers from 0 in the order of the file. Splits are defined by the lists train.txt,
    val.txt and test.txt of volume names, if present. Volumes in no list go to ``train`` if there is no train.txt. Otherwise,
    those with masks go to ``val`` if there is no val.txt. Without any list, ``val`` is a fixed pseudo-random fifth of the
    volumes with masks.

    Attributes:
        axis: The axis along which volumes are cut into slices.
    """

    options: VolumeOptions
    kind: ClassVar[str]
    version = 3
    one_image_per_file = False
    endings: ClassVar[tuple[str, ...]] = ()
    label_endings: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[bool] = False

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``. Headers of volumes are read, values are not."""
        options = self.options
        names, palette, background = read_classes(self._class_file())[:3]
        images, notes = self._named(options.images, self.endings)
        notes += self._not_read(options.images, self.endings)
        if not images:
            raise self._no_volumes(self.root / options.images, notes)
        labels = {}
        for kind, folder in (("mask", options.masks), ("scribble", options.scribbles)):
            labels[kind], label_notes = self._named(folder, self.label_endings)
            notes += self._not_read(folder, self.label_endings)
            notes += label_notes + [
                _orphan(name, path, kind) for name, path in labels[kind].items() if name not in images
            ]
        opened = {name: self._try_to_open(path) for name, path in images.items()}
        self.axis = self._slice_axis({n: v for n, v in opened.items() if v is not None})
        self._paths = images
        self._places: dict[str, tuple[str, int]] = {}
        self._files: dict[str, tuple[Path, ...]] = {}
        self.entries = {}
        volumes = {}
        for name, volume in opened.items():
            mask, scribble = labels["mask"].get(name), labels["scribble"].get(name)
            annotations = [(p, self._try_to_open(p, annotation=True)) for p in (mask, scribble) if p is not None]
            count = 1 if volume is None else volume.grid.shape[self.axis]
            ids = tuple(slice_id(name, number) for number in range(count))
            for number, image_id in enumerate(ids):
                self._places[image_id] = (name, number)
                self._files[image_id] = _files_of(number, self.axis, [(images[name], volume), *annotations])
                self.entries[image_id] = Entry(self._files[image_id][0] if volume else images[name], mask, scribble)
            if volume is not None:
                volumes[name] = Volume(ids, self._spacing(volume))
                notes += self._remarks(name, volume, [labels for _, labels in annotations if labels is not None])
        splits, split_notes = self._splits(images, labels["mask"])
        listed = {name for split in splits.values() for name in split}
        notes += split_notes + [
            Finding("warning", "unlisted", n, p, "volume in no split", "add it to a list, or ignore this")
            for n, p in images.items()
            if n not in listed
        ]
        notes += _split_twice(splits) + self._unequal_spacing(volumes)
        of_volume: dict[str, list[str]] = {}
        for image_id, (name, _) in self._places.items():
            of_volume.setdefault(name, []).append(image_id)
        self.notes = notes
        self.catalogue = Catalogue(
            self.kind,
            names,
            palette,
            {split: tuple(i for name in members for i in of_volume[name]) for split, members in splits.items()},
            volumes,
            background,
        )

    def volume(self, name: str) -> VolumeFile:
        """The image of a volume.

        Raises:
            DataError: It is missing or damaged.
        """
        return open_volume(self._paths[name], self.options.channel)

    def place(self, image_id: str) -> tuple[str, int]:
        """Volume name and slice number of an image id."""
        self.entry(image_id)
        return self._places[image_id]

    def load_picture(self, image_id: str) -> Picture:
        """The slice and its mask of pixels with data. Brightness is stretched equally in all slices of a volume."""
        name, number = self.place(image_id)
        volume = self.volume(name)
        problem = self._gap(volume)
        if problem is not None:
            raise FileProblem(problem.code, volume.path, problem.message, problem.remedy)
        return read_slice(volume, self.axis, number, self.options)

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """The labels of the slice after ``ignore``.

        Raises:
            DataError: Damaged, no labels, or a volume with another grid than the image.
        """
        return self._labels(image_id, self.entry(image_id).mask, self.options.mask_values)

    def load_scribble(self, image_id: str) -> Scribble:
        """The scribble of the slice after ``ignore``. Raises the same errors as ``load_mask``."""
        return self._labels(image_id, self.entry(image_id).scribble, self.options.scribble_values)

    def files(self, image_id: str) -> Sequence[Path]:
        """The image and annotation files of the slice. Its brightness also depends on the other slices of its volume."""
        self.entry(image_id)
        return self._files[image_id]

    def _labels(self, image_id: str, path: Path | None, values: ValueMap) -> NDArray[np.uint8] | None:
        if path is None:
            return None
        name, number = self.place(image_id)
        image, labels = self.volume(name), self._annotation(path)
        require_same_grid(path, labels.grid, image.path, image.grid)
        _require_same_order(labels, image)
        return whole_labels(labels.raster(self.axis, number), path, self.options.ignore, values)

    def _annotation(self, path: Path) -> VolumeFile:
        return open_volume(path, slices_first=self.kind != "nifti")

    def _try_to_open(self, path: Path, *, annotation: bool = False) -> VolumeFile | None:
        """Open a volume, or return None if it cannot be read. Reading its only slice then raises the error."""
        try:
            return self._annotation(path) if annotation else open_volume(path, self.options.channel)
        except DataError:
            return None

    def _slice_axis(self, volumes: Mapping[str, VolumeFile]) -> int:
        chosen = getattr(self.options, "axis", None)
        if chosen is not None:
            return int(chosen)
        first: dict[int, str] = {}
        for name, volume in volumes.items():
            first.setdefault(usual_axis(volume), name)
        if len(first) > 1:
            told = "; ".join(
                f"{name}: axis {axis} ({_sizes(volumes[name].grid.spacing_mm)} mm)" for axis, name in first.items()
            )
            raise DataError(
                f"{self.root / self.options.images}: the axis with the largest spacing differs between volumes ({told}); choose "
                "the axis along which all of them are cut: give `wss init` the option `-o axis=2` as well"
            )
        return next(iter(first), 2)

    def _spacing(self, volume: VolumeFile) -> tuple[float, float, float] | None:
        given = self.options.spacing_mm
        if given is not None:
            return given[0], given[1], given[2]
        spacing = volume.grid.spacing_mm
        if spacing is None:
            return None
        others = [size for axis, size in enumerate(spacing) if axis != self.axis]
        return spacing[self.axis], others[0], others[1]

    def _gap(self, volume: VolumeFile) -> Finding | None:
        """Finding about a volume whose distances would be wrong without the option ``spacing_mm``, or None."""
        if self.options.spacing_mm is not None:
            return None
        return next((remark for remark in volume.remarks if remark.severity == "error"), None)

    def _not_read(self, folder: Path, endings: Sequence[str]) -> list[Finding]:
        """Findings for files and folders that are not read, with a reason by file ending."""
        place = self.root / folder
        names = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
        reasons: dict[str, list[str]] = {}
        for name in names:
            inner = (place / name).is_dir()
            if name.startswith(".") or (self.folders if inner else name.lower().endswith(tuple(endings))):
                continue
            known = unread_volume(place / name) is not None
            reasons.setdefault("" if inner else Path(name).suffix.lower() if known else "*", []).append(name)
        findings = []
        for ending, members in reasons.items():
            usual = "a folder, which is not searched" if not ending else f"not read by kind {self.kind}"
            todo = (
                "move its files up" if not ending else f"endings are {', '.join(endings)}" if endings else "remove it"
            )
            reason, remedy = unread_volume(place / members[0]) or (usual, todo)
            more = f" (and {len(members) - 1} more such)" if len(members) > 1 else ""
            message = f"is {reason}{more}"
            severity: Severity = "note" if all(name.lower().endswith(_BESIDE) for name in members) else "warning"
            findings.append(Finding(severity, "not-read", None, place / members[0], message, remedy, len(members)))
        return findings

    def _no_volumes(self, folder: Path, notes: Sequence[Finding]) -> DataError:
        unread = next((n for n in notes if n.code == "not-read" and n.severity == "warning"), None)
        if unread is not None and unread.file is not None and not (self.folders and is_series(folder)):
            return FileProblem(unread.code, unread.file, unread.message, unread.remedy)
        if not self.folders:
            message = f"no volumes ({', '.join(self.endings)}); give the folder that holds this layout"
        elif is_series(folder):
            message = "is itself a DICOM series; put it into a folder of its own name in this folder"
        else:
            message = "no folders of DICOM series, expected one for each volume"
        return DataError(f"{folder}: {message}")

    def _remarks(self, name: str, volume: VolumeFile, annotations: Sequence[VolumeFile]) -> list[Finding]:
        """Warnings and notes about a volume. Errors are found when it is read."""
        remarks = [
            Finding("warning" if r.severity == "error" else r.severity, r.code, name, r.file, r.message, r.remedy)
            for r in volume.remarks
            if r is not self._gap(volume)
        ]
        if self.kind == "nifti":
            message = f"slices are along axis {self.axis} of the file's array, counted from 0"
            spacing = self._spacing(volume)
            if spacing is not None:
                message += f": they are {spacing[0]:g} mm apart, their pixels {spacing[1]:g} x {spacing[2]:g} mm"
            remarks.append(Finding("note", "slice-axis", name, volume.path, message, "the option axis chooses another"))
        if volume.values is not None and self.options.stretch in ("auto", "percentiles"):
            message = f"{volume.values} are brought to 8 bits by the 0.5th and 99.5th percentile of each volume"
            remedy = (
                "the option stretch (full, percentiles, or two numbers) chooses; two numbers give all volumes one range"
            )
            remarks.append(Finding("note", "deep-image", name, volume.path, message, remedy))
        for labels in annotations:
            remarks += [
                Finding(r.severity, r.code, name, r.file, r.message, r.remedy)
                for r in labels.remarks
                if r.code.startswith("dicom-")
            ]
            placed = isinstance(labels, NiftiVolume) or self.kind == "nifti"
            if placed and labels.grid.affine is None and volume.grid.affine is not None:
                message = "does not say where its voxels are; they are taken for those of the image"
                remedy = "save it with the image's affine"
                remarks.append(Finding("warning", "no-affine", name, labels.path, message, remedy))
        return remarks

    def _unequal_spacing(self, volumes: Mapping[str, Volume]) -> list[Finding]:
        without = [name for name, volume in volumes.items() if volume.spacing_mm is None]
        if not without:
            return []
        message = f"{len(without)} of {len(volumes)} volumes do not say their spacing, such as {without[0]}"
        if len(without) < len(volumes):
            message += ": HD95 would be the mean of millimetres and voxels"
            remedy = "add it to the files, or give it for all with the option spacing_mm"
            return [
                Finding("warning", "no-spacing", without[0], self._paths[without[0]], message, remedy, len(without))
            ]
        remedy = "the option spacing_mm gives it: between slices, rows and columns"
        message += ": HD95 counts voxels"
        return [Finding("note", "no-spacing", without[0], self._paths[without[0]], message, remedy, len(without))]

    def _class_file(self) -> Path:
        if self.options.classes is not None:
            return self.root / self.options.classes
        files = [self.root / name for name in _CLASS_FILES]
        return next((file for file in files if file.exists()), files[0])

    def _named(self, folder: Path, endings: Sequence[str]) -> tuple[dict[str, Path], list[Finding]]:
        return volume_paths(self.root / folder, endings, folders=self.folders)

    def _splits(
        self, images: Mapping[str, Path], masks: Mapping[str, Path]
    ) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        """Names of volumes by split."""
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for split in ("train", "val", "test"):
            path = self.root / f"{split}.txt"
            if path.exists():
                lines, list_notes = read_list(path)
                splits[split] = tuple(dict.fromkeys(_composed(_plain(line, self.endings)) for line in lines))
                notes += list_notes
                missing = [name for name in splits[split] if name not in images]
                if missing:
                    raise DataError(
                        f"{path}: lists {', '.join(missing[:6])}{', ...' * (len(missing) > 6)}, but there is no such volume in "
                        f"{self.root / self.options.images}; restore the files or take them out of the list (lists name "
                        "volumes, not slices)"
                    )
        if not splits:
            masked = [name for name in images if name in masks]
            val = split_by_hash(masked, self.options.val_fraction, _groups(images, self.options.group_pattern))
            return {
                "train": tuple(n for n in images if n not in val),
                "val": tuple(n for n in images if n in val),
            }, notes
        listed = {name for split in splits.values() for name in split}
        rest = [name for name in images if name not in listed]
        if "train" not in splits:
            splits["train"] = tuple(rest)
        elif "val" not in splits:
            splits["val"] = tuple(name for name in rest if name in masks)
        if not any(splits.values()):
            raise DataError(f"{self.root}: train.txt, val.txt and test.txt are all empty; write one volume a line")
        return {name: splits[name] for name in ("train", "val", "test") if name in splits}, notes


class NiftiSource(VolumeSource):
    """Kind ``nifti``: images, masks and scribbles as .nii or .nii.gz."""

    kind = "nifti"
    endings = NIFTI_ENDINGS
    label_endings = NIFTI_ENDINGS


class DicomSource(VolumeSource):
    """Kind ``dicom``: a folder for each series; masks and scribbles as NIfTI, TIFF stack or DICOM series."""

    kind = "dicom"
    label_endings = (*NIFTI_ENDINGS, *STACK_ENDINGS)
    folders = True


class StackSource(VolumeSource):
    """Kind ``stack``: images, masks and scribbles as multi-page TIFF."""

    kind = "stack"
    endings = STACK_ENDINGS
    label_endings = STACK_ENDINGS


def volume_paths(
    folder: Path, endings: Sequence[str], *, folders: bool = False
) -> tuple[dict[str, Path], list[Finding]]:
    """The volumes of a folder by name. Hidden files are skipped; a missing folder is empty.

    Args:
        folder: Not searched recursively.
        endings: File name endings in lower case. If a name has several, the earliest in this list is used, then a folder.
        folders: Also accept folders.

    Returns:
        Paths by name in the composed Unicode form (NFC), sorted, and a finding for each name with several files.
    """
    candidates: dict[str, list[tuple[int, str]]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if folders:
                        candidates.setdefault(_composed(entry.name), []).append((len(endings), entry.name))
                    continue
                rank = next((n for n, ending in enumerate(endings) if entry.name.lower().endswith(ending)), None)
                if rank is not None and len(entry.name) > len(endings[rank]):
                    name = _composed(entry.name[: -len(endings[rank])])
                    candidates.setdefault(name, []).append((rank, entry.name))
    except FileNotFoundError:
        return {}, []
    except (NotADirectoryError, PermissionError) as error:
        raise FileProblem(
            "missing-file", folder, f"not a readable folder ({error.strerror})", "check its rights"
        ) from None
    paths = {name: folder / min(candidates[name])[1] for name in sorted(candidates)}
    doubtful = []
    for name, claims in sorted(candidates.items()):
        if len(claims) > 1:
            message = f"{', '.join(sorted(file for _, file in claims))} have one name; {paths[name].name} is read"
            doubtful.append(Finding("warning", "ambiguous-name", name, paths[name], message, "keep one of them"))
    return paths, doubtful


def _files_of(number: int, axis: int, volumes: Sequence[tuple[Path, VolumeFile | None]]) -> tuple[Path, ...]:
    """The files of a slice. For a volume that cannot be opened, its path, unless that is a folder."""
    files: list[Path] = []
    for path, volume in volumes:
        if volume is not None:
            files += [volume.file_of(number)] if number < volume.grid.shape[axis] else list(volume.files)
        elif not path.is_dir():
            files.append(path)
    return tuple(dict.fromkeys(files))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(line: str, endings: Sequence[str]) -> str:
    ending = next((ending for ending in endings if line.lower().endswith(ending)), "")
    return line[: len(line) - len(ending)]


def _groups(names: Mapping[str, Path], pattern: str | None) -> dict[str, str]:
    if pattern is None:
        return {}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"group pattern {pattern!r} is not a regular expression ({error})") from None
    if "group" not in compiled.groupindex:
        raise UsageError(f"group pattern {pattern!r} needs the named group (?P<group>...)")
    return {name: match["group"] for name in names if (match := compiled.fullmatch(name)) is not None}


def _require_same_order(labels: VolumeFile, image: VolumeFile) -> None:
    """Raise an error if two DICOM series may have opposite slice orders: one has positions, the other only numbers."""
    if not isinstance(labels, DicomSeries) or not isinstance(image, DicomSeries) or labels.placed == image.placed:
        return
    placed = labels if labels.placed else image
    if not placed.numbered:
        message = (
            f"the slices of {placed.path.name} are in the order of ImagePositionPatient, which is not that of InstanceNumber; "
            f"its {'image' if labels.placed else 'annotation'} has no positions: which slices belong together is unknown"
        )
        remedy = "save the annotation as NIfTI or TIFF stack in the order of the positions"
        raise FileProblem("dicom-position", labels.path, message, remedy)


def _orphan(name: str, path: Path, what: str) -> Finding:
    message = f"{what} without a volume of the same name"
    return Finding("warning", "orphan", name, path, message, "add the volume or remove the file")


def _split_twice(splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    findings = []
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        for name in sorted(set(splits.get(one, ())) & set(splits.get(other, ()))):
            message = f"volume {name!r} is in {one} and in {other}"
            severity: Severity = "error" if one == "train" else "warning"
            remedy = "take it out of one of the lists"
            findings.append(Finding(severity, "volume-overlap", name, None, message, remedy))
    return findings


def _sizes(spacing: Sequence[float] | None) -> str:
    return "unknown spacing in" if spacing is None else " x ".join(f"{value:g}" for value in spacing)
