"""A user's own data set: folders of images, scribbles and masks, a list of class names, and optional lists of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from wss.datasets.classlist import read_classes
from wss.datasets.files import Entry, FileSource, ReadOptions, annotation_files, image_files, orphans, unlisted
from wss.datasets.finding import Finding
from wss.datasets.images import IMAGE_SUFFIXES, LABEL_SUFFIXES
from wss.datasets.listing import files_by_stem, read_list, split_by_hash, unread_files
from wss.datasets.name_pattern import files_by_pattern, masks_among_images, without_match
from wss.datasets.source import Catalogue, Volume
from wss.datasets.strokes_io import STROKE_SUFFIXES
from wss.datasets.tables import BOXES_FILE, TAGS_FILE, Boxes, Tags, read_boxes, read_tags
from wss.datasets.volumes import PATIENT_SLICES, compile_pattern, find_volumes
from wss.errors import DataError
from wss.params import LATER

_CLASS_FILES = ("classes.txt", "classes.yaml", "classes.yml", "classes.json", "labels.txt", "labelmap.txt")


class FolderOptions(ReadOptions):
    """Options of kind ``folder``; relative paths are taken from the data set's root.

    Attributes:
        images: Folder of images. If it is not given and there is no folder ``images``, the images in the root are used.
        masks: Folder of dense masks, class indices and 255 for void; may be missing.
        scribbles: Folder of scribbles: label images with 255 for unlabelled, ScribbleSup XML or text polylines; may be
            missing (``wss data simulate`` draws scribbles from masks).
        mask_pattern: Names of masks if they differ from the names of images, for example ``{name}_mask.png`` in the folder of
            masks. A pattern with a folder is relative to the root, for example ``images/{name}_mask.png``.
        scribble_pattern: The same for scribbles.
        tags: Table of image tags, see ``read_tags``; None uses tags.csv if it exists.
        boxes: Table of boxes, see ``read_boxes``; None uses boxes.csv if it exists.
        classes: File of class names; None uses classes.txt, .yaml or .json, Labelme's labels.txt or CVAT's labelmap.txt.
        val_fraction: Fraction of the images with masks that becomes ``val`` if there are no lists.
        volume_pattern: Regular expression that recognises slices of volumes by their id; None if there are no volumes.
    """

    images: Path = Path("images")
    masks: Path = Path("masks")
    scribbles: Path = Path("scribbles")
    mask_pattern: str | None = Field(default=None, json_schema_extra=LATER)
    scribble_pattern: str | None = Field(default=None, json_schema_extra=LATER)
    tags: Path | None = Field(default=None, json_schema_extra=LATER)
    boxes: Path | None = Field(default=None, json_schema_extra=LATER)
    classes: Path | None = None
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    volume_pattern: str | None = PATIENT_SLICES


class FolderSource(FileSource):
    """A data set in folders; an annotation has the name of its image, with its own suffix.

    Splits are the lists train.txt, val.txt and test.txt in the root, if they exist. If there is no train.txt, images in no list
    are in ``train``. Else, if there is no val.txt, images with masks in no list are in ``val``. Without any list, ``val`` is a
    fixed pseudo-random fifth of the images with masks (``split_by_hash``; volumes stay together).
    """

    options: FolderOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        options = self.options
        names, palette, background, _ = read_classes(self._class_file())
        self._images = images_folder(self.root, options.images)
        images, notes = image_files(self.root / self._images)
        masks, mask_notes = self._annotations("mask", images, LABEL_SUFFIXES)
        scribbles, scribble_notes = self._annotations("scribble", images, (*STROKE_SUFFIXES, *LABEL_SUFFIXES))
        beside = {*masks.values(), *scribbles.values()} & set(images.values())
        images = {name: path for name, path in images.items() if path not in beside}
        notes += [f for f in mask_notes + scribble_notes if f.file not in beside] + _beside(sorted(beside))
        notes += masks_among_images(self._images, images)
        labels = {name: index for index, name in enumerate(names)}
        tags, boxes = self._tables(labels, images)
        volumes: dict[str, Volume] = {}
        groups: dict[str, str] = {}
        if options.volume_pattern is not None:
            volumes, grouped = find_volumes(images, compile_pattern(options.volume_pattern))
            groups = dict(grouped)
        splits, split_notes = self._splits(list(images), set(masks), groups)
        notes += split_notes
        listed = dict.fromkeys(i for split in splits.values() for i in split)
        boxes_file = self.tables.get("boxes")
        self.entries = {
            i: Entry(
                images.get(i, self.root / self._images / f"{i}.png"),
                masks.get(i),
                scribbles.get(i),
                boxes_file if i in boxes else None,
                boxes.get(i),
                tags.get(i),
            )
            for i in {**images, **listed}
        }
        self.notes = [*notes, *self.table_notes, *unlisted(images, splits), *self._unread()]
        self.notes += self._without_row({"tags": tags, "boxes": boxes}, splits)
        self.catalogue = Catalogue("folder", names, palette, splits, volumes, background)

    def files(self, image_id: str) -> Sequence[Path]:
        """The files that ``read`` opens for this image, existing or not, and the tables."""
        return list(dict.fromkeys((*super().files(image_id), *self.tables.values())))

    def _annotations(
        self, kind: Literal["mask", "scribble"], images: Mapping[str, Path], suffixes: Sequence[str]
    ) -> tuple[dict[str, Path], list[Finding]]:
        masks = kind == "mask"
        folder = self.options.masks if masks else self.options.scribbles
        pattern = self.options.mask_pattern if masks else self.options.scribble_pattern
        if pattern is not None:
            return files_by_pattern(self.root, folder, pattern, images, suffixes, kind)
        files, notes = annotation_files([self.root / folder], suffixes)
        notes += without_match(self.root, folder, images, files, suffixes, kind)
        return files, notes + orphans(images, files, kind)

    def _unread(self) -> list[Finding]:
        """Findings for files that are not read. Folders in patterns are checked elsewhere."""
        places: list[tuple[Path, tuple[str, ...]]] = [(self._images, IMAGE_SUFFIXES)] if self._images.name else []
        if self.options.mask_pattern is None:
            places.append((self.options.masks, LABEL_SUFFIXES))
        if self.options.scribble_pattern is None:
            places.append((self.options.scribbles, (*STROKE_SUFFIXES, *LABEL_SUFFIXES)))
        read: dict[Path, tuple[str, ...]] = {}
        for place, suffixes in places:
            folder = self.root / place
            read[folder] = tuple(dict.fromkeys((*read.get(folder, ()), *suffixes)))
        return [finding for folder, suffixes in read.items() for finding in unread_files(folder, suffixes)]

    def _tables(
        self, labels: Mapping[str, int], images: Mapping[str, Path]
    ) -> tuple[dict[str, Tags], dict[str, Boxes]]:
        """Tags and boxes by image; fills in ``tables`` and ``table_notes``."""
        self.tables: dict[str, Path] = {}
        self.table_notes: list[Finding] = []
        table_options = {"tags": (self.options.tags, TAGS_FILE), "boxes": (self.options.boxes, BOXES_FILE)}
        for name, (option, usual) in table_options.items():
            if option is not None or (self.root / usual).exists():
                self.tables[name] = self.root / (option or usual)
        tags: dict[str, Tags] = {}
        boxes: dict[str, Boxes] = {}
        if "tags" in self.tables:
            tags, tag_notes = read_tags(self.tables["tags"], labels, images)
            self.table_notes += tag_notes
        if "boxes" in self.tables:
            boxes, box_notes = read_boxes(self.tables["boxes"], labels, images)
            self.table_notes += box_notes
        return tags, boxes

    def _without_row(
        self, rows: Mapping[str, Mapping[str, object]], splits: Mapping[str, Sequence[str]]
    ) -> list[Finding]:
        """Findings for training images that the tables do not contain."""
        findings = []
        for name, path in self.tables.items():
            missing = [i for i in splits.get("train", ()) if i not in rows[name]]
            message = f"{len(rows[name])} images have {name} in the table"
            findings.append(Finding("note", name, None, path, message, "nothing to do"))
            if missing:
                message = f"{len(missing)} training images have no row, such as {missing[0]}"
                remedy = "add a row for each; one without class says that nothing is there"
                findings.append(Finding("warning", f"no-{name}", missing[0], path, message, remedy, len(missing)))
        return findings

    def _class_file(self) -> Path:
        return class_file(self.root, self.options.classes)

    def _splits(
        self, ids: list[str], masked: set[str], groups: dict[str, str]
    ) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for name in ("train", "val", "test"):
            path = self.root / f"{name}.txt"
            if path.exists():
                splits[name], list_notes = read_list(path)
                notes += list_notes
        if not splits:
            val = split_by_hash([i for i in ids if i in masked], self.options.val_fraction, groups)
            return {"train": tuple(i for i in ids if i not in val), "val": tuple(i for i in ids if i in val)}, notes
        listed = {i for split in splits.values() for i in split}
        rest = [i for i in ids if i not in listed]
        if "train" not in splits:
            splits["train"] = tuple(rest)
        elif "val" not in splits:
            splits["val"] = tuple(i for i in rest if i in masked)
        if not any(splits.values()):
            raise DataError(f"{self.root}: train.txt, val.txt and test.txt are all empty; write one image name a line")
        return {name: splits[name] for name in ("train", "val", "test") if name in splits}, notes


def _beside(files: Sequence[Path]) -> list[Finding]:
    """Note for annotation files in the folder of images."""
    if not files:
        return []
    message = f"{len(files)} files among the images have names of annotations and are read as those"
    return [Finding("note", "annotation-beside-image", None, files[0], message, "nothing to do", len(files))]


def images_folder(root: Path, named: Path = Path("images")) -> Path:
    """Folder of the images, relative to the root: ``named``, or the root itself if ``images`` is missing and the root has images.

    Args:
        root: The data set's folder.
        named: The folder from the options.
    """
    if named == Path("images") and not (root / named).exists() and files_by_stem(root, IMAGE_SUFFIXES)[0]:
        return Path()
    return named


def class_file(root: Path, named: Path | None = None) -> Path:
    """File of class names: ``named``, or the first of the usual files that exists. The result may not exist.

    Args:
        root: The data set's folder.
        named: The file from the options.
    """
    if named is not None:
        return root / named
    return next((root / name for name in _CLASS_FILES if (root / name).exists()), root / "classes.txt")
