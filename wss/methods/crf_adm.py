"""CRF proposals in every training step: the alternating direction method (ADM) for the dense CRF loss."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from wss import devices
from wss.labels import UNLABELLED
from wss.losses import dense_crf_loss, proposal_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.ops import differentiable_mean_field, mean_field
from wss.ops.crf_kernel import CrfKernel


class CrfAdm(CrfKernel, CrossEntropyMethod):
    """Partial cross-entropy, then also the distance to proposals from mean-field inference on the network's output.

    The term ``adm`` is the mean of H(X, S) or KL(X || S) over unlabelled pixels, with the proposals X and the network's
    output S. No gradient flows through X. The term ``densecrf`` is the loss that both this method and gradient descent
    (method ``densecrf``) minimise. With weight 0 it is only recorded, for comparison; it costs one call of the filter
    per step.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (7)-(10), section 4.2, Fig. 3.
    Differs: the paper sums over all pixels, labelled and unlabelled; here each term is a separate mean.
    """

    name: Literal["crf-adm"] = "crf-adm"
    summary: ClassVar[str] = "partial cross-entropy, then also cross-entropy to online CRF proposals"
    differs: ClassVar[str] = (
        "the pipeline gives adm the weight 0.1, the paper's equations give 1; its CRF is for images of about 100x130"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "adm", "densecrf"})
    uses_unlabelled: ClassVar[bool] = True
    multi_scale: ClassVar[bool] = True

    iterations: int = Field(default=10, ge=1)
    """Number of mean-field iterations. Published: 10."""
    clamp: bool = True
    """True, as in the paper: X equals the label on labelled pixels during the whole inference. False, as in public
    code: X is inferred there too."""
    divergence: Literal["ce", "kl"] = "ce"
    """``ce``: H(X, S), equation (7). ``kl``: KL(X || S), equation (10). Both have the same gradient."""
    sigma_rgb: float = Field(default=15.0, gt=0)
    """Colour standard deviation of the term ``densecrf``, 0-255 units, as in the method of that name."""
    sigma_xy: float = Field(default=100.0, gt=0)
    """Spatial standard deviation of the term ``densecrf`` in pixels."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        losses = {"pce": pce}
        if "adm" in terms:
            unlabelled = batch.valid & (batch.labels == UNLABELLED)
            proposals = self.proposals(logits, batch)
            losses["adm"] = proposal_loss(logits, proposals, mask=unlabelled, divergence=self.divergence)
        if "densecrf" in terms:
            losses["densecrf"] = dense_crf_loss(
                logits.softmax(1), batch.rgb, sigma_rgb=self.sigma_rgb, sigma_xy=self.sigma_xy, roi=batch.valid
            )
        return losses

    @torch.no_grad()
    def proposals(self, logits: Tensor, batch: Batch) -> Tensor:
        """Proposals X, (B,K,H,W), from the network's logits (B,K,H,W). On padding they are softmax(logits)."""
        scores = logits.detach()
        if self.clamp:
            # Scores of -inf for all other classes keep X at the label. Labelled pixels support it from the start.
            classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
            labels = batch.labels[:, None]
            scores = scores.masked_fill((labels != UNLABELLED) & (labels != classes), float("-inf"))
        settings: dict[str, Any] = {"iterations": self.iterations, **self.kernels()}
        # mean_field gives the same numbers, several times faster on a CPU. On a GPU, valid.all() would be a wait.
        if devices.on_host(batch.valid) and bool(batch.valid.all()):
            return mean_field(scores, batch.rgb, **settings)
        return differentiable_mean_field(scores, batch.rgb, roi=batch.valid, **settings).exp()
