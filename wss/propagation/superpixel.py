"""Propagation of scribbles within superpixels, and from them to the nearest superpixels without scribbles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from wss.labels import UNLABELLED
from wss.ops.regions import region_means
from wss.propagation.propagation import Extra, Propagation, Proposal
from wss.propagation.scribbled_superpixels import majority


class Superpixel(Propagation):
    """Each superpixel gets the most frequent label of its scribbled pixels.

    Source: Vernaza, Chandraker: Learning random-walk label propagation, 2017, the bound SPCON of table 2.
    Differs: SPCON labels superpixels without scribbles from the dense truth. Here they stay unlabelled (``fill: none``)
        or get the label of the scribbled superpixel that is nearest in colour and position (``fill: nearest``).
    """

    name: Literal["superpixel"] = "superpixel"
    summary: ClassVar[str] = "superpixels get the label scribbled in them, others that of the nearest superpixel"
    needs: ClassVar[frozenset[Extra]] = frozenset({"superpixels"})

    fill: Literal["none", "nearest"] = "nearest"
    """Label of superpixels without scribbles: 255 (``none``), or that of the ``nearest`` scribbled superpixel."""
    colour_weight: float = Field(default=0.3, ge=0)
    """Weight of mean colours (0..1 per channel) in the distance of superpixels, relative to the positions of their
    centres (in units of the image's diagonal). A larger value prefers similar colours to near positions."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        superpixels = extras["superpixels"]
        count = int(superpixels.max()) + 1
        chosen = majority(superpixels, scribble, present, count)
        if self.fill == "nearest":
            places = region_means(superpixels, self._places(image))
            known = np.flatnonzero(chosen >= 0)
            _, nearest = cKDTree(places[known]).query(places)
            chosen = np.where(chosen >= 0, chosen, chosen[known[nearest]])
        labels = np.append(present, np.uint8(UNLABELLED))[chosen]  # -1 is the last
        return Proposal(labels[superpixels])

    def _places(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Colour and position of each pixel (5,H,W), scaled so that Euclidean distances compare them."""
        height, width, _ = image.shape
        y, x = np.mgrid[:height, :width] / np.hypot(height, width)
        return np.stack([*np.moveaxis(image * (self.colour_weight / 255), 2, 0), y, x])
