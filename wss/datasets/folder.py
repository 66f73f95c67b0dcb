"""A user's own data set: folders of images, scribbles and masks, a list of class names, and optional lists of images."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from wss.datasets.classlist import read_classes
from wss.datasets.files import Entry, FileSource, ReadOptions, annotation_files, image_files, orphans, unlisted
from wss.datasets.finding import Finding
from wss.datasets.images import LABEL_SUFFIXES
from wss.datasets.listing import read_list, split_by_hash
from wss.datasets.source import Catalogue, Volume
from wss.datasets.volumes import PATIENT_SLICES, compile_pattern, find_volumes
from wss.errors import DataError

_CLASS_FILES = ("classes.txt", "classes.yaml", "classes.yml", "classes.json", "labels.txt", "labelmap.txt")


class FolderOptions(ReadOptions):
    """Options of kind ``folder``; relative paths are taken from the data set's root.

    Attributes:
        images: Folder of images.
        masks: Folder of dense masks, class indices and 255 for void; may be missing.
        scribbles: Folder of scribbles: label images with 255 for unlabelled, ScribbleSup XML or text polylines; may be
            missing (``wss data simulate`` draws scribbles from masks).
        classes: File of class names; None takes classes.txt, .yaml or .json, Labelme's labels.txt or CVAT's labelmap.txt.
        val_fraction: Share of the images with masks that becomes ``val`` when there are no lists.
        volume_pattern: Regular expression that recognises slices of volumes by their id; None: there are no volumes.
    """

    images: Path = Path("images")
    masks: Path = Path("masks")
    scribbles: Path = Path("scribbles")
    classes: Path | None = None
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    volume_pattern: str | None = PATIENT_SLICES


class FolderSource(FileSource):
    """A data set in folders; an annotation has the name of its image, with its own suffix.

    Splits: the lists train.txt, val.txt and test.txt in the root, as far as they exist. Images in none of them go to
    ``train`` when there is no train.txt, else those with masks to ``val`` when there is no val.txt. Without any list,
    ``val`` is a fixed pseudo-random fifth of the images with masks (``split_by_hash``; volumes stay together).
    """

    options: FolderOptions

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        options = self.options
        names, palette, background, _ = read_classes(self._class_file())
        images, notes = image_files(self.root / options.images)
        masks, found = annotation_files([self.root / options.masks], LABEL_SUFFIXES)
        notes += found + orphans(images, masks, "mask")
        scribbles, found = annotation_files([self.root / options.scribbles])
        notes += found + orphans(images, scribbles, "scribble")
        volumes: dict[str, Volume] = {}
        groups: dict[str, str] = {}
        if options.volume_pattern is not None:
            volumes, grouped = find_volumes(images, compile_pattern(options.volume_pattern))
            groups = dict(grouped)
        splits, found = self._splits(list(images), set(masks), groups)
        notes += found
        listed = dict.fromkeys(i for split in splits.values() for i in split)
        self.entries = {
            i: Entry(images.get(i, self.root / options.images / f"{i}.png"), masks.get(i), scribbles.get(i))
            for i in {**images, **listed}
        }
        self.notes = notes + unlisted(images, splits)
        self.catalogue = Catalogue("folder", names, palette, splits, volumes, background)

    def _class_file(self) -> Path:
        if self.options.classes is not None:
            return self.root / self.options.classes
        return next(
            (self.root / name for name in _CLASS_FILES if (self.root / name).exists()), self.root / "classes.txt"
        )

    def _splits(
        self, ids: list[str], masked: set[str], groups: dict[str, str]
    ) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
        splits: dict[str, tuple[str, ...]] = {}
        notes: list[Finding] = []
        for name in ("train", "val", "test"):
            path = self.root / f"{name}.txt"
            if path.exists():
                splits[name], found = read_list(path)
                notes += found
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
