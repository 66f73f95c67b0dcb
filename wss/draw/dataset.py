"""The folder data set that drawings become: ``scribbles/``, tables, lists, and images where they lie elsewhere."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wss.datasets.cards import colour_map
from wss.datasets.convert import write_label
from wss.datasets.images import IMAGE_SUFFIXES
from wss.datasets.tables import BOXES_FILE, TAGS_FILE
from wss.draw.annotations import Annotations, flat_name
from wss.draw.labels import Labels
from wss.draw.painting import boxes_of
from wss.draw.pictures import Pictures, encode
from wss.draw.project import Project
from wss.errors import WssError
from wss.labels import UNLABELLED
from wss.store.atomic import remove_leftovers, write_bytes, write_text


class DrawnDataset:
    """Keeps the files that wss reads in step with the documents in ``strokes/``.

    Args:
        project: Whose drawings.
        pictures: The images.
        annotations: What is drawn.
        labels: The same as label images.

    Attributes:
        left_out: Images that could not be read when everything was written last.
    """

    def __init__(self, project: Project, pictures: Pictures, annotations: Annotations, labels: Labels) -> None:
        self._project, self._pictures, self._annotations, self._labels = project, pictures, annotations, labels
        self._stamps_path = project.cache / "rendered.json"
        self._stamps: dict[str, Any] = _read(self._stamps_path)
        self._lock = threading.RLock()
        self.left_out: list[str] = []

    def behind(self) -> list[str]:
        """Images whose files are older than what is drawn."""
        return [name for name in self._project.names if self._stamps.get(name) != self._stamp(name)]

    def write(self, names: Iterable[str] | None = None) -> None:
        """Write the scribbles of these images, or of all that are behind."""
        with self._lock:
            todo = self.behind() if names is None else list(names)
            if not todo:
                return
            remove_leftovers([self._scribble_path(name) for name in todo])
            failed: WssError | None = None
            for name in todo:
                try:
                    self._write_scribble(name)
                except WssError as error:  # a picture that is gone, say: the others are written
                    failed = error
                    continue
                self._stamps[name] = self._stamp(name)
            write_text(self._stamps_path, json.dumps(self._stamps), flush=False)
            if failed is not None:
                raise failed

    def complete(self) -> Path:
        """Write everything that a training reads, and give the data set's root. Images that cannot be read are left out."""
        with self._lock:
            self._project.declare()
            self.left_out = [name for name in self._project.names if not self._pictures.sound(name)]
            names = [name for name in self._project.names if name not in set(self.left_out)]
            self.write(name for name in self.behind() if name not in set(self.left_out))
            if not self._project.in_place:
                for name in names:
                    self._write_image(name)
                    self._write_mask(name)
            self._write_tables(names)
            self._write_lists(names)
            return self._project.root

    def annotated(self, name: str) -> bool:
        """True if an image is annotated, here or in the data set."""
        document = self._annotations.document(name)
        return bool(document["objects"]) or document["tags"] is not None or self._labels.has_base(name)

    def _stamp(self, name: str) -> Any:
        """Revision and existence of a scribble's file: when they change, it is written again. None: it is never written."""
        document = self._annotations.document(name)
        if not document["revision"] and self._project.in_place:
            return None
        return [document["revision"], self._scribble_path(name).exists()]

    def _scribble_path(self, name: str) -> Path:
        return self._project.root / "scribbles" / f"{flat_name(name)}.png"

    def _write_scribble(self, name: str) -> None:
        path = self._scribble_path(name)
        painted = any(item["kind"] not in ("box", "erase") for item in self._annotations.document(name)["objects"])
        if painted or self._labels.has_base(name):
            labels = self._labels.drawn(name)
            if (labels != UNLABELLED).any():
                write_label(path, labels, colour_map(len(self._project.classes)))
                return
        path.unlink(missing_ok=True)

    def _write_image(self, name: str) -> None:
        """A link to the image's file, or a copy as PNG where it is a part of a file or is read in a special way."""
        folder = self._project.root / "images"
        file = self._project.file(name)
        plain = file is not None and not getattr(self._project.source, "options", None)
        source_options = getattr(self._project.source, "options", None)
        if file is not None and source_options is not None:
            usual = type(source_options)()
            plain = all(
                getattr(source_options, field) == getattr(usual, field)
                for field in ("stretch", "bands", "nodata", "page")
            )
        if plain and file is not None:
            path = folder / f"{flat_name(name)}{file.suffix.lower()}"
            if not path.is_symlink() and not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                path.symlink_to(os.path.relpath(file.resolve(), folder.resolve()))
            return
        path = folder / f"{flat_name(name)}.png"
        if not path.exists():
            write_bytes(path, encode(".png", np.asarray(self._pictures.rgb(name)), []))

    def _write_mask(self, name: str) -> None:
        """A copy of the data set's own truth, unless one was made here."""
        path = self._labels.truth_path(name)
        if self._annotations.document(name)["truth"]:
            return
        truth = None if path.exists() else self._labels.truth(name)
        if truth is not None:
            write_label(path, truth, colour_map(len(self._project.classes)))

    def _write_tables(self, images: list[str]) -> None:
        names = self._project.classes.names
        boxes: list[tuple[Any, ...]] = []
        tags: list[tuple[Any, ...]] = []
        for name in images:
            document, file = self._annotations.document(name), self._file_name(name)
            if any(item["kind"] == "box" for item in document["objects"]):
                rows = boxes_of(document["objects"], self._labels.shape(name))
                boxes += [(file, names[label], *corners) for label, *corners in rows]
            if document["tags"] is not None:
                tags += [(file, names[tag]) for tag in document["tags"]] or [(file, "")]
        self._write_table(BOXES_FILE, ("image", "class", "x0", "y0", "x1", "y1"), boxes)
        self._write_table(TAGS_FILE, ("image", "class"), tags)

    def _write_table(self, file: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        path = self._project.root / file
        if not rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        _write_if_new(path, text.getvalue())

    def _file_name(self, name: str) -> str:
        """The image's file, whose ending keeps dots in names from being taken for one."""
        file = self._project.file(name)
        return flat_name(name) + (file.suffix if file is not None else IMAGE_SUFFIXES[2])

    def _write_lists(self, images: list[str]) -> None:
        """Lists of the splits: ``val`` has truth and was chosen for it or has no drawing, ``train`` is annotated, the rest is
        ``test``.
        """
        if self._project.splits_fixed:
            return
        lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        own = {} if self._project.in_place else dict(self._splits())
        for name in images:
            document = self._annotations.document(name)
            chosen = document["split"] or own.get(name)
            has_truth = document["truth"] or self._labels.has_own_truth(name)
            if has_truth and (chosen == "val" or (chosen is None and not self.annotated(name))):
                lists["val"].append(name)
            elif chosen == "test":
                lists["test"].append(name)
            else:
                lists["train" if self.annotated(name) else "test"].append(name)
        for split, members in lists.items():
            _write_if_new(self._project.root / f"{split}.txt", "".join(f"{flat_name(name)}\n" for name in members))

    def _splits(self) -> Iterable[tuple[str, str]]:
        for split, names in self._project.source.catalogue.splits.items():
            for name in names:
                yield name, split


def _write_if_new(path: Path, text: str) -> None:
    """Write a file unless it is right: a touched file would be hashed again."""
    if not path.exists() or path.read_text(encoding="utf-8", errors="surrogateescape") != text:
        write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
