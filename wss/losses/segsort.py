"""The SegSort+ contrastive loss: pulls pixels towards their positive segments and away from negative segments."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wss import devices
from wss.distributed import all_reduce_sum
from wss.errors import UsageError
from wss.losses.mean import over_batch

LARGEST_CONCENTRATION = 40.0
"""Largest allowed kappa. From about 44 on, the weight of an opposite segment, exp(-2 kappa), is not a normal
float32."""
_ENTRIES = {"cpu": 2**20}
_ENTRIES_ELSEWHERE = 2**26
"""Number of similarities computed at a time: few enough for a CPU's cache, enough to keep a GPU busy."""


def segsort_loss(
    embeddings: Tensor,
    prototypes: Tensor,
    own: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    concentration: float,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """-log of the ratio (positive segments) / (positive and negative segments), over pixels.

    For pixel i, segment t has the weight exp(kappa mu_t . e_i). The pixel's own segment is left out of both sums. If
    it is the only positive segment, it is put into both sums, as in (2). The segment of a pixel decides which segments
    are positive or negative for it, so two small matrices are enough. A segment that is neither is ignored. Segments
    may come from a memory bank and have no pixels here.

    Args:
        embeddings: e, float (N,C) of unit length. Half precision is computed in float32.
        prototypes: mu, float (T,C) of unit length: first the S segments of the pixels, then any other segments.
        own: int64 (N,), the segment of each pixel, 0 to S - 1; -1 for pixels that do not count.
        positive: bool (S,T), True where segment t is positive for the pixels of segment s. Pixels of a segment without
            any positive segment are left out.
        negative: bool (S,T), the same for negative segments. Where both matrices are True, the segment is positive.
        concentration: kappa, above 0 and at most 40. Larger values give near segments more weight.
        reduction: ``mean`` or ``sum`` over the pixels that count, or ``none`` for values (N,), 0 for pixels that do not
            count.

    Returns:
        A scalar, or (N,) for ``none``; at least float32. Where no pixel counts it is a differentiable 0.

    Raises:
        UsageError: Shapes, dtypes or options are unusable.

    Memory is bounded, because similarities are computed in parts. The gradient is computed in the same pass; for
    ``none`` a second pass computes it. The time is proportional to (pixels that count) x (segments that count for a
    part).

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", (3).
    Differs: the paper does not define (3) for a pixel whose only positive segment is its own. The rule above is that
    of the authors' code.
    """
    _check(embeddings, prototypes, own, positive, negative, concentration)
    if reduction not in ("mean", "sum", "none"):
        raise UsageError(f"reduction is mean, sum or none; got {reduction!r}")
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, prototypes.dtype), torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        numerator, denominator = _sets(positive, negative)
        count = len(embeddings)
        if not len(positive):
            embeddings, own = embeddings[:0], own[:0]
        place = own.clamp(min=0)
        counted = (own >= 0) & numerator.any(1)[place]
        case = embeddings.to(dtype), prototypes.to(dtype), place, numerator, denominator
        if not devices.on_host(own):
            # On a GPU it is faster to compute all pixels than to tell the host which of them count.
            loss = _Contrast.apply(*case, counted, concentration, reduction != "none")  # type: ignore[no-untyped-call]
            if reduction == "none":
                return loss if len(loss) == count else embeddings.new_zeros(count, dtype=dtype)
            return loss if reduction == "sum" else loss / all_reduce_sum(counted.sum()).clamp(min=1)  # type: ignore[no-any-return]
        # In a relation of labels most pixels and segments do not count: selecting them first is cheaper.
        pixels, columns = counted.nonzero()[:, 0], denominator.any(0).nonzero()[:, 0]
        loss = _Contrast.apply(  # type: ignore[no-untyped-call]
            case[0][pixels],
            case[1][columns],
            place[pixels],
            numerator[:, columns],
            denominator[:, columns],
            None,
            concentration,
            reduction != "none",
        )
        if reduction == "none":
            return embeddings.new_zeros(count, dtype=dtype).index_put((pixels,), loss)
        total: Tensor = loss
        return total if reduction == "sum" else total / over_batch(len(pixels), total)


def _sets(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Segments in the numerator and in the denominator of (3): two bool (S,T), one row per segment of the pixels."""
    own = torch.eye(*positive.shape, dtype=torch.bool, device=positive.device)
    numerator = positive & ~own
    numerator = numerator | (positive & own & ~numerator.any(1, keepdim=True))
    return numerator, (numerator | (negative & ~positive)) & numerator.any(1, keepdim=True)


class _Contrast(torch.autograd.Function):
    """Equation (3) for each of n pixels, or its sum. If ``counted`` is None, all pixels have a positive segment."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        own: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        counted: Tensor | None,
        concentration: float,
        summed: bool,
    ) -> Tensor:
        case = (embeddings, prototypes, own, numerator, denominator)
        # The gradient of the sum can be computed now. Gradients of single pixels depend on the incoming gradient.
        scale = embeddings.new_ones(len(embeddings)) if summed and any(ctx.needs_input_grad) else None
        loss, *gradients = _contrast(case, counted, concentration, scale)
        ctx.save_for_backward(*(gradients if summed else (*case, counted)))
        ctx.concentration = None if summed else concentration
        return loss.sum() if summed else loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        if ctx.concentration is None:
            to_embeddings, to_prototypes = (grads[0] * gradient for gradient in ctx.saved_tensors)
        else:
            *case, counted = ctx.saved_tensors
            _, to_embeddings, to_prototypes = _contrast(tuple(case), counted, ctx.concentration, grads[0])
        return to_embeddings, to_prototypes, None, None, None, None, None, None


def _contrast(
    case: tuple[Tensor, ...], counted: Tensor | None, concentration: float, scale: Tensor | None
) -> tuple[Tensor, ...]:
    """Losses (n,) and, unless ``scale`` is None, the gradients of sum(scale * losses); scale is (n,)."""
    embeddings, prototypes, own, numerator, denominator = case
    loss = embeddings.new_empty(len(embeddings))
    to_embeddings, to_prototypes = torch.empty_like(embeddings), torch.zeros_like(prototypes)
    chosen = [sets.to(embeddings.dtype) for sets in (numerator, denominator)]  # 0 or 1, which is faster than bool
    for part, columns in _parts(own, denominator, embeddings.device.type):
        pixels, segments = embeddings[part], prototypes[columns]
        weights = (pixels * concentration) @ segments.T
        weights.sub_(concentration).exp_()  # at most 1
        above, below = (sets[:, columns].index_select(0, own[part]) for sets in chosen)
        top, bottom = torch.linalg.vecdot(weights, above), torch.linalg.vecdot(weights, below)
        if counted is not None:  # other pixels get log 1 - log 1 = 0
            top, bottom = top.where(counted[part], 1), bottom.where(counted[part], 1)
        loss[part] = bottom.log() - top.log()
        if scale is not None:
            # Gradient with respect to kappa mu . e: the segment's share of the denominator minus that of the numerator.
            factor = concentration * scale[part]
            if counted is not None:
                factor = factor.where(counted[part], 0)
            share = below.mul_((factor / bottom)[:, None])
            share.addcmul_(above, (factor / top)[:, None], value=-1).mul_(weights)
            to_embeddings[part] = share @ segments
            to_prototypes[columns].addmm_(share.T, pixels)
    return (loss,) if scale is None else (loss, to_embeddings, to_prototypes)


def _parts(own: Tensor, denominator: Tensor, device: str) -> list[tuple[slice, slice]]:
    """Slices of pixels that are computed together, each with the range of segments that count for any of them.

    Pixels and segments of an image are adjacent, so a relation within images has narrow ranges.
    """
    count, total = len(own), denominator.shape[1]
    size = max(1, _ENTRIES.get(device, _ENTRIES_ELSEWHERE) // max(1, total))
    starts = range(0, count, size)
    if len(starts) < 2 or not devices.on_host(own):
        return [(slice(i, i + size), slice(0, total)) for i in starts]
    place = torch.arange(total, dtype=torch.int32, device=own.device)
    first = torch.where(denominator, place, total).amin(1)[own]
    last = torch.where(denominator, place, -1).amax(1)[own]
    ends = [torch.stack([first[i : i + size].min(), last[i : i + size].max() + 1]) for i in starts]
    ranges = torch.stack(ends).tolist()
    return [(slice(i, i + size), slice(*columns)) for i, columns in zip(starts, ranges, strict=True)]


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
