"""ACDC cardiac MRI with scribbles, as HDF5 slices and volumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.datasets.cards import load_card
from wss.datasets.files import Entry, FileSource, ReadOptions, Scribble
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import Picture, linear
from wss.datasets.listing import files_by_stem, read_list, split_by_hash
from wss.datasets.source import Catalogue
from wss.datasets.value_map import ValueMap, remap
from wss.datasets.volumes import PATIENT_SLICES, compile_pattern, find_volumes
from wss.errors import DataError
from wss.store.raw_hdf5 import raw_shape, read_raw_arrays

_SLICE_FOLDERS = (".", "ACDC_training_slices", "slices")
_VOLUME_FOLDERS = (".", "ACDC_training_volumes", "volumes")
_VOLUME = re.compile(r"patient\d+_frame\d+")


class AcdcOptions(ReadOptions):
    """Options of kind ``acdc``.

    Attributes:
        val_fraction: Fraction of the patients that becomes ``val`` if there is no val.txt.
    """

    val_fraction: float = Field(default=0.2, ge=0, lt=1)


class AcdcSource(FileSource):
    """ACDC as described in the card ``acdc``.

    Floating-point images in 0..1 are converted to 8 bits and repeated over three channels. Slices of a volume file are numbered
    from 0. The files do not contain the distance between slices, so volumes have no spacing.
    """

    options: AcdcOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        card = load_card("acdc")
        pattern = compile_pattern(PATIENT_SLICES)
        slices = {n: p for n, p in self._files(_SLICE_FOLDERS).items() if pattern.fullmatch(n)}
        scans = {n: p for n, p in self._files(_VOLUME_FOLDERS).items() if _VOLUME.fullmatch(n)}
        sliced = {match["volume"] for match in map(pattern.fullmatch, slices) if match}
        positions: dict[str, int] = {}
        for name, path in scans.items():
            if name not in sliced:
                for number in range(_depth(path)):
                    slices[f"{name}_slice_{number}"] = path
                    positions[f"{name}_slice_{number}"] = number
        if not slices:
            raise DataError(f"{self.root}: no files like patient001_frame01_slice_0.h5; expected {card.layout.strip()}")
        volumes, patients = find_volumes(slices, pattern)
        ordered = [image_id for volume in volumes.values() for image_id in volume.ids]
        self.unlabelled = int(card.facts["unlabelled"])
        self.positions = positions
        self.entries = {i: Entry(slices[i], slices[i], slices[i]) for i in ordered}
        splits, notes = self._splits(ordered, dict(patients))
        listed = {i for split in splits.values() for i in split}
        self.notes = notes + [
            Finding("warning", "unlisted", i, slices[i], "slice in no split", "add it to a list, or ignore this")
            for i in ordered
            if i not in listed
        ]
        self.catalogue = Catalogue("acdc", card.classes, card.colours, splits, volumes, card.background)

    def load_picture(self, image_id: str) -> Picture:
        """The image with three equal channels. Values in 0..1 are multiplied by 255; others are scaled from their own range."""
        values = self._array(image_id, "image")
        if values is None:
            raise self._problem(image_id, "unreadable-image", "has no array 'image'")
        if values.ndim != 2 or not np.isfinite(values).all():
            raise self._problem(image_id, "unreadable-image", f"image is not finite numbers (H, W) but {values.shape}")
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if values.dtype.kind == "f" and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        grey = linear(values, low, high)
        return Picture(np.repeat(grey[..., None], 3, axis=2), None)

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """The dense labels, or None if the file has none."""
        return self._labels(image_id, "label", self.options.ignore, self.options.mask_values)

    def load_scribble(self, image_id: str) -> Scribble:
        """The scribble as a raster, 255 = unlabelled, or None if the file has none."""
        ignore = (self.unlabelled, *self.options.ignore)
        return self._labels(image_id, "scribble", ignore, self.options.scribble_values)

    def _labels(self, image_id: str, name: str, ignore: Sequence[int], stored: ValueMap) -> NDArray[np.uint8] | None:
        values = self._array(image_id, name)
        if values is None:
            return None
        if values.ndim != 2 or values.dtype.kind not in "iuf":
            raise self._problem(
                image_id, "unreadable-label", f"{name} is {values.dtype} {values.shape}, expected (H, W)"
            )
        if values.size and (not (values == np.floor(values)).all() or values.min() < 0 or values.max() > 255):
            raise self._problem(image_id, "label-range", f"{name} holds values that are no labels from 0 to 255")
        return remap(values.astype(np.uint8), ignore, stored)

    def _array(self, image_id: str, name: str) -> NDArray[Any] | None:
        path = self.entry(image_id).image
        if not path.exists():
            raise FileProblem("missing-file", path, "no such file", "restore it or take it out of the list")
        return read_raw_arrays(path, [name], index=self.positions.get(image_id)).get(name)

    def _problem(self, image_id: str, code: str, message: str) -> FileProblem:
        return FileProblem(code, self.entry(image_id).image, message, "copy or download it again")

    def _files(self, folders: Sequence[str]) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for folder in folders:
            files = files_by_stem(self.root / folder, (".h5", ".hdf5"))[0] | files
        return files

    def _splits(self, ids: list[str], patients: dict[str, str]) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for name in ("train", "val", "test"):
            path = self.root / f"{name}.txt"
            if path.exists():
                entries, list_notes = read_list(path)
                splits[name] = tuple(i for entry in entries for i in self._select(entry, ids, path, notes))
                notes += list_notes
        listed = {i for split in splits.values() for i in split}
        rest = [i for i in ids if i not in listed]
        if "val" not in splits:
            val = split_by_hash(rest, self.options.val_fraction, patients) if "train" not in splits else set(rest)
            splits["val"] = tuple(i for i in rest if i in val)
            rest = [i for i in rest if i not in val]
        if "train" not in splits:
            splits["train"] = tuple(rest)
        return {name: splits[name] for name in ("train", "val", "test") if name in splits}, notes

    def _select(self, entry: str, ids: list[str], path: Path, notes: list[Finding]) -> list[str]:
        entry = entry.removesuffix(".h5")
        chosen = [entry] if entry in self.entries else [i for i in ids if i.startswith(f"{entry}_")]
        if not chosen:
            notes.append(
                Finding(
                    "error",
                    "missing-file",
                    entry,
                    path,
                    f"lists {entry}, but there is no such slice, volume or patient",
                    "restore the file or take it out of the list",
                )
            )
        return chosen


def _depth(path: Path) -> int:
    shape = raw_shape(path, "image")
    if len(shape) != 3:
        raise DataError(f"{path}: image has shape {shape}, expected (slices, H, W); download the file again")
    return shape[0]
