"""Superpixel algorithms, one per file."""

from typing import Annotated

from pydantic import Field

from wss.superpixels.felzenszwalb import Felzenszwalb
from wss.superpixels.slic import Slic
from wss.superpixels.superpixel_method import SuperpixelMethod, Superpixels, in_reading_order

SUPERPIXEL_METHODS: tuple[type[SuperpixelMethod], ...] = (Felzenszwalb, Slic)
"""Every algorithm, the default first."""

AnySuperpixels = Annotated[Felzenszwalb | Slic, Field(discriminator="name")]
"""The ``method`` parameter of the superpixels stage: settings of one algorithm, chosen by its ``name``."""

__all__ = [
    "SUPERPIXEL_METHODS",
    "AnySuperpixels",
    "Felzenszwalb",
    "Slic",
    "SuperpixelMethod",
    "Superpixels",
    "in_reading_order",
]
