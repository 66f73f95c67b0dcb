"""Seed, expand and constrain (SEC): segmentation from image tags and from seeds of class activation maps."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wss.losses import constrain_to_boundary_loss, dense_crf_loss, expansion_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.ops.crf_kernel import CrfKernel


class Sec(CrfKernel, CrossEntropyMethod):
    """Losses on seeds (``seed``), on the area of tagged classes (``expand``) and on boundaries (``constrain``).

    ``seed`` is the cross-entropy on the seeds. ``constrain`` is the divergence from the output of a CRF. ``densecrf``
    is the dense CRF loss, which can replace ``constrain`` and needs no inference. A phase computes only the terms that
    it names. Images are not cropped, because tags do not describe a crop.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098; Tang et al. 2018, "On Regularized
        Losses for Weakly-supervised CNN Segmentation", section 4.2 and Table 3, for ``densecrf`` and ``backprop``.
    Differs: by default losses are computed at image resolution, in the authors' code at 1/8 of it (see ``scale``). The
        seeding loss is the mean over all seeds of the batch, not the mean over images of each image's mean. See
        ``constrain_to_boundary_loss`` for the standard deviations that the authors' code uses at 1/8, and for its
        gradient through the CRF.
    """

    name: Literal["sec"] = "sec"
    summary: ClassVar[str] = "seed, expand and constrain, from image tags; or with a CRF loss as constraint"
    differs: ClassVar[str] = "the published CRF and lengths are for images of 321x321: preset voc2012-largefov"
    term_names: ClassVar[frozenset[str]] = frozenset({"seed", "expand", "constrain", "densecrf"})
    cross_entropy_terms: ClassVar[frozenset[str]] = frozenset({"seed"})
    supervised_terms: ClassVar[frozenset[str]] = cross_entropy_terms
    needs: ClassVar[frozenset[str]] = frozenset({"tags"})

    present_decay: float = Field(default=0.996, ge=0, le=1)
    """Decay of the pixel ranks in ``expand``, for classes in the image. A larger value asks for a larger area.
    Published: 0.996."""
    absent_decay: float = Field(default=0.0, ge=0, le=1)
    """Decay of the pixel ranks in ``expand``, for classes that are not in the image. 0 uses only their largest score.
    Published: 0."""
    background_decay: float = Field(default=0.999, ge=0, le=1)
    """Decay of the pixel ranks in ``expand``, for the background. Published: 0.999."""
    iterations: int = Field(default=10, ge=1)
    """Number of mean-field iterations. Published: 10."""
    backprop: bool = True
    """True: the gradient of ``constrain`` also flows through the CRF. False: the CRF's output is constant."""
    sigma_rgb: float = Field(default=15.0, gt=0)
    """Colour standard deviation of the term ``densecrf``, 0-255 units, as in the method of that name."""
    sigma_xy: float = Field(default=100.0, gt=0)
    """Spatial standard deviation of the term ``densecrf`` in pixels."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the resolution at which all terms except ``seed`` are computed. A smaller value is faster. SEC:
    1/8."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits = model(batch.rgb).float()
        losses: dict[str, Tensor] = {}
        if "seed" in terms:
            losses["seed"] = self.cross_entropy(logits, batch)
        if "expand" in terms:
            losses["expand"] = self._expansion(logits.softmax(1), batch)
        if "constrain" in terms:
            losses["constrain"] = constrain_to_boundary_loss(
                logits,
                batch.rgb,
                iterations=self.iterations,
                **self.kernels(),
                backprop=self.backprop,
                roi=batch.valid,
                scale=self.scale,
            )
        if "densecrf" in terms:
            losses["densecrf"] = dense_crf_loss(
                logits.softmax(1),
                batch.rgb,
                sigma_rgb=self.sigma_rgb,
                sigma_xy=self.sigma_xy,
                roi=batch.valid,
                scale=self.scale,
            )
        return losses

    def _expansion(self, probs: Tensor, batch: Batch) -> Tensor:
        inside = batch.valid
        if self.scale < 1:
            size = [max(1, round(self.scale * side)) for side in probs.shape[2:]]
            probs = interpolate(probs, size, mode="area")
            inside = interpolate(inside[:, None].to(probs.dtype), size, mode="area")[:, 0] > 0.5
        return expansion_loss(
            probs,
            batch.image_tags,
            background=batch.background,
            present_decay=self.present_decay,
            absent_decay=self.absent_decay,
            background_decay=self.background_decay,
            roi=inside,
        )
