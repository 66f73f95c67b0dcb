"""Seed, expand and constrain: a segmentation network from image tags and the seeds of class activation maps."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wss.losses import constrain_to_boundary_loss, dense_crf_loss, expansion_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch


class Sec(CrossEntropyMethod):
    """Cross-entropy on seeds (``seed``), tags that ask for area (``expand``) and a CRF's boundaries (``constrain``).

    ``densecrf`` is the CRF loss in the place of ``constrain``, which needs no inference. A phase computes the terms that it
    names. Images are seen whole, since tags say nothing about a crop.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098; Tang et al. 2018, "On Regularized
        Losses for Weakly-supervised CNN Segmentation", section 4.2 and Table 3, for ``densecrf`` and ``backprop``.
    Differs: losses are computed at image resolution unless ``scale`` says otherwise, the authors' at an eighth of it; the
        seeding loss is the mean over the seeds of the batch, not of the mean of each image. See ``constrain_to_boundary_loss``
        for the deviations that the authors' code uses at that resolution, and for its gradient through the CRF.
    """

    name: Literal["sec"] = "sec"
    summary: ClassVar[str] = "seed, expand and constrain, from image tags; or with a CRF loss as constraint"
    differs: ClassVar[str] = "the published CRF and lengths are for images of 321x321: preset voc2012-largefov"
    term_names: ClassVar[frozenset[str]] = frozenset({"seed", "expand", "constrain", "densecrf"})
    cross_entropy_terms: ClassVar[frozenset[str]] = frozenset({"seed"})
    supervised_terms: ClassVar[frozenset[str]] = cross_entropy_terms
    needs: ClassVar[frozenset[str]] = frozenset({"tags"})

    present_decay: float = Field(default=0.996, ge=0, le=1)
    """Decay of the ranks of pixels, for classes in the image. Published: 0.996."""
    absent_decay: float = Field(default=0.0, ge=0, le=1)
    """For classes that are not: 0 looks at their largest score alone. Published: 0."""
    background_decay: float = Field(default=0.999, ge=0, le=1)
    """For the background. Published: 0.999."""
    pos_weight: float = Field(default=3.0, ge=0)
    """Weight of the CRF's position kernel. Published: 3."""
    pos_xy_std: float = Field(default=3.0, gt=0)
    """Its standard deviation in pixels. Published: 3, for images of 321x321."""
    bi_weight: float = Field(default=10.0, ge=0)
    """Weight of the CRF's bilateral kernel. Published: 10."""
    bi_xy_std: float = Field(default=80.0, gt=0)
    """Its standard deviation in pixels. Published: 80, for images of 321x321."""
    bi_rgb_std: float = Field(default=13.0, gt=0)
    """Its standard deviation in colour, 0-255 units. Published: 13."""
    iterations: int = Field(default=10, ge=1)
    """Mean-field iterations. Published: 10."""
    backprop: bool = True
    """Whether the gradient of ``constrain`` also flows through the CRF."""
    sigma_rgb: float = Field(default=15.0, gt=0)
    """Of the term ``densecrf``: standard deviation in colour, as in the method of that name."""
    sigma_xy: float = Field(default=100.0, gt=0)
    """Of the term ``densecrf``: standard deviation in pixels."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Compute all terms but ``seed`` at this fraction of the resolution, for speed; SEC's is 1/8."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits = model(batch.rgb).float()
        found: dict[str, Tensor] = {}
        if "seed" in terms:
            found["seed"] = self.cross_entropy(logits, batch)
        if "expand" in terms:
            found["expand"] = self._expansion(logits.softmax(1), batch)
        if "constrain" in terms:
            found["constrain"] = constrain_to_boundary_loss(
                logits,
                batch.rgb,
                iterations=self.iterations,
                pos_weight=self.pos_weight,
                pos_xy_std=self.pos_xy_std,
                bi_weight=self.bi_weight,
                bi_xy_std=self.bi_xy_std,
                bi_rgb_std=self.bi_rgb_std,
                backprop=self.backprop,
                roi=batch.valid,
                scale=self.scale,
            )
        if "densecrf" in terms:
            found["densecrf"] = dense_crf_loss(
                logits.softmax(1),
                batch.rgb,
                sigma_rgb=self.sigma_rgb,
                sigma_xy=self.sigma_xy,
                roi=batch.valid,
                scale=self.scale,
            )
        return found

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
