"""The two baselines every weakly supervised method is compared with: cross-entropy on scribbles and on dense masks."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from torch import Tensor, nn

from wss.losses import partial_cross_entropy
from wss.methods.method import Batch, Method


class PartialCrossEntropy(Method):
    """Partial cross-entropy: the loss sees labelled pixels only, the lower bound."""

    name: Literal["pce"] = "pce"
    summary: ClassVar[str] = "cross-entropy on the labelled pixels; the baseline of every comparison"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce"})

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"pce": partial_cross_entropy(model(batch.rgb), batch.labels)}


class Dense(Method):
    """The same loss on dense masks, the upper bound."""

    name: Literal["dense"] = "dense"
    summary: ClassVar[str] = "cross-entropy on dense masks; the upper bound (needs masks)"
    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": partial_cross_entropy(model(batch.rgb), batch.labels)}
