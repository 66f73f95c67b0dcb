"""The two baselines every weakly supervised method is compared with: cross-entropy on scribbles and on dense masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from torch import Tensor, nn

from wss.losses import partial_cross_entropy
from wss.methods.method import Batch, Method


def cross_entropy_of(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The output of a ``Segmenter``, logits (B,K,H,W), and its cross-entropy on labelled pixels.

    Where the network sees several scales (``NetworkSpec.multi_scale``), the loss is the sum of the cross-entropies of the output,
    which is the largest logit of all scales at every pixel, and of each scale's own logits.

    Source: Chen et al. 2017, "DeepLab", arXiv:1606.00915, section 4.1.2, and the published network definition.
    Differs: all logits are interpolated to the size of the labels; there labels are reduced to that of the logits.
    """
    outputs: list[Tensor] = model(batch.rgb, every=True)
    loss = partial_cross_entropy(outputs[0], batch.labels)
    for logits in outputs[1:]:
        loss = loss + partial_cross_entropy(logits, batch.labels)
    return outputs[0], loss


class PartialCrossEntropy(Method):
    """Partial cross-entropy: the loss sees labelled pixels only, the lower bound."""

    name: Literal["pce"] = "pce"
    summary: ClassVar[str] = "cross-entropy on the labelled pixels; the baseline of every comparison"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce"})
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"pce": cross_entropy_of(model, batch)[1]}


class Dense(Method):
    """The same loss on dense masks, the upper bound."""

    name: Literal["dense"] = "dense"
    summary: ClassVar[str] = "cross-entropy on dense masks; the upper bound (needs masks)"
    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": cross_entropy_of(model, batch)[1]}
