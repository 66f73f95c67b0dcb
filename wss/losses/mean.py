"""Means over a batch, of which several processes may each hold a part."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.distributed import whole


def mean_over_batch(values: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean of values (...) over the batch; where this process holds a part of it, the part's share of that mean.

    Shares add up to the mean, which a mean of the processes' own means is not: they have different numbers of labelled pixels.

    Args:
        values: One for each pixel, row or image of this process.
        counted: bool like values, those that count; None is all.

    Returns:
        A scalar. Where nothing counts it is a differentiable 0.
    """
    if counted is None:
        return values.sum() / over_batch(values.numel(), values)
    return values.where(counted, 0).sum() / whole(counted.sum()).clamp(min=1)


def over_batch(number: int, like: Tensor) -> Tensor:
    """A number that this process counts, summed over the whole batch: int64, on the device of ``like``, at least 1."""
    return whole(torch.full((), number, device=like.device)).clamp(min=1)
