"""Batch normalisation that can be held at its stored statistics."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

Self = TypeVar("Self", bound="BatchNorm2d")


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the same parameters and state dict, and two additions.

    While ``frozen`` is True the module normalises with its stored statistics and leaves them alone, whatever
    ``train()`` says; scale and shift still learn unless they need no gradient. And where a batch holds a single value
    per channel (one image whose feature map is 1x1), from which no variance can be estimated, the stored statistics are
    used instead of failing.
    """

    frozen: bool = False

    def train(self: Self, mode: bool = True) -> Self:
        """Enter training mode unless frozen."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features (B,C,H,W)."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        output: Tensor = super().forward(input)
        return output
