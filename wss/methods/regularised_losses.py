"""Regularised losses: partial cross-entropy, then fine-tuning with an added CRF, normalised cut or kernel cut loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from wss.labels import UNLABELLED
from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class RegularisedLoss(CrossEntropyMethod):
    """Partial cross-entropy and one regulariser at full resolution. The regulariser's term has the method's name.

    A phase computes the regulariser only if it is among the phase's terms. So one method serves both phases of the
    paper.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (2) and section 4.
    """

    uses_unlabelled: ClassVar[bool] = True
    stored_features: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    sigma_rgb: float = Field(default=15.0, gt=0)
    """Standard deviation of the affinity in colour, 0-255 units. Published: 15 (VGG networks), 13 (ResNet-101)."""
    sigma_xy: float = Field(default=100.0, gt=0)
    """Standard deviation of the affinity in pixels. Published: 100 (VGG), 80 (ResNet-101), for images of 375x500."""
    variant: Literal["plain", "clamped"] = "plain"
    """``plain``: as published. ``clamped``: labelled pixels are one-hot and get no gradient from the regulariser, and
    neither do classes without a label in the image."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the resolution at which the regulariser is computed. A smaller value is faster."""
    images: Literal["all", "unlabelled"] = "all"
    """Images that are regularised: ``all``, or only ``unlabelled`` images, which have no labelled pixel
    (semi-supervision)."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        losses = {"pce": pce}
        if self.name in terms:
            losses[self.name] = self.regulariser(logits.float().softmax(1), batch, self._roi(batch))
        return losses

    def _roi(self, batch: Batch) -> Tensor:
        if self.images == "all":
            return batch.valid
        labelled = (batch.labels != UNLABELLED).flatten(1).any(1)
        return batch.valid & ~labelled.view(-1, 1, 1)

    @abstractmethod
    def regulariser(self, probs: Tensor, batch: Batch, roi: Tensor) -> Tensor:
        """Regularisation loss of probabilities (B,K,H,W) on the pixels where ``roi``, bool (B,H,W), is True."""


class DenseCRF(RegularisedLoss):
    """Partial cross-entropy and the relaxed Potts energy of the fully connected CRF."""

    name: Literal["densecrf"] = "densecrf"
    summary: ClassVar[str] = "partial cross-entropy, then plus a dense CRF loss"
    differs: ClassVar[str] = (
        "normalised loss: weight 1 is not the authors' 2e-9 or 1e-8 (presets voc2012-pytorch-weights, -caffe-weights)"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "densecrf"})

    units: Literal["normalised", "paper"] = "normalised"
    """``normalised``: the share of affinity that is cut, in 0..1. ``paper``: the value of the authors' code. Its weight
    in their Caffe code, 1e-8, equals about 2 to 5 in normalised units at crops of 321."""

    def regulariser(self, probs: Tensor, batch: Batch, roi: Tensor) -> Tensor:
        """See ``dense_crf_loss``."""
        return dense_crf_loss(
            probs,
            batch.rgb,
            sigma_rgb=self.sigma_rgb,
            sigma_xy=self.sigma_xy,
            roi=roi,
            labels=batch.labels,
            variant=self.variant,
            units=self.units,
            scale=self.scale,
        )


class NormalizedCut(RegularisedLoss):
    """Partial cross-entropy and the relaxed normalised cut."""

    name: Literal["ncut"] = "ncut"
    summary: ClassVar[str] = "partial cross-entropy, then plus a normalised cut loss"
    differs: ClassVar[str] = "sigma_xy 40 and the weight 0.3 are ours: the paper gives neither"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "ncut"})

    sigma_xy: float = Field(default=40.0, gt=0)
    """Standard deviation of the affinity in pixels; not published."""

    def regulariser(self, probs: Tensor, batch: Batch, roi: Tensor) -> Tensor:
        """See ``normalized_cut_loss``."""
        return normalized_cut_loss(
            probs,
            batch.rgb,
            sigma_rgb=self.sigma_rgb,
            sigma_xy=self.sigma_xy,
            roi=roi,
            labels=batch.labels,
            variant=self.variant,
            scale=self.scale,
        )


class KernelCut(RegularisedLoss):
    """Partial cross-entropy, the CRF loss and the normalised cut together."""

    name: Literal["kernelcut"] = "kernelcut"
    summary: ClassVar[str] = "partial cross-entropy, then plus a kernel cut loss (CRF + normalised cut)"
    differs: ClassVar[str] = "gamma 0.2 is ours: the paper gives none; the loss is normalised like that of densecrf"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "kernelcut"})

    units: Literal["normalised", "paper"] = "normalised"
    """Units of the CRF loss. ``normalised``: the share of affinity that is cut, in 0..1. ``paper``: the value of the
    authors' code; ``gamma`` is then relative to values of about 1e8."""
    gamma: float = Field(default=0.2, ge=0)
    """Weight of the normalised cut relative to the CRF loss; not published."""
    nc_sigma_rgb: float | None = Field(default=None, gt=0)
    """``sigma_rgb`` of the normalised cut. None uses the CRF's value."""
    nc_sigma_xy: float | None = Field(default=None, gt=0)
    """``sigma_xy`` of the normalised cut. None uses the CRF's value. If both are shared, the filter runs once, not
    twice."""

    def regulariser(self, probs: Tensor, batch: Batch, roi: Tensor) -> Tensor:
        """See ``kernel_cut_loss``."""
        return kernel_cut_loss(
            probs,
            batch.rgb,
            gamma=self.gamma,
            sigma_rgb=self.sigma_rgb,
            sigma_xy=self.sigma_xy,
            nc_sigma_rgb=self.nc_sigma_rgb,
            nc_sigma_xy=self.nc_sigma_xy,
            roi=roi,
            labels=batch.labels,
            variant=self.variant,
            units=self.units,
            scale=self.scale,
        )
