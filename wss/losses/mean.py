"""Means over a batch that may be distributed over several processes."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.distributed import all_reduce_sum


def mean_over_batch(values: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean of values over the batch. With several processes: the part of that mean that this process contributes.

    The contributions of all processes sum to the mean over the whole batch. The average of the processes' own means
    would be wrong, because the processes have different numbers of labelled pixels.

    Args:
        values: Values of any shape, one for each pixel, row or image of this process.
        counted: bool like values, True for values that count. None counts all.

    Returns:
        A scalar. If nothing counts, it is a differentiable 0.
    """
    if counted is None:
        return values.sum() / over_batch(values.numel(), values)
    return values.where(counted, 0).sum() / all_reduce_sum(counted.sum()).clamp(min=1)


def over_batch(number: int, like: Tensor) -> Tensor:
    """Sum of ``number`` over all processes, at least 1: an int64 scalar on the device of ``like``."""
    return all_reduce_sum(torch.full((), number, device=like.device)).clamp(min=1)
