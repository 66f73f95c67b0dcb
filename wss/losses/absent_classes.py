"""The absent-class penalty: classes that an image does not show should be predicted nowhere in it."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def absent_class_loss(logits: Tensor, present: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean over pixels of the sum over absent classes c of -log(1 - p_c).

    In an image without any known class, no class counts as absent: its pixels are left out of the mean.

    Args:
        logits: Before softmax, float (B,K,H,W). Half precision is computed in float32.
        present: bool (B,K), True for the classes that are in the image.
        valid: bool (B,H,W), True on pixels that count, False on padding. None counts all pixels.

    Returns:
        A scalar. It is finite even if an absent class has nearly all the probability. If no pixel counts, it is a
        differentiable 0.

    Raises:
        UsageError: Shapes disagree.

    Source: Bearman et al. 2016, "What's the Point: Semantic Segmentation with Point Supervision", arXiv:1506.02106, second term
        of (2).
    Differs: the paper takes one pixel per absent class, the one where the class is most probable. Here all pixels
        count.
    """
    if logits.ndim != 4:
        raise UsageError(f"logits must be (B,K,H,W); got {tuple(logits.shape)}")
    if present.shape != logits.shape[:2] or present.dtype != torch.bool:
        raise UsageError(f"present must be bool {tuple(logits.shape[:2])}; got {present.dtype} {tuple(present.shape)}")
    expected = (logits.shape[0], *logits.shape[2:])
    if valid is not None and (valid.shape != expected or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {expected}; got {valid.dtype} {tuple(valid.shape)}")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counted = present.any(1)[:, None, None].expand(expected)
    if valid is not None:
        counted = counted & valid
    if logits.shape[1] == 1:  # the only class is present, or nothing is known
        return mean_over_batch(wide[:, 0] * 0, counted)
    absent = ~present[:, :, None, None]
    return mean_over_batch(-_log_of_the_others(wide).where(absent, 0).sum(1), counted)


def _log_of_the_others(logits: Tensor) -> Tensor:
    """log(1 - p) of each class, (B,K,H,W), K >= 2.

    The most probable class may have p > 1/2, where 1 - p can be rounded to 0. For it, the probabilities of the other
    classes are summed instead. All other classes have p <= 1/2 and use log1p(-p).
    """
    first = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), True)
    total = logits.logsumexp(1, keepdim=True)
    others = logits.masked_fill(first, -torch.inf).logsumexp(1, keepdim=True)
    probs = (logits - total).exp().masked_fill(first, 0)
    return torch.where(first, others - total, torch.log1p(-probs))
