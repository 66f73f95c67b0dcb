"""The absent-class penalty: classes that an image does not show should be predicted nowhere in it."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def absent_class_loss(logits: Tensor, present: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean over pixels of the sum over absent classes c of -log(1 - p_c).

    An image of which no class is known to be present has no absent ones either: its pixels do not count.

    Args:
        logits: Before softmax, float (B,K,H,W). Half precision is computed in float32.
        present: bool (B,K), the classes in each image.
        valid: bool (B,H,W), pixels that count, so that padding does not; None is all.

    Returns:
        A scalar, finite also where an absent class has nearly all probability. Where nothing counts it is a differentiable 0.

    Raises:
        UsageError: Shapes disagree.

    Source: Bearman et al. 2016, "What's the Point: Semantic Segmentation with Point Supervision", arXiv:1506.02106, second term
        of (2).
    Differs: the paper has one pixel for each absent class, where the class is most probable; here all pixels count.
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

    Where p is at most 1/2, that is log1p(-p). Only the most probable class can have more: the others' probabilities are summed
    for it, because 1 - p would be rounded to 0.
    """
    first = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), True)
    total = logits.logsumexp(1, keepdim=True)
    others = logits.masked_fill(first, -torch.inf).logsumexp(1, keepdim=True)
    probs = (logits - total).exp().masked_fill(first, 0)
    return torch.where(first, others - total, torch.log1p(-probs))
