"""Dropout whose noise does not depend on the number of processes that share a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.distributed import is_sharded, random_shard


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``. If several processes share a batch, each uses its part of the noise for the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop values of features (B,...)."""
        if not (self.training and self.p and is_sharded()):
            return super().forward(input)
        return input * random_shard(lambda count: functional.dropout(_ones(input, count), self.p), len(input))


class Dropout2d(nn.Dropout2d):
    """``torch.nn.Dropout2d``. If processes share a batch, each uses its part of the noise for the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels of features (B,C,H,W)."""
        if not (self.training and self.p and is_sharded()):
            return super().forward(input)
        return input * random_shard(lambda count: functional.dropout2d(_ones(input, count), self.p), len(input))


def _ones(like: Tensor, count: int) -> Tensor:
    """Ones for ``count`` images in the memory layout of ``like``, because noise is drawn in memory order."""
    last = like.ndim == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return torch.ones((count, *like.shape[1:]), dtype=like.dtype, device=like.device).contiguous(memory_format=order)
