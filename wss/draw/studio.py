"""Everything that a running server holds, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wss.draw import limits
from wss.draw.annotations import Annotations
from wss.draw.pictures import TILE, Pictures, level_count
from wss.draw.project import Project, image_id
from wss.draw.refusals import Refused
from wss.names import readable


@dataclass
class Studio:
    """The parts of a server.

    Attributes:
        project: Images and classes.
        pictures: Pixels.
        annotations: What is drawn.
    """

    project: Project
    pictures: Pictures = field(init=False)
    annotations: Annotations = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = Pictures(self.project)
        self.annotations = Annotations(self.project.root / "strokes")
        self.annotations.load(self.project.names)
        self._volumes = self.project.volumes()
        self._splits = {name: split for split, names in self.project.source.catalogue.splits.items() for name in names}

    def overview(self) -> dict[str, Any]:
        """What the page asks for first."""
        return {
            "name": readable(self.project.title),
            "root_name": readable(self.project.root.name),
            "classes_revision": self.project.classes.revision,
            "classes_fixed": self.project.classes.fixed,
            "classes": self.project.classes.items,
            "images": [self.image(name) for name in self.project.names],
            "methods": [],
            "pipelines": [],
            "training": None,
            "tile_size": TILE,
            "limits": limits.as_json(),
        }

    def image(self, name: str, opened: bool = False) -> dict[str, Any]:
        """What the page knows of one image.

        Args:
            name: The image.
            opened: Open it where that is needed to tell its size.
        """
        size = self.pictures.pyramid(name).shape if opened else self.pictures.size(name)
        pyramid = self.pictures.pyramid(name) if opened else None
        document = self.annotations.document(name)
        volume = self._volumes.get(name)
        return {
            "id": image_id(name),
            "name": readable(name),
            "width": size[1] if size else None,
            "height": size[0] if size else None,
            "levels": level_count(*size) if size else None,
            "bits": 16 if pyramid is not None and pyramid.limits else self.pictures.bits(name),
            "range": list(pyramid.limits) if pyramid is not None and pyramid.limits else None,
            "volume": None
            if volume is None
            else {
                "id": image_id("volume " + volume[0]),
                "name": readable(volume[0]),
                "slice": volume[1],
                "of": volume[2],
            },
            "split": document["split"] or self._splits.get(name),
            "objects": len(document["objects"]),
            "revision": document["revision"],
            "has_base": False,
            "has_truth": document["truth"],
            "has_prediction": False,
        }

    def blocked(self, from_class: int) -> str | None:
        """Tell why the classes from an index on cannot be removed."""
        used = self.annotations.uses(from_class)
        if used is not None:
            return f"{readable(used)} has something drawn in the class; erase it there first, or give the class another name"
        if any(self.annotations.document(name)["truth"] for name in self.project.names):
            return "dense truth was kept, and its pixels name classes by number; give the class another name instead"
        self.annotations.forget_history(from_class)
        return None

    def change(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out a change of an annotation; see PROTOCOL.md."""
        base, change = body.get("base"), body.get("change")
        if type(base) is not int or not isinstance(change, dict):
            raise Refused(400, "expected {base: revision, change: {op: ...}}")
        size = self.pictures.size(name) or self.pictures.pyramid(name).shape
        document = self.annotations.change(name, base, change, len(self.project.classes), size)
        answer = self.annotations.answer(name)
        return {
            "revision": document["revision"],
            "can_undo": answer["can_undo"],
            "can_redo": answer["can_redo"],
            "annotation": None if body.get("brief") else answer,
        }

    def close(self) -> None:
        """Stop what runs in the background."""
