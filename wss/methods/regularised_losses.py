"""Regularised losses: partial cross-entropy first, then fine-tuning with a CRF, normalised cut or kernel cut loss beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class RegularisedLoss(CrossEntropyMethod):
    """Partial cross-entropy and one regulariser, the term of the method's own name, at full resolution.

    A phase without the regulariser among its terms does not compute it, so that one method serves both phases of the paper.

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
    """``clamped``: labelled pixels count as their labels and get no gradient, nor do classes absent from the labels."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Compute the regulariser at this fraction of the resolution, for speed."""
    images: Literal["all", "unlabelled"] = "all"
    """Which images are regularised: ``unlabelled`` leaves out those with any labelled pixel (semi-supervision)."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        found = {"pce": pce}
        if self.name in terms:
            found[self.name] = self.regulariser(logits.float().softmax(1), batch, self._roi(batch))
        return found

    def _roi(self, batch: Batch) -> Tensor:
        if self.images == "all":
            return batch.valid
        labelled = (batch.labels != 255).flatten(1).any(1)
        return batch.valid & ~labelled.view(-1, 1, 1)

    @abstractmethod
    def regulariser(self, probs: Tensor, batch: Batch, roi: Tensor) -> Tensor:
        """The regularisation loss of soft segments (B,K,H,W) inside ``roi``, bool (B,H,W)."""


class DenseCRF(RegularisedLoss):
    """The relaxed Potts energy of the fully connected CRF."""

    name: Literal["densecrf"] = "densecrf"
    summary: ClassVar[str] = "partial cross-entropy, then with a dense CRF loss beside it"
    differs: ClassVar[str] = (
        "the loss is normalised: weight 1 is not the authors' 2e-9 or 1e-8 (presets voc2012-pytorch-weights, -caffe-weights)"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "densecrf"})

    units: Literal["normalised", "paper"] = "normalised"
    """``normalised``: the share of affinity that is cut, in 0..1. ``paper``: as the authors' code, whose weight is 1e-8 in Caffe.
    That is as much as 2 to 5 in normalised units, at crops of 321."""

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
    """The relaxed normalised cut."""

    name: Literal["ncut"] = "ncut"
    summary: ClassVar[str] = "partial cross-entropy, then with a normalised cut loss beside it"
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
    """CRF and normalised cut together."""

    name: Literal["kernelcut"] = "kernelcut"
    summary: ClassVar[str] = "partial cross-entropy, then with a kernel cut loss (CRF + normalised cut) beside it"
    differs: ClassVar[str] = "gamma 0.2 is ours: the paper gives none; the loss is normalised as that of densecrf"
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "kernelcut"})

    units: Literal["normalised", "paper"] = "normalised"
    """Units of the CRF part: ``normalised`` is the share of affinity that is cut, in 0..1; ``paper`` the authors' code's. Then
    ``gamma`` is relative to values of about 1e8."""
    gamma: float = Field(default=0.2, ge=0)
    """Weight of the normalised cut relative to the CRF loss; not published."""
    nc_sigma_rgb: float | None = Field(default=None, gt=0)
    """``sigma_rgb`` of the normalised cut; None shares the CRF's."""
    nc_sigma_xy: float | None = Field(default=None, gt=0)
    """``sigma_xy`` of the normalised cut; None shares the CRF's. Sharing both halves the filtering."""

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
