"""A project: the images, where drawings are kept, and the data set that they become."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wss.datasets import DatasetSpec, Source, open_source
from wss.datasets.classlist import read_classes
from wss.datasets.folder import class_file
from wss.datasets.images import IMAGE_SUFFIXES
from wss.datasets.tables import BOXES_FILE, TAGS_FILE
from wss.datasets.volume_file import NIFTI_ENDINGS
from wss.draw.classes import Classes
from wss.draw.refusals import unknown
from wss.errors import DataError, UsageError
from wss.names import name_bytes
from wss.pipeline.workspace import Workspace
from wss.store.atomic import write_text

DRAWN = "drawn"
"""Folder of the drawings where they do not lie among the images."""
WORKSPACE = "workspace"
"""Workspace of the trainings, in the folder of the drawings."""


@dataclass(frozen=True)
class Project:
    """Images and the folder data set of their drawings.

    Attributes:
        source: Where images come from.
        root: The folder data set of the drawings: ``strokes/``, ``scribbles/``, ``masks/``, ``classes.txt``.
        in_place: ``root`` holds the images, too.
        classes: The classes.
        names: Image names in the order of the page.
        title: For people.
    """

    source: Source
    root: Path
    in_place: bool
    classes: Classes
    names: tuple[str, ...]
    title: str

    @property
    def workspace(self) -> Workspace:
        """Folder of the trainings."""
        return Workspace(self.root / WORKSPACE)

    @property
    def cache(self) -> Path:
        """Folder of files that can be made again."""
        return self.workspace.cache / "draw"

    @property
    def splits_fixed(self) -> bool:
        """True if the data set has its own lists of splits, which are not changed here."""
        return self.in_place and self.classes.own_lists

    def declare(self) -> None:
        """Declare the data set in the workspace of its trainings where that is new, or was removed."""
        _declared(self.root, "folder", self.root)

    def name(self, image: str) -> str:
        """The name of an image by the id that clients know.

        Raises:
            Refused: There is none.
        """
        name = self.ids.get(image)
        if name is None:
            raise unknown("image")
        return name

    @property
    def ids(self) -> Mapping[str, str]:
        """Names by id."""
        table: dict[str, str] | None = self.__dict__.get("_ids")
        if table is None:
            table = {image_id(name): name for name in self.names}
            object.__setattr__(self, "_ids", table)
        return table

    def file(self, name: str) -> Path | None:
        """The file of an image that is one file of its own; None where it is a part of one or generated."""
        entries = getattr(self.source, "entries", None)
        if entries is None or not getattr(self.source, "one_image_per_file", True):
            return None
        path: Path = entries[name].image
        return path if path.suffix.lower() in IMAGE_SUFFIXES else None

    def volumes(self) -> dict[str, tuple[str, int, int]]:
        """Volume, slice and number of slices by image name."""
        return {
            name: (volume, number, len(entry.ids))
            for volume, entry in self.source.catalogue.volumes.items()
            for number, name in enumerate(entry.ids)
        }


def image_id(name: str) -> str:
    """Identifier of an image for clients. It does not contain the image's name and survives restarts."""
    return hashlib.sha256(b"wss draw " + name_bytes(name)).hexdigest()[:20]


def open_project(images: Path | None, workspace: Path | None) -> Project:
    """Find images, and make the folder of their drawings.

    A folder of pictures, or one with a folder ``images``, becomes a data set of kind ``folder`` in place, unless it has
    scribbles of its own already: then drawings go to ``drawn/`` in it, and the scribbles lie below them. Drawings on the data
    set of a workspace go to ``drawn/`` in the workspace.

    Args:
        images: A folder of images.
        workspace: A workspace instead.

    Raises:
        UsageError: Both or neither are given, or the folder does not exist.
        DataError: There are no images in it.
    """
    if (images is None) == (workspace is None):
        raise UsageError("give a folder of images, or a workspace with -w, and not both")
    if workspace is not None:
        place = Workspace(workspace).existing()
        return _beside(open_source(place.dataset()), place.root / DRAWN, place.root.resolve().name)
    assert images is not None
    folder = images.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"{images}: no such folder; give a folder of images")
    root = folder.parent if folder.name == "images" else folder
    if not os.access(root, os.W_OK):
        raise UsageError(f"{root}: not writable; declare it with `wss init --kind folder` and draw with -w WORKSPACE")
    pictures = root / "images" if (root / "images").is_dir() else root
    if any(path.name.lower().endswith(tuple(NIFTI_ENDINGS)) for path in pictures.iterdir()):
        _require_classes(root)
        options = {} if pictures != root else {"images": "."}
        return _beside(open_source("nifti", root, **options), root / DRAWN, root.name)
    _require_images(pictures, root)
    begun = (root / "draw.json").exists()
    if not begun and (_has_files(root / "scribbles") or any((root / n).exists() for n in (BOXES_FILE, TAGS_FILE))):
        _require_classes(root)
        return _beside(open_source("folder", root), root / DRAWN, root.name)
    writes = not class_file(root).exists() or class_file(root).name == "classes.txt"
    _require_classes(root)
    source = open_source(_declared(root, "folder", root))
    names, _, _, _ = read_classes(class_file(root))
    lists = any((root / f"{split}.txt").exists() for split in ("train", "val", "test"))
    classes = Classes(root, names, None, 0, writes, own_lists=lists)
    return Project(source, root, True, classes, _ordered(source), root.name)


def _beside(source: Source, root: Path, title: str) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    names = source.catalogue.classes
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in source.catalogue.palette.tolist()]
    classes = Classes(root, names, colours, len(names), True)
    _declared(root, "folder", root)
    return Project(source, root, False, classes, _ordered(source), title)


def _declared(root: Path, kind: str, data: Path) -> DatasetSpec:
    """The data set of the drawings, declared in their workspace when it is new."""
    place = Workspace(root / WORKSPACE)
    if not place.configured:
        values: dict[str, Any] = {"kind": kind, "root": os.path.relpath(data, place.root)}
        header = "# The data set that `wss draw` makes; `wss data check` looks for faults in it.\n"
        write_text(place.config_path, header + yaml.safe_dump({"dataset": values}, sort_keys=False))
    return place.dataset()


def _require_classes(root: Path) -> None:
    """Begin a list of classes where there is none."""
    if not class_file(root).exists():
        write_text(root / "classes.txt", "0 background\n")


def _require_images(pictures: Path, root: Path) -> None:
    """Raise before anything is written to a folder without images."""
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in pictures.rglob("*") if not path.name.startswith(".")):
        return
    remedy = (
        f"it is a workspace: `wss draw -w {root}`" if (root / "wss.yaml").exists() else "add some, or name their folder"
    )
    raise DataError(f"{pictures}: no image files ({', '.join(IMAGE_SUFFIXES)}); {remedy}")


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def _ordered(source: Source) -> tuple[str, ...]:
    """Images as they are listed; slices of a volume follow one another."""
    catalogue = source.catalogue
    names: Sequence[str] = list(getattr(source, "entries", {}) or ())
    if not names:
        names = list(dict.fromkeys(i for split in catalogue.splits.values() for i in split))
    in_volumes = {name: volume for volume, entry in catalogue.volumes.items() for name in entry.ids}
    ordered: dict[str, None] = {}
    for name in names:
        volume = in_volumes.get(name)
        ordered.update(dict.fromkeys(catalogue.volumes[volume].ids if volume else [name]))
    if not ordered:
        raise DataError("the data set has no images to draw on; add some to its folder `images`")
    return tuple(ordered)
