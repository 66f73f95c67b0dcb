"""Labels of images: the data set's own below, drawings over them, dense truth."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.convert import raster_of
from wss.datasets.images import read_label
from wss.draw.annotations import Annotations, flat_name
from wss.draw.painting import Window, paint, shrunk
from wss.draw.pictures import Pictures
from wss.draw.project import Project
from wss.labels import UNLABELLED
from wss.scribbles import rasterise

_KEPT = 24
_NOTHING: tuple[list[dict[str, Any]], NDArray[np.uint8] | None] = ([], None)


class Labels:
    """Reads and paints labels, and keeps the last ones.

    Args:
        project: Whose images.
        pictures: Their sizes.
        annotations: What is drawn.
    """

    def __init__(self, project: Project, pictures: Pictures, annotations: Annotations) -> None:
        self._project, self._pictures, self._annotations = project, pictures, annotations
        self._base: OrderedDict[str, NDArray[np.uint8] | None] = OrderedDict()
        self._painted: OrderedDict[tuple[str, Window], tuple[list[dict[str, Any]], NDArray[np.uint8]]] = OrderedDict()
        self._lock = threading.Lock()

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of an image."""
        return self._pictures.size(name) or self._pictures.pyramid(name).shape

    def has_base(self, name: str) -> bool:
        """True if the data set has scribbles of the image, as far as its list of files tells."""
        if self._project.in_place:
            return False
        return name not in self._project.source.catalogue.unscribbled

    def base(self, name: str) -> NDArray[np.uint8] | None:
        """The data set's own scribbles, uint8 (H,W), or None."""
        if not self.has_base(name):
            return None
        with self._lock:
            if name in self._base:
                self._base.move_to_end(name)
                return self._base[name]
        base = self._read_base(name)
        with self._lock:
            self._base[name] = base
            while len(self._base) > _KEPT:
                self._base.popitem(last=False)
        return base

    def drawn(self, name: str, window: Window | None = None, *, base: bool = True) -> NDArray[np.uint8]:
        """Drawings over the data set's scribbles, uint8 (H,W) of the window, 255 = unlabelled.

        Args:
            name: The image.
            window: The part; None takes the whole image.
            base: With the data set's own scribbles.
        """
        shape = self.shape(name)
        window = window or Window(0, 0, shape[1], shape[0])
        objects = self._annotations.document(name)["objects"]
        with self._lock:
            before, labels = self._painted.get((name, window), _NOTHING)
        added = objects[len(before) :]
        if labels is not None and before == objects[: len(before)] and all(i["kind"] != "erase" for i in added):
            over = paint(added, shape, window)  # only what is new: nothing of it clears what is there
            labels = np.where(over == UNLABELLED, labels, over)
        else:
            labels = paint(objects, shape, window)
        with self._lock:
            self._painted[name, window] = (list(objects), labels)
            self._painted.move_to_end((name, window))
            while len(self._painted) > _KEPT:
                self._painted.popitem(last=False)
        own = self.base(name) if base else None
        if own is None:
            return labels
        part = own[window.y : window.y + window.height, window.x : window.x + window.width]
        return np.where(labels == UNLABELLED, part, labels)

    def reduced(self, name: str, scale: int) -> NDArray[np.uint8]:
        """Labels as in ``drawn``, of a copy whose sides are divided by ``scale`` and rounded up."""
        height, width = self.shape(name)
        small = (-(-height // scale), -(-width // scale))
        own, below = self.base(name), None
        if own is not None:  # any label of a pixel's square counts
            row, column = np.nonzero(own != UNLABELLED)
            below = np.full(small, UNLABELLED, np.uint8)
            below[row // scale, column // scale] = own[row, column]
        return paint(shrunk(self._annotations.document(name)["objects"], scale), small, below=below)

    def truth_path(self, name: str) -> Path:
        """The dense truth that was made here, existing or not."""
        return self._project.root / "masks" / f"{flat_name(name)}.png"

    def truth(self, name: str) -> NDArray[np.uint8] | None:
        """The dense truth, made here or the data set's own, uint8 (H,W), or None."""
        if self._annotations.document(name)["truth"]:
            return read_label(self.truth_path(name))
        if not self.has_own_truth(name):
            return None
        load = getattr(self._project.source, "load_mask", None)
        mask: NDArray[np.uint8] | None = load(name) if load else self._project.source.read(name).mask
        return mask

    def has_own_truth(self, name: str) -> bool:
        """True if the data set has a mask of the image that was not made here."""
        document = self._annotations.document(name)
        if document["truth"] or document["begun"]:
            return False
        entries = getattr(self._project.source, "entries", None)
        if entries is None:
            return name not in self._project.source.catalogue.unmasked
        mask = entries[name].mask if name in entries else None
        return mask is not None and mask.exists()

    def _read_base(self, name: str) -> NDArray[np.uint8] | None:
        load = getattr(self._project.source, "load_scribble", None)
        if load is None:
            sample = self._project.source.read(name)
            return raster_of(sample) if sample.strokes or sample.scribble is not None else None
        scribble = load(name)
        return rasterise(scribble, self.shape(name)) if isinstance(scribble, tuple) else scribble
