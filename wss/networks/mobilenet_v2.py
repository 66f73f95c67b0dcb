"""MobileNetV2 with torchvision's parameter names and a choice of output stride and padding."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride, stage_dilations
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import SameConv2d, initialise
from wss.networks.layers.dropout import Dropout

Padding = Literal["symmetric", "same"]

LAST_BLOCKS = (3, 6, 13, 17)
"""Indices in ``features`` of the last block at stride 4, 8, 16 and 32."""


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution and linear 1x1 projection, with a shortcut if the shapes agree.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        expansion: Width of the depthwise convolution as a multiple of ``in_channels``; 1 has no expansion convolution.
        stride: 1 or 2.
        dilation: Dilation of the depthwise convolution.
        padding: See ``MobileNetV2``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int, dilation: int, padding: Padding
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        expand = [_conv_bn_relu6(in_channels, width, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu6(width, width, 3, stride, dilation, width, padding),
            nn.Conv2d(width, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        )
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Features (B,C,H,W) to features at the block's stride."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(Backbone):
    """MobileNetV2 of width 1.0.

    Args:
        output_stride: Stride of the last feature map. 8 and 16 dilate the last stages instead of striding. The
            parameters do not depend on it.
        num_classes: Number of classes of the image-level classifier. It consists of the 1280-channel convolution
            ``features.18`` and of ``classifier``. None has neither. The last feature map is always that of
            ``features.17``.
        padding: Padding of the convolutions of stride 2. ``symmetric`` pads one pixel on each side, as torchvision
            does. ``same`` is TensorFlow's SAME (``SameConv2d``), for weights that were trained there. The choice shifts
            the sampling grid: with ``symmetric`` the feature of cell i at stride s is centred on pixel s i, with
            ``same`` (sides divisible by s) on pixel s i + s - 1.

    Source: Sandler et al. 2018, arXiv:1801.04381, table 2.
    Differs: without ``num_classes`` the last 1x1 convolution is left out, as in DeepLabv3+ with this backbone.
    """

    def __init__(
        self, output_stride: OutputStride = 32, num_classes: int | None = None, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.architecture = "mobilenet_v2"
        self.output_stride = output_stride
        self.channels = (24, 32, 96, 320)
        (s2, b2, d2), (s3, b3, d3), (s4, b4, d4) = stage_dilations(output_stride)
        # expansion, channels, blocks; stride and dilation of the first block, dilation of the others
        table = (
            (1, 16, 1, 1, 1, 1),
            (6, 24, 2, 2, 1, 1),
            (6, 32, 3, s2, b2, d2),
            (6, 64, 4, s3, b3, d3),
            (6, 96, 3, 1, d3, d3),
            (6, 160, 3, s4, b4, d4),
            (6, 320, 1, 1, d4, d4),
        )
        layers: list[nn.Module] = [_conv_bn_relu6(3, 32, 3, 2, padding=padding)]
        channels = 32
        for expansion, width, count, stride, before, dilation in table:
            for index in range(count):
                first = index == 0
                layers.append(
                    InvertedResidual(
                        channels, width, expansion, stride if first else 1, before if first else dilation, padding
                    )
                )
                channels = width
        self.classifier = None
        if num_classes is not None:
            layers.append(_conv_bn_relu6(320, 1280, 1))
            self.classifier = nn.Sequential(Dropout(0.2), nn.Linear(1280, num_classes))
        self.features = nn.Sequential(*layers)
        initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``: the outputs of ``features.3``, ``.6``, ``.13`` and ``.17``."""
        maps = []
        x = image
        for index in range(LAST_BLOCKS[-1] + 1):
            x = self.features[index](x)
            if index in LAST_BLOCKS:
                maps.append(x)
        return maps[0], maps[1], maps[2], maps[3]

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``."""
        if self.classifier is None:
            raise UsageError("mobilenet_v2 was built without a classifier; give num_classes")
        logits: Tensor = self.classifier(self.features(image).mean((2, 3)))
        return logits


def _conv_bn_relu6(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: Padding = "symmetric",
) -> nn.Sequential:
    if stride == 2 and padding == "same":
        conv: nn.Conv2d = SameConv2d(
            in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups, bias=False
        )
    else:
        around = dilation * (kernel_size // 2)
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, around, dilation=dilation, groups=groups, bias=False
        )
    return nn.Sequential(conv, BatchNorm2d(out_channels), nn.ReLU6(inplace=True))
