"""Cross-entropy on labelled pixels, alone or beside other terms.

Alone it is the two baselines every weakly supervised method is compared with: on scribbles and on dense masks.
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
    """A method one of whose terms is cross-entropy on labelled pixels.

    Source: Eigen and Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-scale Convolutional
        Architecture", section 6.3.2, for ``class_weights: auto``; Lin et al. 2017, "Focal Loss for Dense Object Detection", for
        ``focal_gamma``.
    """

    cross_entropy_terms: ClassVar[frozenset[str]] = frozenset({"pce", "ce"})
    """Loss terms that ``cross_entropy`` computes: class weights, focal loss and Dice loss act on them alone."""
    supervised_terms: ClassVar[frozenset[str]] = frozenset({"pce", "ce"})

    class_weights: Literal["auto"] | tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        default=None, json_schema_extra=LATER
    )
    """Weights of the classes in the cross-entropy: None weighs all pixels alike; one number for each class, in their order; or
    ``auto``, median-frequency balancing, where rare classes weigh more: computed from the labels of the training images."""
    focal_gamma: float = Field(default=0.0, ge=0, json_schema_extra=LATER)
    """Focal loss: pixels whose class already has the probability p count (1 - p)^gamma in the cross-entropy. 0 is the plain
    one; published for detection: 2."""

    dice: float = Field(default=0.0, ge=0, json_schema_extra=LATER)
    """Weight of the soft Dice loss of labelled pixels beside their cross-entropy. It weighs all classes alike."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_or_auto(cls, value: object) -> object:
        """One message in the place of one for each kind of value that is allowed."""
        numbers = isinstance(value, list | tuple) and all(type(w) in (int, float) and w >= 0 for w in value)
        if value is None or value == "auto" or numbers:
            return value
        raise ValueError("expected auto, null, or a list of numbers from 0 on, one for each class")

    @field_validator("class_weights")
    @classmethod
    def _some_weight(cls, value: object) -> object:
        if isinstance(value, tuple) and not any(value):
            raise ValueError("class_weights are all 0, which leaves nothing to learn")
        return value

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """See ``Method.check``: there is one weight for each class."""
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != num_classes:
            raise UsageError(
                f"class_weights has {len(self.class_weights)} numbers, and there are {num_classes} classes; give one for each, "
                "in the order of the classes, or auto"
            )

    def check_phases(self, phases: Sequence[Phase]) -> None:
        """See ``Method.check_phases``: a Dice loss needs a cross-entropy beside which it stands.

        Raises:
            ValueError: ``dice`` has a weight, and no phase has a term that it would be added to.
        """
        used = {term for phase in phases for term in phase.terms}
        if self.dice and not used & self.cross_entropy_terms:
            raise ValueError(
                f"method {self.name!r}: dice is added to the terms "
                f"{', '.join(sorted(self.cross_entropy_terms & self.term_names))}, and no phase has one of them; leave dice out"
            )

    def weighted(self, weights: tuple[float, ...]) -> CrossEntropyMethod:
        """The same method with these weights in the place of ``auto``."""
        return self.model_copy(update={"class_weights": weights})

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits (B,K,H,W) on labelled pixels, with this method's weights, and the Dice loss if it has a weight.

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
        """The output of a ``Segmenter``, logits (B,K,H,W), and its cross-entropy on labelled pixels.

        Where the network sees several scales (``NetworkSpec.multi_scale``), the loss is the sum of the cross-entropies of the
        output, which is the largest logit of all scales at every pixel, and of each scale's own logits.

        Source: Chen et al. 2017, "DeepLab", arXiv:1606.00915, section 4.1.2, and the published network definition.
        Differs: all logits are interpolated to the size of the labels; there labels are reduced to that of the logits.
        """
        outputs: list[Tensor] = model(batch.rgb, every=True)
        loss = self.cross_entropy(outputs[0], batch)
        for logits in outputs[1:]:
            loss = loss + self.cross_entropy(logits, batch)
        return outputs[0], loss


@lru_cache(maxsize=16)
def _on_device(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Weights as a tensor, copied once: a copy in every step would let a GPU wait."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


class PartialCrossEntropy(CrossEntropyMethod):
    """Partial cross-entropy: the loss sees labelled pixels only, the lower bound.

    The term ``absent``, which no pipeline has, is the absent-class penalty: for images whose labels name all their classes.
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
        found = {"pce": loss}
        if "absent" in terms:
            found["absent"] = absent_class_loss(logits, batch.image_tags, valid=batch.valid)
        return found


class Dense(CrossEntropyMethod):
    """The same loss on dense masks, the upper bound."""

    name: Literal["dense"] = "dense"
    summary: ClassVar[str] = "cross-entropy on dense masks; the upper bound (needs masks)"
    term_names: ClassVar[frozenset[str]] = frozenset({"ce"})
    stored_features: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        return {"ce": self.cross_entropy_of(model, batch)[1]}
