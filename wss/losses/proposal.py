"""The proposal loss: cross-entropy or divergence between the network's output and soft proposals."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch

Divergence = Literal["ce", "kl"]


def proposal_loss(
    logits: Tensor, proposals: Tensor, *, mask: Tensor | None = None, divergence: Divergence = "ce"
) -> Tensor:
    """Mean over pixels of H(X, S) or KL(X || S), with proposals X and S = softmax(logits).

    KL(X || S) = H(X, S) - H(X), and X receives no gradient. Both therefore have the same gradient, S - X per pixel. The
    value of KL is 0 where the network and the proposal agree.

    Args:
        logits: Scores before softmax, float (B,K,H,W). Half precision is computed in float32.
        proposals: X, float (B,K,H,W), in 0..1 and summing to 1 over K.
        mask: bool (B,H,W), True on pixels that count. None counts all pixels.
        divergence: ``ce`` or ``kl``.

    Returns:
        A scalar. If the mask is empty, it is a differentiable 0.

    Raises:
        UsageError: Shapes disagree or the divergence is unknown.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", second terms of (7) and (10).
    Differs: the paper sums over pixels. The mean makes the learning rate independent of their number.
    """
    if logits.ndim != 4 or proposals.shape != logits.shape:
        raise UsageError(
            f"logits and proposals must both be (B,K,H,W); got {tuple(logits.shape)} and {tuple(proposals.shape)}"
        )
    if mask is not None and (mask.shape != (logits.shape[0], *logits.shape[2:]) or mask.dtype != torch.bool):
        raise UsageError(f"mask must be bool (B,H,W) like logits; got {mask.dtype} {tuple(mask.shape)}")
    if divergence not in ("ce", "kl"):
        raise UsageError(f"divergence is ce or kl; got {divergence!r}")
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    fixed = proposals.detach().to(wide.dtype)
    loss = -(fixed * wide.log_softmax(1)).sum(1)
    if divergence == "kl":
        loss = loss + torch.xlogy(fixed, fixed).sum(1)
    return mean_over_batch(loss, mask)
