"""The expansion loss: tagged classes should cover a part of the image, absent classes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch

SEC_MAP_PX = 41 * 41
"""Number of pixels of the maps for which the decays are published."""

_FLOOR = 1e-6


def expansion_loss(
    probs: Tensor,
    tags: Tensor,
    *,
    background: int | None = 0,
    present_decay: float = 0.996,
    absent_decay: float = 0.0,
    background_decay: float = 0.999,
    map_px: int | None = SEC_MAP_PX,
    roi: Tensor | None = None,
) -> Tensor:
    """Tie the share of an image that each class covers to the image's tags, by global weighted rank-pooling.

    Let S_(j),c be the scores of class c in descending order. Their weighted mean is G_c(d) = sum_j d^(j-1) S_(j),c /
    sum_j d^(j-1). It is the maximum for d = 0 and the mean for d = 1. The loss of an image is the sum of three terms:
    -mean log G_c(d+) over its classes, -mean log(1 - G_c(d-)) over the absent classes, and -log G(d_bg) for the
    background if it is tagged.

    Args:
        probs: S, float (B,K,H,W), in 0..1. Half precision is computed in float32.
        tags: bool (B,K), True where the class is in the image.
        background: Index of the background class, or None.
        present_decay: d+ of tagged classes, in 0..1. A larger value asks for a larger area.
        absent_decay: d- of absent classes, in 0..1.
        background_decay: d_bg of the background, in 0..1.
        map_px: Number of pixels for which the decays are defined. In an image of N pixels the exponent is
            (j - 1) map_px / N, so a decay asks for the same share of the image at any resolution. None uses j - 1.
        roi: bool (B,H,W), True on pixels that count. None counts all pixels.

    Returns:
        A scalar, the mean over the images that have a pixel in ``roi``. Without such an image it is a differentiable 0.

    Raises:
        UsageError: Shapes disagree, or a decay is not in 0..1.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098, (3) and (4).
    Differs: decays refer to a share of the image (``map_px``). In the logarithms, scores are kept at least 1e-6 away
        from 0 and 1; the authors keep S above 1e-4.
    """
    if probs.ndim != 4 or tags.shape != probs.shape[:2] or tags.dtype != torch.bool:
        raise UsageError(
            f"probs (B,K,H,W) and bool tags (B,K) must agree; got {tuple(probs.shape)} and {tags.dtype} {tuple(tags.shape)}"
        )
    if roi is not None and (roi.shape != (probs.shape[0], *probs.shape[2:]) or roi.dtype != torch.bool):
        raise UsageError(f"roi must be bool (B,H,W) like probs; got {roi.dtype} {tuple(roi.shape)}")
    for decay in (present_decay, absent_decay, background_decay):
        if not 0 <= decay <= 1:
            raise UsageError(f"decays are in 0..1; got {decay}")
    wide = probs.float() if probs.dtype in (torch.float16, torch.bfloat16) else probs
    inside = torch.ones_like(wide[:, 0], dtype=torch.bool) if roi is None else roi
    ranked = wide.masked_fill(~inside[:, None], -1).flatten(2).sort(2, descending=True).values
    counts = inside.flatten(1).sum(1)

    def log_pooled(decay: float, of_rest: bool = False) -> Tensor:
        pooled = (ranked * _weights(decay, counts, ranked.shape[2], map_px).to(wide.dtype)[:, None]).sum(2)
        return ((1 - pooled if of_rest else pooled) * (1 - 2 * _FLOOR) + _FLOOR).log()

    foreground = torch.ones_like(tags)
    loss = torch.zeros_like(wide[:, 0, 0, 0])
    if background is not None:
        foreground[:, background] = False
        loss = loss - log_pooled(background_decay)[:, background] * tags[:, background]
    present, absent = tags & foreground, ~tags & foreground
    loss = loss - (log_pooled(present_decay) * present).sum(1) / present.sum(1).clamp(min=1)
    loss = loss - (log_pooled(absent_decay, of_rest=True) * absent).sum(1) / absent.sum(1).clamp(min=1)
    return mean_over_batch(loss, counts > 0)


def _weights(decay: float, counts: Tensor, size: int, map_px: int | None) -> Tensor:
    """Weights of the ranks, float64 (B,N). They sum to 1 over the first ``counts`` ranks and are 0 after them."""
    ranks = torch.arange(size, dtype=torch.float64, device=counts.device)
    unit = torch.ones_like(counts, dtype=torch.float64) if map_px is None else map_px / counts.clamp(min=1).double()
    weights = decay ** (ranks * unit[:, None]) * (ranks < counts[:, None])
    return weights / weights.sum(1, keepdim=True).clamp(min=1)
