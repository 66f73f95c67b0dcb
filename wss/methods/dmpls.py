"""DMPLS: two branches on one encoder; in each step a random mixture of their predictions gives labels for both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.labels import UNLABELLED
from wss.losses import absent_class_loss, dice_loss, proposal_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.params import LATER


class DualBranchSegmenter(Segmenter):
    """A segmentation network with a second decoder branch that is used in training only.

    Args:
        spec: The network.
        num_classes: K, background included.
        dropout: Dropout rate of the channels that enter the second branch.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, dropout: float) -> None:
        super().__init__(spec, num_classes)
        self.second = self.network.second_branch(dropout)

    def both(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,K,H,W) float32 of both branches, of RGB images (B,3,H,W) in 0..255."""
        first, second = (
            functional.interpolate(logits.float(), rgb.shape[2:], mode="bilinear", align_corners=False)
            for logits in self.network.both(self.normalise(rgb), self.second)
        )
        return first, second


class Dmpls(CrossEntropyMethod):
    """Dual-branch network with dynamically mixed pseudo-labels.

    The term ``pce`` is the mean partial cross-entropy of both branches. The term ``mixed`` (weight 0.5 in the paper) is
    the mean of their Dice losses against the labels argmax(b p_1 + (1 - b) p_2). For each batch b is drawn uniformly
    from 0..1. The labels receive no gradient. With ``soft`` (DMSPS) the mixture itself is the label, and ``mixed``
    (weight 8 in that paper) is the mean cross-entropy of both branches against it. At test time only the first branch
    predicts. The term ``absent`` is the mean of both branches' absent-class penalties. It is meant for images whose
    labels name all their classes. No pipeline uses it.

    Source: Luo et al. 2022, "Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and Dynamically Mixed
        Pseudo Labels Supervision", arXiv:2203.02106; Han et al. 2024, "DMSPS: Dynamically mixed soft pseudo-label supervision
        for scribble-supervised medical image segmentation", Medical Image Analysis 97, for ``soft``.
    Differs: only a U-Net gets a second decoder. In other networks the second branch is a second classifier on the same
        features, so the branches differ less. Padding does not count. The authors' first code of DMSPS applies softmax
        twice in its cross-entropy; their later code and this code apply it once.
    """

    name: Literal["dmpls"] = "dmpls"
    summary: ClassVar[str] = "two decoders whose predictions, mixed at random, teach both"
    stored_features: ClassVar[bool] = True
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "mixed", "absent"})
    term_needs: ClassVar[Mapping[str, frozenset[str]]] = {"absent": frozenset({"classes"})}
    uses_unlabelled: ClassVar[bool] = True

    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout rate of the channels that enter the second branch, in training. A larger value makes the branches differ
    more."""
    soft: bool = Field(default=False, json_schema_extra=LATER)
    """Labels from the mixture. False (DMPLS): its most probable classes, with a Dice loss. True (DMSPS): its
    probabilities, with a cross-entropy."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        return DualBranchSegmenter(network, num_classes, self.dropout)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        first, second = cast(DualBranchSegmenter, model).both(batch.rgb)
        losses = {"pce": (self.cross_entropy(first, batch) + self.cross_entropy(second, batch)) / 2}
        if "mixed" in terms:
            probs = first.softmax(1), second.softmax(1)
            share = float(torch.rand(()))
            mixture = torch.lerp(probs[1].detach(), probs[0].detach(), share)
            if self.soft:
                each = [proposal_loss(logits, mixture, mask=batch.valid) for logits in (first, second)]
            else:
                labels = mixture.argmax(1).where(batch.valid, UNLABELLED)
                each = [dice_loss(branch, labels) for branch in probs]
            losses["mixed"] = (each[0] + each[1]) / 2
        if "absent" in terms:
            tags = batch.image_tags
            penalties = [absent_class_loss(logits, tags, valid=batch.valid) for logits in (first, second)]
            losses["absent"] = (penalties[0] + penalties[1]) / 2
        return losses
