"""DMPLS: two branches on one encoder, whose predictions are mixed anew in every step into labels for both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.losses import absent_class_loss, dice_loss, proposal_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.params import LATER


class DualBranchSegmenter(Segmenter):
    """A segmentation network, which makes the predictions, with a second branch beside its decoder for training.

    Args:
        spec: The network.
        num_classes: K, background included.
        dropout: Rate at which the second branch loses channels of what it is given.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, dropout: float) -> None:
        super().__init__(spec, num_classes)
        self.second = self.network.second_branch(dropout)

    def both(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,K,H,W) float32 of either branch, of RGB images (B,3,H,W) in 0..255."""
        first, second = (
            functional.interpolate(logits.float(), rgb.shape[2:], mode="bilinear", align_corners=False)
            for logits in self.network.both(self.normalise(rgb), self.second)
        )
        return first, second


class Dmpls(CrossEntropyMethod):
    """Dual-branch network with dynamically mixed pseudo-labels.

    The term ``pce`` is the mean of both branches' partial cross-entropy, ``mixed`` (0.5 in the paper) the mean of their Dice
    losses against argmax(b p_1 + (1 - b) p_2), with b drawn uniformly from 0..1 for every batch. The labels take no gradient.
    With ``soft``, which is DMSPS, the mixture itself is the label, and ``mixed`` (8 in that paper) the mean of both branches'
    cross-entropies against it. At test time the first branch predicts alone. The term ``absent``, which no pipeline has, is the
    mean of both branches' absent-class penalties: for images whose labels name all their classes.

    Source: Luo et al. 2022, "Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and Dynamically Mixed
        Pseudo Labels Supervision", arXiv:2203.02106; Han et al. 2024, "DMSPS: Dynamically mixed soft pseudo-label supervision
        for scribble-supervised medical image segmentation", Medical Image Analysis 97, for ``soft``.
    Differs: only a U-Net has a second decoder; other networks' second branch is a second classifier on the same features, which
        differs less from the first. Padding does not count. The authors' first code of DMSPS takes the softmax of probabilities
        once more in its cross-entropy; their later one does not, nor does this.
    """

    name: Literal["dmpls"] = "dmpls"
    summary: ClassVar[str] = "two decoders whose predictions, mixed at random, teach both"
    stored_features: ClassVar[bool] = True
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "mixed", "absent"})
    term_needs: ClassVar[Mapping[str, frozenset[str]]] = {"absent": frozenset({"classes"})}
    uses_unlabelled: ClassVar[bool] = True

    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Rate at which the second branch loses channels of what it is given, in training."""
    soft: bool = Field(default=False, json_schema_extra=LATER)
    """Probabilities of the mixture as labels, with a cross-entropy (DMSPS), in the place of its most probable classes, with a
    Dice loss (DMPLS)."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        return DualBranchSegmenter(network, num_classes, self.dropout)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        first, second = cast(DualBranchSegmenter, model).both(batch.rgb)
        found = {"pce": (self.cross_entropy(first, batch) + self.cross_entropy(second, batch)) / 2}
        if "mixed" in terms:
            probs = first.softmax(1), second.softmax(1)
            share = float(torch.rand(()))
            mixture = torch.lerp(probs[1].detach(), probs[0].detach(), share)
            if self.soft:
                each = [proposal_loss(logits, mixture, mask=batch.valid) for logits in (first, second)]
            else:
                labels = mixture.argmax(1).where(batch.valid, 255)
                each = [dice_loss(branch, labels) for branch in probs]
            found["mixed"] = (each[0] + each[1]) / 2
        if "absent" in terms:
            tags = batch.image_tags
            penalties = [absent_class_loss(logits, tags, valid=batch.valid) for logits in (first, second)]
            found["absent"] = (penalties[0] + penalties[1]) / 2
        return found
