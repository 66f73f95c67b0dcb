"""Features of a frozen network that a training stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.draw.annotations import flat_name
from wss.draw.painting import Window
from wss.draw.prepared import Part
from wss.draw.project import Project
from wss.errors import StoreError
from wss.pipeline.workspace import Workspace
from wss.stages.features import stored_map
from wss.store import FEATURES, Store


class StoredFeatures:
    """Finds features of whole images: in the workspace of the trainings and, with ``-w``, in that of the data set.

    Args:
        project: Whose images.
    """

    def __init__(self, project: Project) -> None:
        self._places = [project.workspace]
        if not project.in_place and Workspace(project.root.parent).configured:
            self._places.append(Workspace(project.root.parent))

    def any(self) -> bool:
        """True if features of some images are stored."""
        return any(True for place in self._places for _ in place.artifacts("features"))

    def map(self, part: Part) -> NDArray[np.float32] | None:
        """Features of an image, float32 (C,h,w), the newest ones of its size; None where there are none, and for parts."""
        if part.level or part.window[:2] != (0, 0):
            return None
        for place in self._places:
            for store in reversed(place.stores("features")):
                features = _of(store, part.name, part.window)
                if features is not None:
                    return features
        return None


def _of(store: Store, name: str, window: Window) -> NDArray[np.float32] | None:
    try:
        checked: Any = Store(store.path, FEATURES)
        image = next((i for i in (name, flat_name(name)) if i in checked), None)
        return None if image is None else stored_map(checked, image, (window.height, window.width))
    except (StoreError, ValueError):  # damaged, or of an image of another size
        return None
