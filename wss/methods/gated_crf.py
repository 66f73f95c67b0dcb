"""Gated CRF: partial cross-entropy, and a loss that asks nearby pixels of similar colour to agree."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from wss.labels import UNLABELLED
from wss.losses import gated_crf_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class GatedCRF(CrossEntropyMethod):
    """Partial cross-entropy and the gated CRF loss, both from the start of the training.

    The term ``gated-crf`` (weight 0.1 in the published settings) takes all pixels of the image as sources.

    Source: Obukhov et al. 2019, "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation", arXiv:1906.04651; sigmas,
        radius and weight as in its published code, which the ACDC benchmark of Luo et al. 2022 (arXiv:2203.02106) uses too.
    Differs: colours are always compared in 0-255 units, independent of the network's normalisation. A grey image has
        three equal channels, in the benchmark one channel; this acts like a sigma_rgb smaller by the factor sqrt(3).
        The default ``scale`` is the full resolution; the published code reduces photographs to a quarter.
    """

    name: Literal["gated-crf"] = "gated-crf"
    summary: ClassVar[str] = "partial cross-entropy plus a CRF loss between nearby pixels"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "gated-crf"})
    uses_unlabelled: ClassVar[bool] = True
    stored_features: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    radius: int = Field(default=5, ge=1)
    """Largest distance in x and y of pixels that are compared, in pixels of the reduced image (``scale``). The time
    grows with its square."""
    sigma_rgb: float = Field(default=25.5, gt=0)
    """Standard deviation in colour, 0-255 units. A larger value asks pixels of less similar colour to agree."""
    sigma_xy: float = Field(default=6.0, gt=0)
    """Standard deviation of position in pixels of the reduced image. A larger value gives far pixels more weight."""
    colour_weight: float = Field(default=1.0, ge=0)
    """Weight of the kernel of colour and position."""
    position_weight: float = Field(default=0.0, ge=0)
    """Weight of the kernel of position alone."""
    destinations: Literal["all", "unlabelled"] = "all"
    """Pixels whose energy counts: ``all`` pixels, or only ``unlabelled`` pixels."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the resolution at which the loss is computed. With a smaller value the window covers more of the
    image and the loss takes less time. Published for photographs: 0.25."""

    @model_validator(mode="after")
    def _some_kernel(self) -> GatedCRF:
        if self.colour_weight + self.position_weight == 0:
            raise ValueError("colour_weight and position_weight are both 0; one of them must be larger")
        return self

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        losses = {"pce": pce}
        if "gated-crf" in terms:
            losses["gated-crf"] = gated_crf_loss(
                logits.float().softmax(1),
                batch.rgb,
                radius=self.radius,
                sigma_rgb=self.sigma_rgb,
                sigma_xy=self.sigma_xy,
                colour_weight=self.colour_weight,
                position_weight=self.position_weight,
                sources=batch.valid,
                destinations=batch.valid if self.destinations == "all" else batch.valid & (batch.labels == UNLABELLED),
                scale=self.scale,
            )
        return losses
