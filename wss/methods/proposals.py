"""Methods that train on labels spread from the scribbles beforehand, as if they were dense masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from torch import Tensor, nn

from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class Proposals(CrossEntropyMethod):
    """Cross-entropy on proposals; how they are made, and how often, is the pipeline's matter."""

    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": self.cross_entropy_of(model, batch)[1]}


class GrabCut(Proposals):
    """Proposals made once, by GrabCut.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", table 2, first column.
    """

    name: Literal["grabcut"] = "grabcut"
    summary: ClassVar[str] = "cross-entropy on masks that GrabCut made of the scribbles, once"


class RandomWalk(Proposals):
    """Proposals made once, by random walks around detected edges: what ``rawks`` learns, without learning."""

    name: Literal["random-walk"] = "random-walk"
    summary: ClassVar[str] = "cross-entropy on masks that random walks around edges made of the scribbles, once"


class ScribbleSup(Proposals):
    """Proposals by graph cuts on superpixels, made anew with the network's help after each round of training.

    Source: Lin, Dai, Jia, He, Sun: ScribbleSup, 2016.
    """

    name: Literal["scribblesup"] = "scribblesup"
    summary: ClassVar[str] = "graph cuts on superpixels and training in turn, three rounds"
    differs: ClassVar[str] = "the energy is scaled to images of any size; the presets voc2012-* have the published one"
