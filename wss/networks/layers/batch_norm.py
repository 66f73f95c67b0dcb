"""Batch normalisation that can be frozen, and whose statistics are shared by all processes."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from wss.distributed import all_gather, all_reduce_sum, is_sharded

Self = TypeVar("Self", bound="BatchNorm2d")


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the same parameters and state dict, and three additions.

    If ``frozen`` is True, the module uses its stored statistics and does not update them, even after ``train()``. Scale
    and shift are still trained unless they need no gradient. If a batch has a single value per channel (one image with
    a 1x1 feature map), no variance can be estimated; then the stored statistics are used instead of an error. If
    several processes hold parts of a batch, the statistics are those of the whole batch.
    """

    frozen: bool = False

    def train(self: Self, mode: bool = True) -> Self:
        """Enter training mode unless frozen."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features (B,C,H,W)."""
        if self.training and is_sharded():
            return self._of_whole_batch(input)
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        output: Tensor = super().forward(input)
        return output

    def _of_whole_batch(self, input: Tensor) -> Tensor:
        mean, variance, count = _statistics(input.detach())
        with torch.no_grad():
            # only batch normalisation keeps running statistics
            for kept, current in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
                if kept is not None and self.momentum is not None:
                    kept.lerp_(current.to(kept.dtype), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        output: Tensor = _Normalise.apply(input, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-untyped-call]
        return output


def _statistics(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of the channels over the whole batch, and the number of values per channel."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
    number = torch.full_like(mean[:1], wide.numel() / wide.shape[1])
    # Merge the variances of the parts: a sum of squares minus the square of the sum would lose precision.
    parts = all_gather(torch.cat([mean, variance, number]))
    means, variances, numbers = torch.split(parts, [len(mean), len(mean), 1], 1)
    count = numbers.sum()
    mean = (means * numbers).sum(0) / count
    variance = ((variances + (means - mean).square()) * numbers).sum(0) / count
    return mean, variance, count


class _Normalise(torch.autograd.Function):
    """Normalisation whose statistics depend on the features of all processes; the gradient accounts for that."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(features, weight, mean, variance, count)
        ctx.eps = eps
        return functional.batch_norm(features, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance, count = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        gradient = grads[0].to(mean.dtype)
        normalised = (features.to(mean.dtype) - _spread(mean)) * _spread(inverse)
        to_weight = (gradient * normalised).sum((0, 2, 3))
        to_bias = gradient.sum((0, 2, 3))
        along, shift = (all_reduce_sum(torch.stack([to_weight, to_bias])) / count).unbind()
        change = gradient - _spread(shift) - normalised * _spread(along)
        to_features = (change * _spread(inverse * weight)).to(features.dtype)
        return to_features, to_weight.to(weight.dtype), to_bias.to(weight.dtype), None, None, None, None


def _spread(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)
