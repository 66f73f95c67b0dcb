"""Refinement of coarse logits with detail from the image, in steps that double the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks.layers.convolution import conv_bn_relu, initialise


class PredictionRefinement(nn.Module):
    """PRN: upsamples the logits of any segmentation network to full resolution and corrects them at each step.

    Five 3x3 convolutions compute one detail map from the image. Each step doubles the size of the logits and of their
    correction, up to the size of the image. At each size three 3x3 convolutions take a class's map and the detail map,
    and add to the correction. All classes share the weights. So a permutation of the classes permutes the result, and
    the number of parameters does not depend on the number of classes. For a network of stride 1 there is one step, at
    full resolution.

    Initially the correction is 0; the result is then the bilinear interpolation of the logits, as without the layer.

    Args:
        output_stride: Stride of the logits, a power of two, at least 1.
        detail_width: Channels of the convolutions from the image to the detail map.
        width: Channels per class between the convolutions of a step.

    Raises:
        UsageError: The stride is not a power of two.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", section 3.1:
        five convolutions, a single-channel map concatenated with each of the K+1 maps, iterative upsampling,
        convolutions and additions of the corresponding maps of the network.
    Differs: the paper does not state the details. Our choices: the widths; batch normalisation and ReLU in the detail
        path, only ReLU within steps; weights are shared by classes but not by steps; at smaller sizes the detail is
        averaged over areas; each step takes the sum of the network's interpolated logits and the previous correction;
        the correction starts at 0, so that a pre-trained network is not disturbed.
    """

    def __init__(self, output_stride: int, *, detail_width: int = 16, width: int = 8) -> None:
        super().__init__()
        if output_stride < 1 or output_stride & (output_stride - 1):
            raise UsageError(f"refinement doubles sizes, but the output stride {output_stride} is not a power of two")
        self.detail = nn.Sequential(
            conv_bn_relu(3, detail_width, 3),
            *(conv_bn_relu(detail_width, detail_width, 3) for _ in range(3)),
            nn.Conv2d(detail_width, 1, 3, padding=1),
        )
        initialise(self.detail)
        self.steps = nn.ModuleList(_Step(width) for _ in range(max(1, output_stride.bit_length() - 1)))

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Refine coarse logits to (B,K,H,W).

        Args:
            logits: (B,K,ceil(H/s),ceil(W/s)).
            image: Normalised images (B,3,H,W).
        """
        height, width = image.shape[2:]
        detail = self.detail(image)
        correction = torch.zeros_like(logits)
        for before, step in enumerate(self.steps, start=1):
            stride = 2 ** (len(self.steps) - before)
            size = (
                (height + stride - 1) // stride,
                (width + stride - 1) // stride,
            )  # positive operands only, because ONNX rounds division towards zero
            correction = _resize(correction, size)
            near = functional.avg_pool2d(detail, stride, ceil_mode=True)
            correction = correction + step(_resize(logits, size) + correction, near)
        return _resize(logits, (height, width)) + correction


class _Step(nn.Module):
    """Correction of every class's map from the map itself and the detail map.

    A convolution of the two concatenated maps is the sum of one convolution of each. The convolution of the detail map
    is equal for all classes, so it is computed only once.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_map = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.of_detail = nn.Conv2d(1, width, 3, padding=1)
        self.between = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1, bias=False)
        initialise(self)
        nn.init.zeros_(self.last.weight)
        # With so few channels this layout makes forward and backward passes 2.5 times as fast on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, maps: Tensor, detail: Tensor) -> Tensor:
        """Corrections (B,K,h,w) of maps (B,K,h,w) with detail (B,1,h,w)."""
        batch, classes, height, width = maps.shape
        single: Tensor = self.of_map(maps.reshape(batch * classes, 1, height, width))
        both = single.reshape(batch, classes, -1, height, width) + self.of_detail(detail)[:, None]
        hidden = functional.relu(self.between(functional.relu(both).flatten(0, 1)))
        corrections: Tensor = self.last(hidden)
        return corrections.reshape(batch, classes, height, width)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)
