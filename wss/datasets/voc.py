"""PASCAL VOC 2012, with SBD masks and ScribbleSup scribbles if present."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import load_card
from wss.datasets.files import (
    Entry,
    FileSource,
    ReadOptions,
    annotation_files,
    image_files,
    label_out_of_range,
    orphans,
    unlisted,
)
from wss.datasets.finding import Finding
from wss.datasets.images import LABEL_SUFFIXES
from wss.datasets.listing import files_by_stem, read_list, split_by_hash
from wss.datasets.matlab import read_mat
from wss.datasets.source import Catalogue, Sample
from wss.datasets.strokes_io import label_of, number_in, xml_root
from wss.datasets.value_map import remap
from wss.errors import DataError

_SCRIBBLE_FOLDERS = (
    "scribble_annotation/pascal_2012",
    "ScribbleAnnotation/pascal_2012",
    "pascal_2012_scribble",
    "scribbles",
    "scribble_polyline_txt",
    "scribble_png",
)
_SBD_FOLDERS = ("benchmark_RELEASE/dataset", "sbd/dataset", "sbd")


class VocOptions(ReadOptions):
    """Options of kind ``voc``. Relative paths start at the data set's root.

    Attributes:
        scribbles: Folder of scribble files (XML, text polylines or PNG). None searches the folders used by ScribbleSup
            and its conversions. If an image has strokes and a raster, the strokes are used.
        sbd: Folder of SBD: the folder that contains ``cls``, or one above. None searches ``benchmark_RELEASE`` and ``sbd``.
    """

    scribbles: Path | None = None
    sbd: Path | None = None


class VocSource(FileSource):
    """VOC 2012 as described in the card ``voc``.

    Every list in ImageSets/Segmentation is a split. With SBD and without a list ``trainaug.txt``, the split ``trainaug`` is
    VOC train and all of SBD without VOC val. Without any list, a fifth of the images with masks becomes ``val``
    (``split_by_hash``) and the rest ``train``.
    """

    options: VocOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        card = load_card("voc")
        images, notes = image_files(self.root / "JPEGImages")
        masks, mask_notes = annotation_files([self.root / "SegmentationClass"], LABEL_SUFFIXES)
        augmented, augmented_notes = annotation_files([self.root / "SegmentationClassAug"], LABEL_SUFFIXES)
        notes += mask_notes + augmented_notes + orphans(images, masks | augmented, "mask")
        sbd = self._sbd()
        sbd_masks = files_by_stem(sbd / "cls", (".mat",))[0] if sbd else {}
        if sbd:
            images = files_by_stem(sbd / "img", (".jpg",))[0] | images
        all_masks = sbd_masks | augmented | masks
        scribbles, scribble_notes = annotation_files(self._scribble_folders(), ending="_scribble")
        notes += scribble_notes + orphans(images, scribbles, "scribble")
        objects = files_by_stem(self.root / "Annotations", (".xml",))[0]
        splits, split_notes = self._splits(sbd)
        notes += split_notes
        if not splits:
            val = split_by_hash([i for i in images if i in all_masks], 0.2)
            splits = {"train": tuple(i for i in images if i not in val), "val": tuple(i for i in images if i in val)}
        listed = dict.fromkeys(i for split in splits.values() for i in split)
        jpegs = self.root / "JPEGImages"
        self.entries = {
            i: Entry(images.get(i, jpegs / f"{i}.jpg"), all_masks.get(i), scribbles.get(i), objects.get(i))
            for i in {**images, **listed}
        }
        segmented = {i: path for i, path in images.items() if i in all_masks or i in scribbles}
        self.notes = notes + unlisted(segmented, splits)
        self.catalogue = Catalogue("voc", card.classes, card.colours, splits, background=card.background)

    def read(self, image_id: str) -> Sample:
        """Read one image with its annotations; boxes and tags (with background) come from ``Annotations``.

        Raises:
            DataError: A file is missing, unreadable or breaks a convention; the message names it and the remedy.
        """
        sample = super().read(image_id)
        if sample.boxes is None:
            return sample
        return replace(sample, tags=tuple(sorted({0, *sample.boxes[:, 0].tolist()})))

    def load_boxes(self, image_id: str) -> NDArray[np.int32] | None:
        """The boxes of ``Annotations``."""
        path = self.entry(image_id).objects
        return None if path is None else read_objects(path, self.labels_by_name())

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """The mask alone, from PNG or from an SBD .mat file."""
        path = self.entry(image_id).mask
        if path is not None and path.suffix.lower() == ".mat":
            labels = read_mat(path, "GTcls", "Segmentation")
            if labels.max() > 255:
                raise label_out_of_range(path, int(labels.max()), len(self.catalogue.classes), stored=True)
            return remap(labels.astype(np.uint8), self.options.ignore, self.options.mask_values)
        return super().load_mask(image_id)

    def labels_by_name(self) -> Mapping[str, int]:
        """Class indices by VOC's names and by the spellings found in scribble files."""
        labels = dict(super().labels_by_name())
        return labels | {alias: labels[name] for alias, name in load_card("voc").aliases.items()}

    def _scribble_folders(self) -> list[Path]:
        if self.options.scribbles is None:
            return [self.root / name for name in _SCRIBBLE_FOLDERS]
        folder = self.root / self.options.scribbles
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; correct the option scribbles")
        return [folder]

    def _sbd(self) -> Path | None:
        given = self.options.sbd
        candidates = [self.root / name for name in _SBD_FOLDERS]
        if given is not None:
            candidates = [
                self.root / given,
                self.root / given / "dataset",
                self.root / given / "benchmark_RELEASE/dataset",
            ]
        for folder in candidates:
            if (folder / "cls").is_dir():
                return folder
        if given is not None:
            raise DataError(f"{self.root / given}: no SBD here, expected dataset/cls/*.mat; correct the option sbd")
        return None

    def _splits(self, sbd: Path | None) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for name, path in files_by_stem(self.root / "ImageSets" / "Segmentation", (".txt",))[0].items():
            splits[name], list_notes = read_list(path)
            notes += list_notes
        if sbd and "trainaug" not in splits and {"train", "val"} <= set(splits):
            more: set[str] = set()
            for name in ("train", "val"):
                if (sbd / f"{name}.txt").exists():
                    ids, list_notes = read_list(sbd / f"{name}.txt")
                    more |= set(ids)
                    notes += list_notes
            splits["trainaug"] = tuple(sorted((more | set(splits["train"])) - set(splits["val"])))
        order = ("train", "trainaug", "val")
        return {name: splits[name] for name in (*order, *splits) if name in splits}, notes


def read_objects(path: Path, labels: Mapping[str, int]) -> NDArray[np.int32]:
    """Read the boxes of a VOC object annotation.

    Args:
        path: The XML file; its coordinates count from 1 and include both ends.
        labels: Class index by name.

    Returns:
        int32 (N, 5), rows ``class, x0, y0, x1, y1``, pixels from 0 and inclusive.

    Raises:
        DataError: Missing, damaged or not of this form, or with an unknown class name.
    """
    rows = []
    for number, item in enumerate(xml_root(path).iter("object"), 1):
        label = label_of(path, f"object {number}", (item.findtext("name") or "").strip(), labels)
        corners = [item.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        rows.append([label, *(round(number_in(path, number, text)) - 1 for text in corners)])
    return np.array(rows, np.int32).reshape(-1, 5)
