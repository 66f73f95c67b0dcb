"""Random walks between pixels with similar embeddings, over the whole image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError

_ENTRIES = {"cpu": 2**17}
_ENTRIES_ELSEWHERE = 2**24
"""Number of entries of T in memory at a time: few enough for a CPU's cache, enough to keep a GPU busy."""
_LEAST = {torch.float32: -80.0, torch.float64: -700.0}
"""Smallest exponent; smaller exponents are clamped to it."""


@torch.no_grad()
def similarity_walk(
    embeddings: Tensor,
    probs: Tensor,
    *,
    gamma: float = 5.0,
    beta: float = 20.0,
    steps: int = 6,
    normalised: Literal["before", "after"] = "after",
) -> Tensor:
    """Spread class scores to similar pixels: M <- T' M, ``steps`` times, with T from the embeddings e of the pixels.

    ``after``: T_ij = exp(gamma beta e_i'e_j) / sum_i exp(gamma beta e_i'e_j). Each pixel gets a weighted mean over all
    pixels. ``before``, as printed in the paper: T_ij = (exp(gamma e_i'e_j) / sum_j exp(gamma e_i'e_j))^beta. A pixel
    that is similar to few others has a small sum. Raised to the power, it overrules all others: after six steps a few
    unusual pixels decide the whole image. The entries exceed the range of floating point. Only the ratio of the classes
    within a pixel matters, so the scores of each pixel are kept as shares with a logarithmic scale, which gives the
    exact product.

    Neither T nor a power of it is stored. Each step recomputes blocks of its columns, so the memory grows with the
    number of pixels, not with its square.

    Args:
        embeddings: float (B,C,H,W) of unit length over C.
        probs: float (B,K,H,W), at least 0: probabilities or activations.
        gamma: Sharpness of the similarities, above 0. A larger value restricts walks to more similar pixels.
        beta: Power, above 0. A larger value restricts walks to more similar pixels.
        steps: Number of steps, at least 0. The six squarings of T in the authors' code are 64 steps.
        normalised: Normalisation of T ``before`` or ``after`` raising to the power ``beta``, see above.

    Returns:
        (B,K,H,W) of the dtype of ``probs``, summing to 1 over K; 0 for pixels that no score reaches.

    Raises:
        UsageError: Shapes, devices or options are unusable.

    Source: Ke, Hwang, Yu 2021, appendix A.4. It builds on Ahn, Kwak 2018, "Learning Pixel-level Semantic Affinity",
        section 3.3, where the power also comes before the normalisation.
    Differs: the paper prints ``before``. The default ``after`` is that of the authors' code, which takes the 64th power
        of T.
    """
    _check(embeddings, probs, gamma, beta, steps, normalised)
    wide = torch.float64 if torch.float64 in (embeddings.dtype, probs.dtype) else torch.float32
    tiny = torch.finfo(wide).tiny
    with torch.autocast(embeddings.device.type, enabled=False):
        points = embeddings.to(wide).flatten(2)
        scores = probs.to(wide).flatten(2)
        if normalised == "after":
            for _ in range(steps):
                scores, _ = _average(points, gamma * beta, None, scores)
        else:
            # Pixel i holds exp(scale_i) times its scores, and T_ij = exp(gamma beta e_i'e_j - loss_i).
            loss = beta * _average(points, gamma, None, scores)[1]
            scale = torch.zeros_like(loss)
            for _ in range(steps):
                scores, scale = _average(points, gamma * beta, scale - loss, scores)
                total = scores.sum(1).clamp(min=tiny)
                scores, scale = scores / total[:, None], scale + total.log()
                scale = scale - scale.amax(1, keepdim=True)
        scores = scores / scores.sum(1, keepdim=True).clamp(min=tiny)
    return scores.reshape(probs.shape).to(probs.dtype)


def _average(points: Tensor, sharpness: float, bias: Tensor | None, values: Tensor) -> tuple[Tensor, Tensor]:
    """For every pixel j the mean of values over all pixels i, with weights exp(sharpness e_i'e_j + bias_i).

    Args:
        points: e, (B,C,N).
        sharpness: At least 0.
        bias: (B,N), or None for 0.
        values: (B,K,N).

    Returns:
        The means (B,K,N), and the logarithms of the sums of the weights (B,N).
    """
    scaled = sharpness * points
    counted = torch.cat([values, torch.ones_like(values[:, :1])], 1)
    means, logs = [], []
    size = max(1, _ENTRIES.get(points.device.type, _ENTRIES_ELSEWHERE) // max(1, points.shape[0] * points.shape[2]))
    for start in range(0, points.shape[2], size):
        block = points[..., start : start + size].transpose(1, 2)
        if bias is None:  # the largest exponent is that of a pixel with itself
            exponents = (block @ scaled).sub_(sharpness)
            most = torch.full_like(exponents[..., 0], sharpness)
        else:
            exponents = torch.baddbmm(bias[:, None], block, scaled)
            most = exponents.amax(2)
            exponents -= most[..., None]
        # Subnormal results of exp take ten times as long, and are negligible relative to the largest.
        weights = exponents.clamp_(min=_LEAST[points.dtype]).exp_()
        sums = counted @ weights.transpose(1, 2)
        means.append(sums[:, :-1] / sums[:, -1:])
        logs.append(most + sums[:, -1].log())
    return torch.cat(means, 2), torch.cat(logs, 1)


def _check(embeddings: Tensor, probs: Tensor, gamma: float, beta: float, steps: int, normalised: str) -> None:
    sizes = [tuple(x.shape) for x in (embeddings, probs)]
    if embeddings.ndim != 4 or probs.ndim != 4 or sizes[0][:1] + sizes[0][2:] != sizes[1][:1] + sizes[1][2:]:
        raise UsageError(
            f"embeddings and probs must be (B,C,H,W) and (B,K,H,W) of one size; got {sizes[0]} and {sizes[1]}"
        )
    if not (embeddings.is_floating_point() and probs.is_floating_point()) or embeddings.device != probs.device:
        raise UsageError(
            "embeddings and probs must be floating point on one device; "
            f"got {embeddings.dtype} on {embeddings.device} and {probs.dtype} on {probs.device}"
        )
    if not 0 < gamma < float("inf") or not 0 < beta < float("inf") or steps < 0:
        raise UsageError(f"gamma and beta must be above 0, steps at least 0; got {gamma}, {beta} and {steps}")
    if normalised not in ("before", "after"):
        raise UsageError(f"normalised is 'before' or 'after'; got {normalised!r}")
