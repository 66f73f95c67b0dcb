"""Superpixel algorithms, one per file."""

from typing import Annotated

from pydantic import Field

from wss.superpixels.felzenszwalb import Felzenszwalb
from wss.superpixels.slic import Slic
from wss.superpixels.superpixel_method import SuperpixelMethod, Superpixels, in_reading_order
from wss.superpixels.ucm import Ucm, contour_hierarchy

SUPERPIXEL_METHODS: tuple[type[SuperpixelMethod], ...] = (Felzenszwalb, Slic, Ucm)
"""Every algorithm, the default first."""

AnySuperpixels = Annotated[Felzenszwalb | Slic | Ucm, Field(discriminator="name")]
"""The ``method`` parameter of the superpixels stage: settings of one algorithm, chosen by its ``name``."""

__all__ = [
    "SUPERPIXEL_METHODS",
    "AnySuperpixels",
    "Felzenszwalb",
    "Slic",
    "SuperpixelMethod",
    "Superpixels",
    "Ucm",
    "contour_hierarchy",
    "in_reading_order",
]
