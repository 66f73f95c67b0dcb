"""Algorithms that propagate scribbles over an image without training, one per file."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from wss.propagation.dense_crf import DenseCRF
from wss.propagation.feature_head import FeatureHead
from wss.propagation.grabcut import GrabCut
from wss.propagation.graph_cut import GraphCut
from wss.propagation.propagation import Propagation, Proposal
from wss.propagation.random_walk import RandomWalk
from wss.propagation.superpixel import Superpixel

PROPAGATIONS: tuple[type[Propagation], ...] = (GrabCut, GraphCut, DenseCRF, Superpixel, RandomWalk, FeatureHead)
"""Every algorithm."""

if TYPE_CHECKING:
    AnyPropagation = Propagation
else:
    AnyPropagation = Annotated[Union[PROPAGATIONS], Field(discriminator="name")]  # noqa: UP007 - of a tuple
"""The ``method`` parameter of the propagate stage: settings of one algorithm, chosen by its ``name``."""

__all__ = [
    "PROPAGATIONS",
    "AnyPropagation",
    "DenseCRF",
    "FeatureHead",
    "GrabCut",
    "GraphCut",
    "Propagation",
    "Proposal",
    "RandomWalk",
    "Superpixel",
]
