"""Methods that first propagate the scribbles to proposals, and then train on these as if they were dense masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from torch import Tensor, nn

from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class Proposals(CrossEntropyMethod):
    """Cross-entropy on proposals. The pipeline decides how and how often they are computed."""

    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": self.cross_entropy_of(model, batch)[1]}


class GrabCut(Proposals):
    """Cross-entropy on proposals that GrabCut computes once.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", table 2, first column.
    """

    name: Literal["grabcut"] = "grabcut"
    summary: ClassVar[str] = "cross-entropy on masks that GrabCut computes once from the scribbles"


class RandomWalk(Proposals):
    """Cross-entropy on proposals from random walks that avoid detected edges: ``rawks`` without learned edges."""

    name: Literal["random-walk"] = "random-walk"
    summary: ClassVar[str] = "cross-entropy on masks that random walks between edges give once from the scribbles"


class ScribbleSup(Proposals):
    """Cross-entropy on proposals by graph cuts on superpixels. After each round of training, the network updates them.

    Source: Lin, Dai, Jia, He, Sun: ScribbleSup, 2016.
    """

    name: Literal["scribblesup"] = "scribblesup"
    summary: ClassVar[str] = "graph cuts on superpixels, alternating with training for three rounds"
    differs: ClassVar[str] = "the energy is scaled to images of any size; presets voc2012-* have the published energy"
