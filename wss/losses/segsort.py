"""The SegSort+ loss: pixels are drawn to the segments that are like theirs, and away from the others."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wss.errors import UsageError
from wss.losses.mean import over_batch

LARGEST_CONCENTRATION = 40.0
"""Beyond it exp(-2 kappa), the weight of an opposite segment, is no float32."""
_ENTRIES = {"cpu": 2**20}
_ENTRIES_ELSEWHERE = 2**26
"""Similarities that exist at a time: as many as stay in a CPU's cache, or keep a GPU busy."""


def segsort_loss(
    embeddings: Tensor,
    prototypes: Tensor,
    own: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    concentration: float,
    alone: Literal["own", "skip"] = "own",
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """-log of the share of a pixel's positive segments, other than its own, among these and its negative segments.

    Segment t counts exp(kappa mu_t . e_i) for pixel i. What is positive or negative to a pixel depends on its segment only, hence
    two small matrices; a segment that is neither does not count. Segments may be a bank's, without pixels among these.

    Args:
        embeddings: e, float (N,C) of unit length. Half precision is computed in float32.
        prototypes: mu, float (T,C) of unit length: first the S segments of the pixels, then any others.
        own: int64 (N,), each pixel's segment, 0 to S - 1; -1 for pixels that do not count.
        positive: bool (S,T). A row without any True leaves out the segment's pixels.
        negative: bool (S,T); where both are True, positive counts.
        concentration: kappa, above 0 and at most 40.
        alone: Where no positive segment but the own one is left, the numerator is empty: ``own`` puts the own segment there,
            which is (2); ``skip`` leaves out the pixel.
        reduction: ``mean`` over the pixels that count, ``sum``, or ``none`` for all pixels (N,), 0 on those that do not count.

    Returns:
        A scalar, or (N,) for ``none``; at least float32. Where no pixel counts it is a differentiable 0.

    Raises:
        UsageError: Shapes, dtypes or options are unusable.

    Memory is bounded: similarities are computed in parts, and again for the gradient. Time is that of (pixels that count) x
    (segments that count for any).

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", (3).
    Differs: the paper does not say what (3) is without positive segments; ``own`` is what the authors' code does.
    """
    _check(embeddings, prototypes, own, positive, negative, concentration)
    if alone not in ("own", "skip") or reduction not in ("mean", "sum", "none"):
        raise UsageError(f"alone is own or skip, reduction mean, sum or none; got {alone!r} and {reduction!r}")
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, prototypes.dtype), torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        numerator, denominator = _sets(positive, negative, alone)
        # Most pixels and segments take no part in a relation of labels: finding out which costs less than computing them.
        pixels = ((own >= 0) & numerator.any(1)[own.clamp(min=0)]).nonzero()[:, 0] if len(positive) else own[:0]
        columns = denominator.any(0).nonzero()[:, 0]
        loss = _Contrast.apply(  # type: ignore[no-untyped-call]
            embeddings.to(dtype)[pixels],
            prototypes.to(dtype)[columns],
            own[pixels],
            numerator[:, columns].to(dtype),
            denominator[:, columns].to(dtype),
            concentration,
        )
        if reduction == "none":
            return embeddings.new_zeros(len(embeddings), dtype=dtype).index_put((pixels,), loss)
        total: Tensor = loss.sum()
        return total if reduction == "sum" else total / over_batch(len(pixels), total)


def _sets(positive: Tensor, negative: Tensor, alone: str) -> tuple[Tensor, Tensor]:
    """What is in numerator and denominator of (3), bool (S,T) both, by the segment of a pixel."""
    own = torch.eye(*positive.shape, dtype=torch.bool, device=positive.device)
    numerator = positive & ~own
    if alone == "own":
        numerator = numerator | (positive & own & ~numerator.any(1, keepdim=True))
    return numerator, (numerator | (negative & ~positive)) & numerator.any(1, keepdim=True)


class _Contrast(torch.autograd.Function):
    """(3) for each of n pixels, all of which have a positive segment; sets are 0 or 1 here, which is faster than bool."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        own: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        concentration: float,
    ) -> Tensor:
        sums = embeddings.new_empty(2, len(embeddings))
        for part in _parts(embeddings, prototypes):
            weights = _weights(embeddings[part], prototypes, concentration)
            for number, chosen in enumerate((numerator, denominator)):
                sums[number, part] = torch.linalg.vecdot(weights, chosen.index_select(0, own[part]))
        ctx.save_for_backward(embeddings, prototypes, own, numerator, denominator, sums)
        ctx.concentration = concentration
        return sums[1].log() - sums[0].log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        embeddings, prototypes, own, numerator, denominator, sums = ctx.saved_tensors
        scale = ctx.concentration * grads[0]
        to_embeddings = torch.empty_like(embeddings)
        to_prototypes = torch.zeros_like(prototypes)
        for part in _parts(embeddings, prototypes):
            # the gradient with respect to kappa mu . e: a segment's share of the denominator less that of the numerator
            share = denominator.index_select(0, own[part]).mul_((scale / sums[1])[part, None])
            share.addcmul_(numerator.index_select(0, own[part]), (scale / sums[0])[part, None], value=-1)
            share.mul_(_weights(embeddings[part], prototypes, ctx.concentration))
            to_embeddings[part] = share @ prototypes
            to_prototypes.addmm_(share.T, embeddings[part])
        return to_embeddings, to_prototypes, None, None, None, None


def _weights(embeddings: Tensor, prototypes: Tensor, concentration: float) -> Tensor:
    """exp(kappa (mu . e - 1)), at most 1."""
    return ((embeddings * concentration) @ prototypes.T).sub_(concentration).exp_()


def _parts(embeddings: Tensor, prototypes: Tensor) -> list[slice]:
    entries = _ENTRIES.get(embeddings.device.type, _ENTRIES_ELSEWHERE)
    size = max(1, entries // max(1, len(prototypes)))
    return [slice(start, start + size) for start in range(0, len(embeddings), size)]


def _check(
    embeddings: Tensor, prototypes: Tensor, own: Tensor, positive: Tensor, negative: Tensor, concentration: float
) -> None:
    if embeddings.ndim != 2 or prototypes.ndim != 2 or embeddings.shape[1] != prototypes.shape[1]:
        raise UsageError(
            f"embeddings must be (N,C) and prototypes (T,C); got {tuple(embeddings.shape)} and {tuple(prototypes.shape)}"
        )
    if own.dtype != torch.int64 or own.shape != embeddings.shape[:1]:
        raise UsageError(
            f"own must be int64 ({len(embeddings)},), a segment per pixel; got {own.dtype} {tuple(own.shape)}"
        )
    for relation in (positive, negative):
        if (
            relation.dtype != torch.bool
            or relation.ndim != 2
            or not len(relation) <= relation.shape[1] == len(prototypes)
        ):
            raise UsageError(
                f"positive and negative must be bool (S,{len(prototypes)}) with S at most {len(prototypes)}; got "
                f"{relation.dtype} {tuple(relation.shape)}"
            )
    if positive.shape != negative.shape:
        raise UsageError(f"positive and negative differ in shape: {tuple(positive.shape)}, {tuple(negative.shape)}")
    if not 0 < concentration <= LARGEST_CONCENTRATION:
        raise UsageError(f"concentration must be above 0 and at most {LARGEST_CONCENTRATION:g}; got {concentration}")
