"""COCO's object annotations, and data sets in this format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.datasets.cards import colour_map
from wss.datasets.coco_instances import (
    Instances,
    category_notes,
    class_indices,
    find_folder,
    image_file,
    known_id,
    read_instances,
)
from wss.datasets.files import Entry, FileSource, ReadOptions
from wss.datasets.finding import FileProblem, Finding
from wss.datasets.listing import split_by_hash
from wss.datasets.source import Catalogue
from wss.errors import DataError
from wss.labels import UNLABELLED

_YEARS = ("2017", "2014")


class CocoOptions(ReadOptions):
    """Options of kind ``coco``; relative paths are taken from the data set's root.

    Attributes:
        train: Annotation file of the training images; None looks for ``instances_train2017.json``, ``instances_train2014.json``
            and ``train.json``, in ``annotations`` and in the root.
        val: Annotation file of the validation images, found in the same way. If there is none, a part of the training images is
            used (``val_fraction``).
        images: Folder of images; None looks in the folders of COCO's archives (``train2017`` and the like) and in ``images``.
        val_fraction: Fraction of the images that becomes ``val`` if there is no validation file.
    """

    train: Path | None = None
    val: Path | None = None
    images: Path | None = None
    val_fraction: float = Field(default=0.2, ge=0, lt=1)


class CocoSource(FileSource):
    """Objects in COCO's format: the classes are its categories by ascending id, after the background.

    A category called background is the background class, and categories with the same name are one class. Masks are drawn from
    the objects' outlines, smaller objects over larger ones. Pixels are void if only a crowd annotation covers them, or only the
    box of an object without an outline. If no object in the data set has an outline, there are no masks. Boxes are those of the
    annotations, without crowds and background.
    """

    options: CocoOptions
    version = 3

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        self.instances: dict[str, Instances] = {}
        self.entries = {}
        self.notes = []
        splits: dict[str, tuple[str, ...]] = {}
        categories: Mapping[int, str] | None = None
        files: list[Instances] = []
        for split in ("train", "val"):
            path = self._file(split)
            if path is None:
                continue
            instances = read_instances(path)
            if categories is not None and instances.categories != categories:
                raise DataError(
                    f"{path}: has other categories than the file of the training images; give both the same"
                )
            categories = instances.categories
            self.notes += category_notes(path, categories)
            folder = self._folder(split, instances)
            for name, (file, _, _) in instances.images.items():
                if name in self.instances:
                    message = f"names image {name!r}, which {self.instances[name].path.name} has too"
                    raise FileProblem("split-overlap", path, message, "give every image its own file name and split")
                self.instances[name] = instances
                self.entries[name] = Entry(image_file(folder, file), path, None, path)
            splits[split] = tuple(instances.images)
            files.append(instances)
        if categories is None:
            raise DataError(
                f"{self.root}: no annotation file such as annotations/instances_train2017.json; name yours with the option "
                "train (and val)"
            )
        if "val" not in splits:
            chosen = split_by_hash(splits["train"], self.options.val_fraction)
            splits = {
                "train": tuple(i for i in splits["train"] if i not in chosen),
                "val": tuple(i for i in splits["train"] if i in chosen),
            }
        classes, self.label_of = class_indices(categories)
        if len(classes) > UNLABELLED:
            raise DataError(f"{self.root}: {len(classes) - 1} categories, at most {UNLABELLED - 1} are possible")
        self._note_outlines(files)
        self.catalogue = Catalogue("coco", classes, colour_map(len(classes)), splits, background=0)

    def _note_outlines(self, files: Sequence[Instances]) -> None:
        """Report objects without an outline, and remove the masks if no object has an outline."""
        objects = without = 0
        bare: list[tuple[Instances, str]] = []
        for instances in files:
            for name, (_, height, width) in instances.images.items():
                for row in instances.annotations[name]:
                    objects += 1
                    if self.label_of.get(row.get("category_id", -1)) == 0 or not instances.doubtful(row):
                        continue
                    try:
                        bare += [(instances, name)] if instances.vague(row, (height, width)) is not None else []
                        without += not instances.region(row, (height, width)).any()
                    except DataError:
                        continue  # reading the image will report the problem
        if not bare:
            return
        images = len({name for _, name in bare})
        message = f"{len(bare)} of {objects} objects in {images} images have no outline, or one without extent"
        if without == objects:
            message += ": there are no masks"
            self.entries = {name: replace(entry, mask=None) for name, entry in self.entries.items()}
        else:
            message += ": their boxes are void in the masks"
        remedy = "give them outlines, or train from boxes (`wss prepare --annotation box`)"
        first, name = bare[0]
        note = Finding("warning", "object-without-outline", name, first.path, message, remedy, images)
        self.notes = [*self.notes, note]

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """The mask, drawn from the outlines of objects."""
        instances, rows = self._rows(image_id)
        if self.entries[image_id].mask is None:
            return None
        _, height, width = instances.images[image_id]
        regions = [(self._class(instances, row), instances.region(row, (height, width))) for row in rows]
        mask = np.zeros((height, width), np.uint8)
        for row, (label, region) in zip(rows, regions, strict=True):
            unsure = label != 0 and (instances.doubtful(row) or not region.any())
            unknown = instances.vague(row, (height, width)) if unsure else None
            if unknown is not None:
                mask[unknown] = UNLABELLED
        for label, region in sorted(regions, key=lambda pair: (pair[0] != UNLABELLED, -int(pair[1].sum()))):
            mask[region] = label
        return mask

    def load_boxes(self, image_id: str) -> NDArray[np.int32] | None:
        """The boxes of single objects."""
        instances, rows = self._rows(image_id)
        boxes = []
        for row in rows:
            label = self._class(instances, row)
            if label in (0, UNLABELLED):
                continue
            x, y, width, height = instances.extent(row)
            corner = (int(np.floor(x)), int(np.floor(y)))
            end = (int(np.ceil(x + width)) - 1, int(np.ceil(y + height)) - 1)
            boxes.append((label, *corner, *end))
        return np.array(boxes, np.int32).reshape(-1, 5)

    def _rows(self, image_id: str) -> tuple[Instances, Sequence[Mapping[str, Any]]]:
        self.entry(image_id)
        instances = self.instances[image_id]
        return instances, instances.annotations[image_id]

    def _class(self, instances: Instances, row: Mapping[str, Any]) -> int:
        if row.get("category_id") not in self.label_of:
            raise instances.problem(row, f"has category {row.get('category_id')!r}, which is not in the file's list")
        crowd = known_id(row.get("iscrowd", 0) or 0)
        if crowd not in (0, 1):
            raise instances.problem(row, f"has the value {row['iscrowd']!r} for iscrowd, expected 0 or 1")
        return UNLABELLED if crowd else self.label_of[row["category_id"]]

    def _file(self, split: str) -> Path | None:
        given = self.options.train if split == "train" else self.options.val
        if given is not None:
            return self.root / given
        names = [f"instances_{split}{year}.json" for year in _YEARS] + [f"{split}.json"]
        paths = [folder / name for name in names for folder in (self.root / "annotations", self.root)]
        return next((path for path in paths if path.is_file()), None)

    def _folder(self, split: str, instances: Instances) -> Path:
        if self.options.images is not None:
            return self.root / self.options.images
        archives = [f"{split}{year}" for year in _YEARS]
        names = [*archives, *(f"images/{name}" for name in archives), f"images/{split}", "images", split, "."]
        return find_folder([self.root / name for name in names], instances)
