"""PASCAL-Context: VOC 2010 photographs with 59 classes of objects and stuff, and background."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import Card, load_card
from wss.datasets.files import (
    Entry,
    FileSource,
    ReadOptions,
    Scribble,
    annotation_files,
    image_files,
    orphans,
    unlisted,
)
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import LABEL_SUFFIXES
from wss.datasets.listing import read_list
from wss.datasets.matlab import read_mat
from wss.datasets.source import Catalogue
from wss.datasets.value_map import ValueMap
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

_MASK_FOLDERS = ("trainval", "SegmentationClassContext", "59_context_labels")
_LIST_FOLDERS = ("ImageSets/SegmentationContext", "ImageSets/Main")


class ContextOptions(ReadOptions):
    """Options of kind ``context``; relative paths are taken from the data set's root.

    Attributes:
        background: True if the background is a class (60 classes), False if it is void (59 classes).
        order: Class order of label images: ``alphabetical``, or ``voc-first`` with VOC's twenty classes before the others.
            Not used for .mat files. The resulting classes are always in alphabetical order.
        scribbles: Folder of scribble files, whose label images have the same ``order``.
    """

    background: bool = True
    order: Literal["alphabetical", "voc-first"] = "alphabetical"
    scribbles: Path = Path("scribble_annotation/pascal_context")


class ContextSource(FileSource):
    """PASCAL-Context as described in the card ``context``."""

    options: ContextOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        card = load_card("context")
        images, notes = image_files(self.root / "JPEGImages")
        masks, mask_notes = annotation_files([self.root / name for name in _MASK_FOLDERS], (".mat", *LABEL_SUFFIXES))
        scribbles, scribble_notes = annotation_files([self.root / self.options.scribbles])
        notes += mask_notes + scribble_notes + orphans(images, masks, "mask") + orphans(images, scribbles, "scribble")
        splits, split_notes = self._splits(masks)
        notes += split_notes
        listed = dict.fromkeys(i for split in splits.values() for i in split)
        jpegs = self.root / "JPEGImages"
        self.entries = {
            i: Entry(images.get(i, jpegs / f"{i}.jpg"), masks.get(i), scribbles.get(i)) for i in {**images, **listed}
        }
        self.notes = notes + unlisted({i: path for i, path in images.items() if i in masks}, splits)
        self.from_file, self.from_mat = _tables(card, self.options)
        first = 0 if self.options.background else 1
        background = 0 if self.options.background else None
        self.catalogue = Catalogue("context", card.classes[first:], card.colours[first:], splits, background=background)

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """Only the mask, with the class order of the card, from a .mat file or a label image."""
        path = self.entry(image_id).mask
        if path is None or path.suffix.lower() != ".mat":
            return super().load_mask(image_id)
        labels = read_mat(path, "LabelMap")
        if labels.max(initial=0) >= len(self.from_mat):
            raise FileProblem(
                "label-range", path, f"holds label {labels.max()}, the 459 classes end earlier", "download it again"
            )
        return self.from_mat[labels]

    def load_scribble(self, image_id: str) -> Scribble:
        """Only the scribble, with the class order of the card. If the background is not a class, its strokes are left out."""
        scribble = super().load_scribble(image_id)
        path = self.entry(image_id).scribble
        if not isinstance(scribble, tuple) or path is None:
            return scribble
        named = path.suffix.lower() == ".xml"
        table = np.arange(256, dtype=np.uint8) if named else self.from_file
        strokes = (Stroke(int(table[stroke.label]), stroke.points, stroke.width) for stroke in scribble)
        return tuple(stroke for stroke in strokes if stroke.label != UNLABELLED)

    def labels_by_name(self) -> Mapping[str, int]:
        """Class indices by name and by other spellings in circulation. The background is 255 if it is not a class."""
        labels = {"background": UNLABELLED, **super().labels_by_name()}
        return labels | {alias: labels[name] for alias, name in load_card("context").aliases.items()}

    def _label(self, path: Path, values: ValueMap) -> NDArray[np.uint8]:
        return self.from_file[super()._label(path, values)]

    def _splits(self, masks: Mapping[str, Path]) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for name in ("train", "val"):
            paths = [self.root / folder / f"{name}.txt" for folder in _LIST_FOLDERS]
            path = next((p for p in paths if p.exists()), None)
            if path is None:
                raise DataError(f"{paths[0]}: no such list, nor {paths[1]}; copy the lists of VOC 2010 there")
            ids, list_notes = read_list(path)
            notes += list_notes
            splits[name] = tuple(i for i in ids if i in masks) if path == paths[1] else ids
        return splits, notes


def _tables(card: Card, options: ContextOptions) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lookup tables from the values of label images and of .mat files to class indices."""
    stored = card.orders["voc-first"] if options.order == "voc-first" else card.classes
    index = {name: position for position, name in enumerate(card.classes)}
    from_file = np.arange(256, dtype=np.uint8)
    from_file[: len(stored)] = [index[name] for name in stored]
    from_mat = np.zeros(460, np.uint8)
    from_mat[card.facts["label_map"]] = np.arange(len(card.classes))
    if not options.background:
        lower = np.arange(256, dtype=np.uint8)
        lower[: len(card.classes)] = [UNLABELLED, *range(len(card.classes) - 1)]
        from_file, from_mat = lower[from_file], lower[from_mat]
    return from_file, from_mat
