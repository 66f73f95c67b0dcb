"""Training samples from the stores of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.edges import edge_strengths
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.store import Store

MAPS = {"edges": "edge map", "superpixels": "superpixel map"}
"""Maps beside the labels that a method can need, with their names in messages."""


class SampleReader:
    """Reads the image, labels and maps of one training sample. Picklable, so that loader workers can use it.

    Args:
        samples: Store of images, and of their pixels without data (``valid``).
        labels: Store of labels.
        maps: Stores of further maps, by their names in ``MAPS``.
    """

    def __init__(self, samples: Store, labels: Store, maps: Mapping[str, Store]) -> None:
        self._samples = samples
        self._labels = labels
        self._maps = maps

    def __call__(self, image_id: str) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        """Read one sample.

        Returns:
            The image, uint8 (H,W,3), and maps (H,W) by name: ``labels`` (uint8), ``valid`` (uint8, if the image has pixels
            without data), ``edges`` (float32 in 0..1) and ``superpixels`` (int32).

        Raises:
            DataError: A map differs in size from its image.
        """
        image = self._samples.get("image", image_id)
        maps: dict[str, NDArray[Any]] = {"labels": self._labels.get("labels", image_id)}
        if self._samples.has("valid", image_id):
            maps["valid"] = self._samples.get("valid", image_id)
            maps["labels"] = np.where(maps["valid"] == 0, np.uint8(UNLABELLED), maps["labels"])
        for name, store in self._maps.items():
            values = store.get(name, image_id)
            # edge strengths become float, because they are interpolated; labels, also uint8, are not
            maps[name] = edge_strengths(values) if name == "edges" else values
            if values.shape != image.shape[:2]:
                raise DataError(
                    f"{store.path}: the {MAPS[name]} of {image_id!r} is {values.shape}, its image "
                    f"{image.shape[:2]}; make the {name} from the same images (`wss {name}`)"
                )
        return image, maps
