"""Label maps, ids and masks on the coarse grid of some methods: one cell for ``stride`` x ``stride`` pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wss.labels import UNLABELLED


def coarse_labels(labels: Tensor, stride: int, num_classes: int) -> Tensor:
    """Label of each cell: the most frequent label among its labelled pixels, or 255 if it has none.

    If several classes are equally frequent, the lowest index wins. Unlabelled pixels do not vote, so thin strokes
    remain.

    Args:
        labels: int64 (B,H,W), 255 = unlabelled.
        stride: Side of a cell in pixels.
        num_classes: K.

    Returns:
        int64 (B,ceil(H/stride),ceil(W/stride)).
    """
    if stride == 1:
        return labels
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    share, label = cell_means((labels[:, None] == classes).float(), stride).max(1)
    return torch.where(share > 0, label, UNLABELLED)


def cell_means(maps: Tensor, stride: int, padding: Literal["zeros", "replicate"] = "zeros") -> Tensor:
    """Means of maps over cells.

    Args:
        maps: (B,...,H,W).
        stride: Side of a cell in pixels.
        padding: Values beyond the margin, in cells that are not wholly inside: 0, or those of the last row and column
            (only for maps (B,C,H,W)).

    Returns:
        (B,...,ceil(H/stride),ceil(W/stride)).
    """
    height, width = maps.shape[-2:]
    margin = (0, -width % stride, 0, -height % stride)
    padded = functional.pad(maps, margin, mode="constant" if padding == "zeros" else padding)
    return functional.avg_pool2d(padded, stride)


def cell_centres(maps: Tensor, stride: int) -> Tensor:
    """Values of maps (B,...,H,W) at the centres of cells; for even sides, the pixel below and right of the centre."""
    rows, columns = (
        torch.arange(stride // 2, side + stride // 2, stride, device=maps.device).clamp(max=side - 1)
        for side in maps.shape[-2:]
    )
    return maps[..., rows[:, None], columns]
