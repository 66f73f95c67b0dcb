"""The classes that people draw: names in ``classes.txt``, colours and patterns in ``draw.json``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wss.datasets.cards import colour_map
from wss.draw import limits
from wss.draw.refusals import Refused
from wss.errors import DataError
from wss.store.atomic import write_text

PATTERNS = 6
"""Number of patterns beside colours."""


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")

    index: int | None
    name: Annotated[str, Field(min_length=1, max_length=limits.NAME_LENGTH)]
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    pattern: Annotated[int, Field(ge=0, lt=PATTERNS)]


_GIVEN: TypeAdapter[list[_Given]] = TypeAdapter(Annotated[list[_Given], Field(min_length=1, max_length=limits.CLASSES)])


class Classes:
    """Names, colours and patterns, kept in a folder.

    Args:
        folder: The folder data set.
        names: The names that the data set has.
        colours: Their colours, ``#rrggbb``; None takes a palette of its own.
        fixed: How many of the names belong to a data set elsewhere and cannot change.
        writes_names: ``classes.txt`` is this server's to write.
        own_lists: In a new folder: it has lists of splits that stay as they are.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        colours: Sequence[str] | None,
        fixed: int,
        writes_names: bool,
        own_lists: bool = False,
    ) -> None:
        self.path = folder / "draw.json"
        self.names_path = folder / "classes.txt"
        self.fixed = fixed
        self._writes_names = writes_names
        self._lock = threading.RLock()
        kept = self._read()
        self.revision: int = kept["revision"]
        self.own_lists: bool = kept.get("own_lists", own_lists)
        shown: dict[str, Any] = {item["name"]: item for item in kept["classes"]}
        wanted = list(names)
        if writes_names and kept["classes"]:  # draw.json was written first: a kill in between left an old classes.txt
            wanted = [*names[:fixed], *(item["name"] for item in kept["classes"][fixed:])]
        default = colours or _hex(len(wanted))
        self.items: list[dict[str, Any]] = []
        for index, name in enumerate(wanted):
            look = shown.get(name) or {"color": _at(default, index), "pattern": index % PATTERNS}
            self.items.append({"index": index, "name": name, "color": look["color"], "pattern": look["pattern"]})
        if not self.path.exists():
            self._write(self.items)
        elif writes_names:
            self._write_names()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        """Names by index."""
        return tuple(item["name"] for item in self.items)

    def change(self, revision: int, given: Any, blocked: Callable[[int], str | None]) -> None:
        """Replace the classes, as a client asks.

        Args:
            revision: What the client knows.
            given: The new list, from JSON.
            blocked: Tells why the classes from an index on cannot be removed; None: they can.

        Raises:
            Refused: The list is malformed or stale, or a class cannot be renamed or removed.
        """
        try:
            entries = _GIVEN.validate_python(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise Refused(400, f"not a list of classes: {place}: {first['msg']}"[:300]) from None
        with self._lock:
            if revision != self.revision:
                more = {"classes_revision": self.revision, "classes": self.items}
                raise Refused(409, "the classes were changed in another tab; what is shown now is the newest", more)
            known = [item.index for item in entries if item.index is not None]
            if (
                not known
                or known != list(range(len(known)))
                or any(item.index is not None for item in entries[len(known) :])
            ):
                raise Refused(400, "classes keep their order: known ones first, by their index, then new ones")
            if len(known) > len(self.items):
                raise Refused(400, "a class has an index that does not exist; reload the page")
            names = [_name(item.name) for item in entries]
            if len({name.casefold() for name in names}) < len(names):
                raise Refused(400, "two classes have the same name; give every class its own")
            if len(known) < self.fixed or tuple(names[: self.fixed]) != self.names[: self.fixed]:
                raise Refused(400, f"the first {self.fixed} classes belong to the data set: their names stay")
            if not self._writes_names and tuple(names) != self.names:
                raise Refused(400, "the class list of this data set is no classes.txt: change its names there")
            if len(known) < len(self.items):
                why = blocked(len(known))
                if why is not None:
                    raise Refused(409, why, {"classes_revision": self.revision, "classes": self.items})
            items = [
                {"index": index, "name": name, "color": item.color.lower(), "pattern": item.pattern}
                for index, (name, item) in enumerate(zip(names, entries, strict=True))
            ]
            self._write(items)

    def palette(self) -> list[tuple[int, int, int]]:
        """Red, green and blue by class."""
        return [tuple(bytes.fromhex(item["color"][1:])) for item in self.items]  # type: ignore[misc]

    def _write(self, items: list[dict[str, Any]]) -> None:
        content = {"version": 1, "revision": self.revision + 1, "own_lists": self.own_lists, "classes": items}
        write_text(self.path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        self.items, self.revision = items, self.revision + 1
        if self._writes_names:
            self._write_names()

    def _write_names(self) -> None:
        """Write the list unless it is right: a touched file would be read again by everything that keeps hashes."""
        text = "".join(f"{item['index']} {item['name']}\n" for item in self.items)
        if not self.names_path.exists() or self.names_path.read_text(encoding="utf-8") != text:
            write_text(self.names_path, text)

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"revision": 0, "classes": []}
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); move it away, which loses colours only") from None
        if not isinstance(kept, dict) or not isinstance(kept.get("classes"), list) or kept.get("version") != 1:
            raise DataError(f"{self.path}: is no file of this version of `wss draw`; update wss, or move the file away")
        return kept


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or not name.isprintable() or ":" in name:
        raise Refused(400, "a name of a class has at least one letter, and no colon or line break")
    return name


def _hex(count: int) -> list[str]:
    """Colours of the data sets' usual palette, with a grey for the background, which is black there."""
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_map(count).tolist()]
    return ["#606870", *colours[1:]]


def _at(colours: Sequence[str], index: int) -> str:
    return colours[index] if index < len(colours) else _hex(index + 1)[index]
