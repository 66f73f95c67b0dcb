"""Label maps, ids and masks on the coarser grid on which some methods compute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def coarse_labels(labels: Tensor, stride: int, num_classes: int) -> Tensor:
    """Labels on a grid of ``stride`` pixels a side: the class with the most labelled pixels of a cell (the lower of equals), or
    255 where none is labelled, so that no stroke is too thin to stay.

    Args:
        labels: int64 (B,H,W), 255 = unlabelled.
        stride: Side of a cell.
        num_classes: K.

    Returns:
        int64 (B,ceil(H/stride),ceil(W/stride)).
    """
    if stride == 1:
        return labels
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    share, label = cell_means((labels[:, None] == classes).float(), stride).max(1)
    return torch.where(share > 0, label, 255)


def cell_means(maps: Tensor, stride: int) -> Tensor:
    """Means of maps (B,...,H,W) over cells, those at the margin as if what lies beyond were 0."""
    height, width = maps.shape[-2:]
    padded = functional.pad(maps, (0, -width % stride, 0, -height % stride))
    return functional.avg_pool2d(padded, stride)


def cell_centres(maps: Tensor, stride: int) -> Tensor:
    """Values of maps (B,...,H,W) at the centres of cells, below and right of the middle where that is between pixels."""
    rows, columns = (
        torch.arange(stride // 2, side + stride // 2, stride, device=maps.device).clamp(max=side - 1)
        for side in maps.shape[-2:]
    )
    return maps[..., rows[:, None], columns]
