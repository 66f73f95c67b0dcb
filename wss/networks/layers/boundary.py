"""Edges from the logits of a segmentation, so that edge maps can train a segmentation network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier


class BoundaryRegression(nn.Module):
    """BRN: three 3x3 convolutions at full resolution, from segmentation maps to an edge map.

    Args:
        in_channels: Number of maps: 2 for ``foreground_background``, K for the logits (the paper's ablation).
        width: Channels between the convolutions.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", section 3.2.
    Differs: the paper does not state the details. Our choices are the number and width of the convolutions, batch
        normalisation and ReLU between them, and a sigmoid at the end. The maps are interpolated to the size of the
        image before the convolutions, so that edges are as sharp as the given ones.
    """

    def __init__(self, in_channels: int, *, width: int = 16) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(conv_bn_relu(in_channels, width, 3), conv_bn_relu(width, width, 3))
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        initialise(self.convolutions)
        initialise_classifier(self.last)

    def forward(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Edge maps, float32 (B,H,W) in 0..1.

        Args:
            maps: (B,in_channels,h,w).
            size: H and W.
        """
        if tuple(maps.shape[2:]) != tuple(size):
            maps = functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)
        edges: Tensor = self.last(self.convolutions(maps))
        return edges[:, 0].float().sigmoid()


def foreground_background(logits: Tensor, background: int | None) -> Tensor:
    """The largest foreground logit and the background logit, (B,2,H,W).

    At each pixel the gradient reaches only the background and the largest foreground class (the first one if several
    are equal), because edges inside an object say nothing about the other classes.

    Args:
        logits: (B,K,H,W).
        background: Index of the background class.

    Raises:
        UsageError: There is no background class, or no other class.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", (1) and
        figure 3.
    """
    background = _background(logits, background)
    others = torch.cat([logits[:, :background], logits[:, background + 1 :]], 1)
    return torch.stack([others.max(1).values, logits[:, background]], 1)


def background_level(logits: Tensor, background: int | None, size: Sequence[int]) -> Tensor:
    """Edges 4 p (1 - p), float32 or float64 (B,H,W) in 0..1, with p the probability of the background.

    They are 1 where background and objects are equally likely. There are no parameters, so only a change of the
    prediction changes the edges. Borders between two objects are not edges.

    Args:
        logits: (B,K,h,w); they are interpolated to the size of the image.
        background: Index of the background class.
        size: H and W.

    Raises:
        UsageError: There is no background class, or no other class.
    """
    background = _background(logits, background)
    if tuple(logits.shape[2:]) != tuple(size):
        logits = functional.interpolate(logits, list(size), mode="bilinear", align_corners=False)
    sure = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)[:, background]
    return 4 * sure * (1 - sure)


def _background(logits: Tensor, background: int | None) -> int:
    if background is None:
        raise UsageError(
            "boundary regression from foreground and background needs a background class, but the data set has none: "
            "name it in its class list, or set `boundary: all` or `none`"
        )
    if logits.shape[1] < 2:
        raise UsageError("boundary regression from foreground and background needs a class besides the background")
    return background
