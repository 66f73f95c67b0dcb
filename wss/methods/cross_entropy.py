"""Cross-entropy on labelled pixels, alone or with other loss terms.

Alone it gives the two baselines of every weakly supervised method: training on scribbles and training on dense masks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from wss.errors import UsageError
from wss.losses import absent_class_loss, dice_loss, partial_cross_entropy
from wss.methods.method import Batch, Method, Phase
from wss.params import LATER


class CrossEntropyMethod(Method):
    """Base class of methods with a term that is cross-entropy on labelled pixels.

    Source: Eigen and Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-scale Convolutional
        Architecture", section 6.3.2, for ``class_weights: auto``; Lin et al. 2017, "Focal Loss for Dense Object Detection", for
        ``focal_gamma``.
    """

    cross_entropy_terms: ClassVar[frozenset[str]] = frozenset({"pce", "ce"})
    """Loss terms that ``cross_entropy`` computes. Class weights, focal loss and Dice loss act on these terms only."""
    supervised_terms: ClassVar[frozenset[str]] = frozenset({"pce", "ce"})

    class_weights: Literal["auto"] | tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        default=None, json_schema_extra=LATER
    )
    """Weight of each class in the cross-entropy. None: all pixels have equal weight. A list: one number per class, in
    the order of the classes. ``auto``: median-frequency balancing from the labels of the training images; rare classes
    get larger weights."""
    focal_gamma: float = Field(default=0.0, ge=0, json_schema_extra=LATER)
    """Focal loss: the cross-entropy of a pixel is multiplied by (1 - p)^gamma, with p the probability of its label. A
    larger value gives less weight to pixels that are already right. 0 is plain cross-entropy. Published for detection:
    2."""

    dice: float = Field(default=0.0, ge=0, json_schema_extra=LATER)
    """Weight of a soft Dice loss on labelled pixels, added to their cross-entropy. It gives all classes equal
    weight."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_or_auto(cls, value: object) -> object:
        """Give one error message instead of one per member of the union type."""
        numbers = isinstance(value, list | tuple) and all(type(w) in (int, float) and w >= 0 for w in value)
        if value is None or value == "auto" or numbers:
            return value
        raise ValueError("expected auto, null, or a list with a number of at least 0 for each class")

    @field_validator("class_weights")
    @classmethod
    def _some_weight(cls, value: object) -> object:
        if isinstance(value, tuple) and not any(value):
            raise ValueError("class_weights are all 0, which leaves nothing to learn")
        return value

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """See ``Method.check``: a list of class weights must have one number per class."""
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != num_classes:
            raise UsageError(
                f"class_weights has {len(self.class_weights)} numbers, but there are {num_classes} classes; give one number "
                "per class, in the order of the classes, or auto"
            )

    def check_phases(self, phases: Sequence[Phase]) -> None:
        """See ``Method.check_phases``: a Dice loss needs a cross-entropy term to which it is added.

        Raises:
            ValueError: ``dice`` has a weight, but no phase has a cross-entropy term.
        """
        used = {term for phase in phases for term in phase.terms}
        if self.dice and not used & self.cross_entropy_terms:
            raise ValueError(
                f"method {self.name!r}: dice is added to the terms "
                f"{', '.join(sorted(self.cross_entropy_terms & self.term_names))}, but no phase has one; leave dice out"
            )

    def weighted(self, weights: tuple[float, ...]) -> CrossEntropyMethod:
        """A copy of the method with these class weights instead of ``auto``."""
        return self.model_copy(update={"class_weights": weights})

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits (B,K,H,W) on labelled pixels, with class weights, plus the weighted Dice loss.

        Raises:
            UsageError: ``class_weights`` is still ``auto``, see ``weighted``.
        """
        if self.class_weights == "auto":
            raise UsageError("class_weights auto stands for weights that training computes from its labels")
        weights = None
        if self.class_weights is not None:
            weights = _on_device(self.class_weights, logits.device).to(logits.dtype)
        loss = partial_cross_entropy(logits, batch.labels, class_weights=weights, focal_gamma=self.focal_gamma)
        return loss + self.dice * dice_loss(logits.float().softmax(1), batch.labels) if self.dice else loss

    def cross_entropy_of(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Run a ``Segmenter`` and return its logits (B,K,H,W) and their cross-entropy on labelled pixels.

        If the network sees several scales (``NetworkSpec.multi_scale``), the output is the maximum of their logits at
        each pixel. The loss is the cross-entropy of the output plus that of each scale's own logits.

        Source: Chen et al. 2017, "DeepLab", arXiv:1606.00915, section 4.1.2, and the published network definition.
        Differs: logits are interpolated to the size of the labels; the published code reduces labels to the size of the
            logits.
        """
        outputs: list[Tensor] = model(batch.rgb, every=True)
        loss = self.cross_entropy(outputs[0], batch)
        for logits in outputs[1:]:
            loss = loss + self.cross_entropy(logits, batch)
        return outputs[0], loss


@lru_cache(maxsize=16)
def _on_device(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Weights as a tensor, cached per device, because a copy in every step would make a GPU wait."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


class PartialCrossEntropy(CrossEntropyMethod):
    """Partial cross-entropy: the loss uses labelled pixels only. It is the lower bound of comparisons.

    The term ``absent`` is the absent-class penalty. It is meant for images whose labels name all their classes. No
    pipeline uses it.
    """

    name: Literal["pce"] = "pce"
    summary: ClassVar[str] = "cross-entropy on the labelled pixels; the baseline of every comparison"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "absent"})
    term_needs: ClassVar[Mapping[str, frozenset[str]]] = {"absent": frozenset({"classes"})}
    stored_features: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, loss = self.cross_entropy_of(model, batch)
        losses = {"pce": loss}
        if "absent" in terms:
            losses["absent"] = absent_class_loss(logits, batch.image_tags, valid=batch.valid)
        return losses


class Dense(CrossEntropyMethod):
    """Cross-entropy on dense masks. It is the upper bound of comparisons."""

    name: Literal["dense"] = "dense"
    summary: ClassVar[str] = "cross-entropy on dense masks; the upper bound (needs masks)"
    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})
    stored_features: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": self.cross_entropy_of(model, batch)[1]}
