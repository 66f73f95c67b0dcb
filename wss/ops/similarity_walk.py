"""Random walks between all pixels of an image that look alike to an embedding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError

_ENTRIES = {"cpu": 2**17}
_ENTRIES_ELSEWHERE = 2**24
"""Entries of T that exist at a time: as many as stay in a CPU's cache, or keep a GPU busy."""
_LEAST = {torch.float32: -80.0, torch.float64: -700.0}
"""Exponents below are raised to it."""


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

    ``after``: T_ij = exp(gamma beta e_i'e_j) / sum_i exp(gamma beta e_i'e_j), so that a pixel gets the weighted mean of all.
    ``before``, as the paper prints it: T_ij = (exp(gamma e_i'e_j) / sum_j exp(gamma e_i'e_j))^beta. A pixel that is like few
    others has a small sum, and its power lets it overrule all the rest: within six steps a few odd pixels decide the whole image.
    The entries leave the range of floating point, and only the order of the classes within a pixel matters: each pixel's scores
    are kept as shares with a logarithmic scale, which gives the product exactly.

    Neither T nor a power of it is ever kept: blocks of its columns are made anew for each step, in memory that grows with the
    number of pixels, not with its square.

    Args:
        embeddings: float (B,C,H,W), unit length over C.
        probs: float (B,K,H,W), at least 0; probabilities or activations.
        gamma: Sharpness of the similarities, above 0.
        beta: Power, above 0. A large one keeps walks between pixels that are nearly alike.
        steps: At least 0. 64 for the six squarings of T in the authors' code.
        normalised: Whether the sum is divided by after or before raising to ``beta``.

    Returns:
        (B,K,H,W) of the dtype of ``probs``, summing to 1 over K, or 0 where nothing arrives.

    Raises:
        UsageError: Shapes, devices or options are unusable.

    Source: Ke, Hwang, Yu 2021, appendix A.4, and Ahn, Kwak 2018, "Learning Pixel-level Semantic Affinity", section 3.3, on which
        it builds and where the power comes first, too.
    Differs: the default, ``after``, is not what the paper prints but what its authors' code does, which takes the 64th power.
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
    """The mean of values over all pixels i, weighted with exp(sharpness e_i'e_j + bias_i), for every pixel j.

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
        if bias is None:  # no exponent is above that of a pixel with itself
            exponents = (block @ scaled).sub_(sharpness)
            most = torch.full_like(exponents[..., 0], sharpness)
        else:
            exponents = torch.baddbmm(bias[:, None], block, scaled)
            most = exponents.amax(2)
            exponents -= most[..., None]
        # Exponentials that are no normal numbers take ten times as long, and do not count beside the largest.
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
