"""CamVid with 11 classes, in the layout of the SegNet tutorial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import load_card
from wss.datasets.classlist import read_classes
from wss.datasets.files import Entry, FileSource, ReadOptions, annotation_files, image_files, orphans
from wss.datasets.finding import Finding
from wss.datasets.images import LABEL_SUFFIXES
from wss.datasets.source import Catalogue
from wss.datasets.value_map import ValueMap, remap, written
from wss.errors import DataError
from wss.labels import UNLABELLED


class CamvidOptions(ReadOptions):
    """Options of kind ``camvid``.

    Attributes:
        scribbles: Folder of scribbles of all splits, relative to the data set's root; None looks for ``trainscribble`` and
            the like, one per split.
    """

    scribbles: Path | None = None


class CamvidSource(FileSource):
    """CamVid as described in the card ``camvid``: the folders are the splits, lists are not read."""

    options: CamvidOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        card = load_card("camvid")
        splits: dict[str, tuple[str, ...]] = {}
        entries: dict[str, Entry] = {}
        notes: list[Finding] = []
        for split in ("train", "val", "test"):
            folder = self.root / split
            if not folder.is_dir() and split == "test":
                continue
            images, image_notes = image_files(folder)
            masks, mask_notes = annotation_files([self.root / f"{split}annot"], LABEL_SUFFIXES)
            scribbles, scribble_notes = annotation_files([self.root / (self.options.scribbles or f"{split}scribble")])
            notes += image_notes + mask_notes + scribble_notes + orphans(images, masks, "mask")
            if self.options.scribbles is None:
                notes += orphans(images, scribbles, "scribble")
            splits[split] = tuple(images)
            for name, path in images.items():
                if name in entries:
                    raise DataError(f"{path}: {entries[name].image} has the same name; give every frame its own name")
                entries[name] = Entry(path, masks.get(name), scribbles.get(name))
        listed = self.root / "classes.txt"
        if listed.exists() and not self.options.mask_values:
            found_names = read_classes(listed).names
            if found_names != card.classes:
                message = f"lists {', '.join(found_names)}; masks are read as {', '.join(card.classes)}"
                index = {name: number for number, name in enumerate(card.classes)}
                values = {stored: index.get(name, UNLABELLED) for stored, name in enumerate(found_names)}
                remedy = f"if the masks are in the listed order, set mask_values: {written(values)} below dataset in wss.yaml"
                notes.append(
                    Finding("warning", "class-order", None, listed, message, f"{remedy}; else correct the list")
                )
        self.unlabelled = int(card.facts["unlabelled"])
        self.entries = entries
        self.notes = notes
        self.catalogue = Catalogue("camvid", card.classes, card.colours, splits, background=card.background)

    def _label(self, path: Path, values: ValueMap) -> NDArray[np.uint8]:
        return remap(super()._label(path, values), (self.unlabelled,))
