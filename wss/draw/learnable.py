"""Checks before a training begins: whether anything can be learned from what is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wss.datasets.files import FileSource
from wss.draw.refusals import Refused
from wss.labels import UNLABELLED
from wss.names import readable
from wss.pipeline.auto import LOOKED_AT
from wss.stages.splits import evenly

_NOTHING = "draw on some images first; a training needs strokes in two classes at least"


def require_learnable(source: FileSource, pipeline: str) -> None:
    """Refuse a data set in which a pipeline can learn nothing.

    Args:
        source: The data set as the training will read it.
        pipeline: What will be trained; all but ``auto`` learn from strokes.

    Raises:
        Refused: No image is left to train on, or its labels are of less than two classes.
    """
    train = list(source.catalogue.splits.get("train", ()))
    if not train:
        if source.catalogue.splits.get("val"):
            raise Refused(
                409,
                "every annotated image is in val, so none is left to train on; draw on another, or put one back to train",
            )
        raise Refused(409, _NOTHING)
    labels = _drawn(source, train)
    if len(labels) == 1:
        name = readable(source.catalogue.classes[labels[0]])
        raise Refused(
            409, f"{name} is the only class with strokes; a network learns to tell classes apart: draw a second one"
        )
    if not labels:
        other = _other(source, train)
        if other is None:
            raise Refused(409, _NOTHING)
        if pipeline != "auto":
            raise Refused(
                409, f"{pipeline} learns from strokes, and there are only {other}; draw strokes, or choose auto"
            )
    if pipeline == "auto":
        looked = evenly(train, LOOKED_AT)
        if not _drawn(source, looked) and _other(source, looked) is None:
            raise Refused(
                409,
                f"auto looks at {LOOKED_AT} of the {len(train)} training images, and none of them is annotated; choose a "
                "pipeline by its name, or draw on more images",
            )


def _drawn(source: FileSource, names: Sequence[str]) -> list[int]:
    """Classes that have strokes on these images, ascending; looking ends at two."""
    classes: set[int] = set()
    for name in names:
        classes.update(_labels(source, name))
        if len(classes) >= 2:
            break
    return sorted(classes)


def _labels(source: FileSource, name: str) -> Iterator[int]:
    """Classes of the scribbles of an image."""
    scribble = source.entries[name].scribble
    if scribble is None or not scribble.exists():
        return
    loaded = source.load_scribble(name)
    if isinstance(loaded, np.ndarray):
        counts = np.bincount(loaded.ravel(), minlength=256)
        counts[UNLABELLED] = 0
        yield from np.flatnonzero(counts).tolist()
    else:
        yield from {stroke.label for stroke in loaded or ()}


def _other(source: FileSource, names: Sequence[str]) -> str | None:
    """Annotations besides strokes that some of these images have."""
    entries = [source.entries[name] for name in names]
    if any(entry.mask is not None and entry.mask.exists() for entry in entries):
        return "masks"
    if any(entry.boxes for entry in entries):
        return "boxes"
    return "tags" if any(entry.tags for entry in entries) else None
