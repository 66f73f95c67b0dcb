"""Felzenszwalb superpixels: merging along a minimum spanning tree."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.superpixels.superpixel_method import EdgeMap, SuperpixelMethod


class Felzenszwalb(SuperpixelMethod):
    """Merge regions if the difference between them is small relative to the differences within them.

    Source: Felzenszwalb, Huttenlocher: Efficient graph-based image segmentation, 2004; scikit-image's implementation.
    """

    name: Literal["felzenszwalb"] = "felzenszwalb"
    summary: ClassVar[str] = "merging along a minimum spanning tree, of irregular sizes"

    scale: float = Field(default=100.0, ge=0)
    """Larger values give larger superpixels (k of the paper, for values of 0 to 255)."""
    sigma: float = Field(default=0.5, ge=0)
    """Standard deviation in pixels of the Gaussian smoothing before the segmentation."""
    min_size: int = Field(default=20, ge=1)
    """Smallest size of a superpixel in pixels. Smaller superpixels are merged with a neighbour."""

    def _segment(self, image: NDArray[np.uint8], edges: EdgeMap | None) -> NDArray[Any]:
        from skimage.segmentation import felzenszwalb

        regions: NDArray[Any] = felzenszwalb(image, scale=self.scale, sigma=self.sigma, min_size=self.min_size)
        return regions
