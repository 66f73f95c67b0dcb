"""ResNet with torchvision's parameter names and a choice of output stride."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride, stage_dilations
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import initialise

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Residual blocks per stage, by depth."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (depths 18 and 34)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, before: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=before, dilation=before, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B,C,H,W) to features at the block's stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(y)
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (depths 50 and 101). The stride is on the 3x3 convolution."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, before: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=before, dilation=before, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B,C,H,W) to features at the block's stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(y)
        return output


class ResNet(Backbone):
    """ResNet-18, 34, 50 or 101.

    Args:
        depth: Number of layers.
        output_stride: Stride of the last feature map. 8 and 16 dilate the last stages instead of striding. The
            parameters do not depend on it.
        num_classes: Number of classes of the image-level classifier ``fc``; None has no classifier.

    Source: He et al. 2016, arXiv:1512.03385; dilation as in DeepLab, see ``stage_dilations``.
    Differs: the stride of a bottleneck is on its 3x3 convolution, not on the first 1x1 convolution. This and the
        parameter names agree with torchvision's published weights.
    """

    def __init__(
        self, depth: Literal[18, 34, 50, 101], output_stride: OutputStride = 32, num_classes: int | None = None
    ) -> None:
        super().__init__()
        block = BasicBlock if depth < 50 else Bottleneck
        self.architecture = f"resnet{depth}"
        self.output_stride = output_stride
        e = block.expansion
        self.channels = (64 * e, 128 * e, 256 * e, 512 * e)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        counts = BLOCKS[depth]
        (s2, b2, d2), (s3, b3, d3), (s4, b4, d4) = stage_dilations(output_stride)
        self.layer1 = _stage(block, 64, 64, counts[0], 1, 1, 1)
        self.layer2 = _stage(block, 64 * e, 128, counts[1], s2, b2, d2)
        self.layer3 = _stage(block, 128 * e, 256, counts[2], s3, b3, d3)
        self.layer4 = _stage(block, 256 * e, 512, counts[3], s4, b4, d4)
        self.fc = None if num_classes is None else nn.Linear(512 * e, num_classes)
        initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``: the outputs of ``layer1`` to ``layer4``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        return x1, x2, x3, self.layer4(x3)

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``."""
        if self.fc is None:
            raise UsageError(f"{self.architecture} was built without a classifier; give num_classes")
        logits: Tensor = self.fc(self(image)[-1].mean((2, 3)))
        return logits


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    count: int,
    stride: int,
    before: int,
    dilation: int,
) -> nn.Sequential:
    first = block(in_channels, width, stride, before, dilation)
    rest = (block(width * block.expansion, width, 1, dilation, dilation) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
