"""The annotations of all images: one JSON document each, on disk before anybody is told that it changed."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wss.draw import history, limits
from wss.draw.objects import checked
from wss.draw.refusals import Refused
from wss.errors import DataError, StoreError
from wss.labels import UNLABELLED
from wss.store.atomic import remove_leftovers, write_text

VERSION = 1
"""Version of the documents in ``strokes/``."""

_EMPTY: dict[str, Any] = {
    "objects": [],
    "tags": None,
    "truth": False,
    "begun": False,
    "split": None,
    "done": [],
    "undone": [],
}


def flat_name(name: str) -> str:
    """The name of an image as the name of a file: an id with folders in it keeps one level."""
    return quote(name, safe=" !#$&'()+,;=@[]{}~^`-_." + "".join(map(chr, range(160, 0x3000)))) if "/" in name else name


class Annotations:
    """Reads and changes the documents in a folder.

    Args:
        folder: ``strokes/``.
        changed: Called with the image's name after a change is on disk.
    """

    def __init__(self, folder: Path, changed: Callable[[str], None] = lambda name: None) -> None:
        self.folder = folder
        self._changed = changed
        self._documents: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()

    def path(self, name: str) -> Path:
        """The document of an image, existing or not."""
        return self.folder / f"{flat_name(name)}.json"

    def load(self, names: Iterable[str]) -> None:
        """Read the documents of these images, and remove temporary files of killed processes.

        Raises:
            DataError: One is damaged or of a later version.
        """
        remove_leftovers([self.path(name) for name in names])
        for name in names:
            self.document(name)

    def document(self, name: str) -> dict[str, Any]:
        """The document of an image. Treat it as read-only."""
        with self._lock:
            document = self._documents.get(name)
            if document is None:
                document = self._documents[name] = _read(self.path(name), name)
            return document

    def answer(self, name: str) -> dict[str, Any]:
        """The annotation as the page gets it."""
        document = self.document(name)
        return {
            "revision": document["revision"],
            "objects": document["objects"],
            "tags": document["tags"],
            "can_undo": bool(document["done"]),
            "can_redo": bool(document["undone"]),
            "truth": document["truth"],
            "split": document["split"],
        }

    def change(
        self, name: str, base: int, change: dict[str, Any], classes: int, size: tuple[int, int] | None
    ) -> dict[str, Any]:
        """Carry out a change that a client sends, and flush it to disk.

        Args:
            name: The image.
            base: The revision that the client knows.
            change: See PROTOCOL.md.
            classes: Number of classes.
            size: Height and width of the image, if known.

        Returns:
            The document.

        Raises:
            Refused: The change is malformed, or somebody else changed the annotation first (409).
        """
        operation = change.get("op")
        if operation == "add":
            given = change.get("objects", [change.get("object")])
            if not isinstance(given, list) or not given or len(given) > limits.OBJECTS:
                raise Refused(400, "expected objects to add")
            objects = [checked(value, classes, size) for value in given]
            with self._lock:
                if self._has(name, objects):
                    return self.document(name)
                return self._apply(name, base, lambda document: _add(document, objects))
        if operation == "remove":
            ids = change.get("ids")
            if not isinstance(ids, list) or not ids or not all(isinstance(i, str) for i in ids):
                raise Refused(400, "expected the ids of objects to remove")
            return self._apply(name, base, lambda document: history.remove(document, ids))
        if operation == "tags":
            tags = change.get("tags")
            if tags is not None:
                if not isinstance(tags, list) or any(type(t) is not int or not 0 <= t < classes for t in tags):
                    raise Refused(400, "expected tags as a list of class indices, or null")
                tags = sorted(set(tags))
            return self._apply(name, base, lambda document: history.tag(document, tags))
        if operation in ("undo", "redo"):
            return self._apply(name, base, history.undo if operation == "undo" else history.redo)
        raise Refused(400, "expected a change of op add, remove, tags, undo or redo")

    def mark(self, name: str, base: int | None, **values: Any) -> dict[str, Any]:
        """Set ``truth`` or ``split``, which are no step of the history; ``base`` None takes whatever is there."""
        with self._lock:
            base = self.document(name)["revision"] if base is None else base
            return self._apply(name, base, lambda document: document.update(values))

    def note(self, name: str, base: int, *, begun: bool) -> dict[str, Any]:
        """Set whether the file of the image's truth, if there is one, was made here. Clients see no new revision."""
        return self._apply(name, base, lambda document: document.update(begun=begun), step=0)

    def forget_history(self, from_class: int) -> None:
        """Forget the steps of images whose history names a class that is about to be removed."""
        with self._lock:
            for name, document in list(self._documents.items()):
                steps = json.dumps([document["done"], document["undone"]])
                if any(f'"class": {label}' in steps for label in range(from_class, UNLABELLED)):
                    self._apply(name, document["revision"], history.forget)

    def uses(self, from_class: int) -> str | None:
        """The first image on which something is drawn, or tagged, in a class from this one on."""
        for name, document in self._documents.items():
            drawn = any(item.get("class", -1) >= from_class for item in document["objects"])
            if drawn or any(tag >= from_class for tag in document["tags"] or ()):
                return name
        return None

    def _has(self, name: str, objects: list[dict[str, Any]]) -> bool:
        """True if all these objects are on the image already: an answer was lost, and the client asks again."""
        there = {item["id"]: item for item in self.document(name)["objects"]}
        return all(there.get(item["id"]) == item for item in objects)

    def _apply(self, name: str, base: int, action: Callable[[dict[str, Any]], None], step: int = 1) -> dict[str, Any]:
        with self._lock:
            before = self.document(name)
            if base != before["revision"]:
                message = (
                    "the annotation was changed in another tab or by somebody else; what is shown now is the newest"
                )
                raise Refused(409, message, {"annotation": self.answer(name)})
            document = copy.copy(before)
            document["objects"] = list(before["objects"])
            document["done"], document["undone"] = list(before["done"]), list(before["undone"])
            action(document)
            document["revision"] += step
            self._write(name, document)
            self._documents[name] = document
        self._changed(name)
        return document

    def _write(self, name: str, document: dict[str, Any]) -> None:
        """Flush a document to disk. Refused with 507 where that fails: the client keeps the change and tries again."""
        try:
            write_text(self.path(name), json.dumps(document, ensure_ascii=True) + "\n")
        except StoreError as error:
            cause = error.__cause__
            why = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(error)
            message = f"{self.folder} cannot be written ({why}); free some space, or make it writable"
            raise Refused(507, f"{message}; the page keeps what is drawn and tries again") from error


def _add(document: dict[str, Any], objects: list[dict[str, Any]]) -> None:
    known = {item["id"] for item in document["objects"]}
    if len(known) + len(objects) > limits.OBJECTS:
        raise Refused(400, f"an image can carry {limits.OBJECTS} objects; remove some first")
    ids = [item["id"] for item in objects]
    if known.intersection(ids) or len(set(ids)) < len(ids):
        raise Refused(400, "another object has this id; reload the page")
    history.add(document, objects)


def _read(path: Path, name: str) -> dict[str, Any]:
    fresh = {"version": VERSION, "image": name, "revision": 0, **copy.deepcopy(_EMPTY)}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); move it away to draw on this image anew") from None
    if not isinstance(document, dict) or not isinstance(document.get("objects"), list):
        raise DataError(f"{path}: is no annotation of `wss draw`; move it away to draw on this image anew")
    if document.get("version") != VERSION:
        raise DataError(f"{path}: was written by a later wss (version {document.get('version')}); update wss")
    return {**fresh, **document}
