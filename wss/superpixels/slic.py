"""SLIC superpixels: k-means over colour and position."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.superpixels.superpixel_method import EdgeMap, SuperpixelMethod


class Slic(SuperpixelMethod):
    """Compact regions of similar sizes, from a regular grid of centres.

    Source: Achanta et al.: SLIC superpixels compared to state-of-the-art superpixel methods, 2012; scikit-image's
        implementation.
    """

    name: Literal["slic"] = "slic"
    summary: ClassVar[str] = "k-means over colour and position, of similar sizes"

    segments: int = Field(default=400, ge=1)
    """Approximate number of superpixels."""
    compactness: float = Field(default=10.0, gt=0)
    """Weight of position relative to colour. Larger values give squarer superpixels."""

    def _segment(self, image: NDArray[np.uint8], edges: EdgeMap | None) -> NDArray[Any]:
        from skimage.segmentation import slic

        regions: NDArray[Any] = slic(image, n_segments=self.segments, compactness=self.compactness, start_label=0)
        return regions
