"""DeepLab-v2: a dilated backbone and atrous spatial pyramid pooling (ASPP), a sum of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wss.networks.backbone import Backbone
from wss.networks.layers.convolution import initialise_classifier
from wss.networks.layers.dropout import Dropout
from wss.networks.network import SegmentationNetwork

DILATIONS_AT_STRIDE_8 = (6, 12, 18, 24)


class SummedASPP(nn.Module):
    """Sum of parallel dilated 3x3 convolutions of the same input.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        dilations: Dilation of each convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 3, padding=d, dilation=d) for d in dilations)
        initialise_classifier(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,C,h,w) to (B,out_channels,h,w)."""
        total: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return total


def aspp_dilations(output_stride: int) -> tuple[int, ...]:
    """Dilations that cover the same part of the image at any stride: 6, 12, 18, 24 at stride 8, rounded half up."""
    return tuple(max(1, int(d * 8 / output_stride + 0.5)) for d in DILATIONS_AT_STRIDE_8)


class DeepLabV2(SegmentationNetwork):
    """DeepLab-v2 with ASPP-L.

    ``output_stride`` is the backbone's; ``forward_features`` returns the backbone's last feature map.

    Args:
        backbone: Usually ResNet-101 at stride 8.
        num_classes: K, background included.
        dropout: Dropout rate of the features before the classifiers.

    Source: Chen et al. 2017, arXiv:1606.00915, section 3.2 and figure 4.
    Differs: at strides 16 and 32 the dilations are reduced in proportion (``aspp_dilations``). Multi-scale input with
        max fusion is an option of every network, ``NetworkSpec.multi_scale``. The published ResNet version has no
        dropout, which is the default here too.
    """

    reads = (3,)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = backbone.output_stride
        self.feature_channels = backbone.channels[-1]
        self.backbone = backbone
        self.dropout = Dropout(dropout)
        self.classifier = SummedASPP(self.feature_channels, num_classes, aspp_dilations(self.output_stride))

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,C,h,w) of normalised images (B,3,H,W)."""
        features: Tensor = self.backbone(image)[-1]
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,C,h,w)."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
