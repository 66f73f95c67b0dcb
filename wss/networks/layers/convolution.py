"""Convolutions with batch normalisation, separable convolutions, and TensorFlow's padding."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from wss.networks.layers.batch_norm import BatchNorm2d


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's ``SAME`` padding: ``ceil(size / stride)`` outputs.

    An odd padding pixel is added right and bottom. A 3x3 convolution of stride 2 pads an even side by (0, 1) and an odd
    side by (1, 1); PyTorch's ``padding=1`` always pads (1, 1). Parameters are those of ``torch.nn.Conv2d``; the
    argument ``padding`` must be 0.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve features (B,C,H,W)."""
        padding: list[int] = []
        for axis in (1, 0):  # functional.pad counts from the last dimension
            size, stride = input.shape[2 + axis], self.stride[axis]
            reach = (math.ceil(size / stride) - 1) * stride + self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            total = max(reach - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(functional.pad(input, padding))


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1, separable: bool = False
) -> nn.Sequential:
    """A size-preserving convolution without bias, batch normalisation, ReLU.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Kernel size, odd.
        dilation: Distance between the taps.
        separable: Use a depthwise convolution with its own normalisation and ReLU, then a 1x1 convolution: about
            ``kernel_size**2`` times fewer operations (Chollet 2017, arXiv:1610.02357).
    """
    padding = dilation * (kernel_size // 2)
    if not separable:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
            BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
    depthwise = nn.Conv2d(
        in_channels, in_channels, kernel_size, padding=padding, dilation=dilation, groups=in_channels, bias=False
    )
    return nn.Sequential(
        depthwise,
        BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def initialise(module: nn.Module) -> None:
    """Set He-normal weights (fan out) and zero biases in every convolution of ``module``.

    Batch normalisation keeps scale 1 and shift 0. Weights on the meta device have no values and are not changed.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and not child.weight.is_meta:
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def initialise_classifier(module: nn.Module) -> None:
    """Set normal weights (standard deviation 0.01) and zero biases in every convolution of ``module``.

    Training then starts with nearly uniform probabilities. Weights on the meta device are not changed.

    Source: DeepLab (Chen et al. 2017), whose published solvers do the same.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and not child.weight.is_meta:
            nn.init.normal_(child.weight, std=0.01)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
