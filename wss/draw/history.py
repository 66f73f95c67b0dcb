"""Changes of an annotation that can be undone and redone. All are plain values, which become JSON as they are."""

from __future__ import annotations

from typing import Any

from wss.draw import limits
from wss.draw.refusals import Refused

Object = dict[str, Any]
Step = dict[str, Any]
"""``{"op": "add" | "remove", "items": [[place, object], ...]}`` or ``{"op": "tags", "before": ..., "after": ...}``. An "add"
that is done lists ids instead of objects: the objects are on the image."""


def add(document: dict[str, Any], objects: list[Object]) -> None:
    """Put objects over the others."""
    document["objects"] += objects
    _did(document, {"op": "add", "ids": [o["id"] for o in objects]})


def remove(document: dict[str, Any], ids: list[str]) -> None:
    """Take objects away.

    Raises:
        Refused: One is not there.
    """
    _did(document, {"op": "remove", "items": _take(document, ids)})


def tag(document: dict[str, Any], tags: list[int] | None) -> None:
    """Set which classes are in the image; None: nobody said."""
    _did(document, {"op": "tags", "before": document["tags"], "after": tags})
    document["tags"] = tags


def undo(document: dict[str, Any]) -> None:
    """Take back the last step.

    Raises:
        Refused: There is none.
    """
    if not document["done"]:
        raise Refused(400, "there is nothing to undo")
    step = document["done"].pop()
    if step["op"] == "add":
        step = {"op": "add", "items": _take(document, step["ids"])}
    elif step["op"] == "remove":
        _put(document, step["items"])
    else:
        document["tags"] = step["before"]
    document["undone"].append(step)


def redo(document: dict[str, Any]) -> None:
    """Do again what was undone last.

    Raises:
        Refused: There is nothing.
    """
    if not document["undone"]:
        raise Refused(400, "there is nothing to redo")
    step = document["undone"].pop()
    if step["op"] == "add":
        _put(document, step["items"])
        step = {"op": "add", "ids": [item["id"] for _, item in step["items"]]}
    elif step["op"] == "remove":
        _take(document, [item["id"] for _, item in step["items"]])
    else:
        document["tags"] = step["after"]
    document["done"].append(step)


def forget(document: dict[str, Any]) -> None:
    """Forget all steps; the annotation stays as it is."""
    document["done"], document["undone"] = [], []


def _did(document: dict[str, Any], step: Step) -> None:
    document["done"] = [*document["done"], step][-limits.STEPS :]
    document["undone"] = []


def _take(document: dict[str, Any], ids: list[str]) -> list[list[Any]]:
    wanted = set(ids)
    items = [[place, item] for place, item in enumerate(document["objects"]) if item["id"] in wanted]
    if len(items) != len(wanted):
        raise Refused(400, "an object is not on the image any more; reload the page")
    document["objects"] = [item for item in document["objects"] if item["id"] not in wanted]
    return items


def _put(document: dict[str, Any], items: list[list[Any]]) -> None:
    for place, item in items:  # ascending places, so that each is right when its turn comes
        document["objects"].insert(place, item)
