"""DeepLabv3+: a dilated backbone, ASPP with image pooling, and a decoder that adds detail from stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.backbone import Backbone
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout
from wss.networks.network import SegmentationNetwork

RATES_AT_STRIDE_16 = (6, 12, 18)
WIDTH = 256
LOW_LEVEL_WIDTH = 48


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1 and three dilated 3x3 convolutions, image pooling, and a projection.

    Args:
        in_channels: Input channels.
        rates: Dilations of the 3x3 convolutions.
        separable: Use depthwise separable 3x3 convolutions.
    """

    def __init__(self, in_channels: int, rates: tuple[int, ...], separable: bool) -> None:
        super().__init__()
        self.point = conv_bn_relu(in_channels, WIDTH, 1)
        self.atrous = nn.ModuleList(
            conv_bn_relu(in_channels, WIDTH, 3, dilation=rate, separable=separable) for rate in rates
        )
        self.pooling = nn.Conv2d(in_channels, WIDTH, 1)
        self.project = conv_bn_relu(WIDTH * (2 + len(rates)), WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,C,h,w) to (B,256,h,w)."""
        mean = functional.relu(self.pooling(features.mean((2, 3), keepdim=True)))
        branches = [
            self.point(features),
            *(branch(features) for branch in self.atrous),
            mean.expand(-1, -1, *features.shape[2:]),
        ]
        output: Tensor = self.project(torch.cat(branches, 1))
        return output


class DeepLabV3Plus(SegmentationNetwork):
    """DeepLabv3+.

    ``output_stride`` is 4, that of the decoder, for any ``backbone.output_stride``. ``forward_features`` returns the
    decoder's last feature map, 256 channels.

    Args:
        backbone: Backbone at stride 16 (the usual choice), 8 or 32. The ASPP rates 6, 12, 18 are doubled at stride 8
            and halved at stride 32.
        num_classes: K, background included.
        dropout: Dropout rate after ASPP.
        separable: Use depthwise separable 3x3 convolutions in ASPP and decoder: the lighter head for MobileNetV2.

    Source: Chen et al. 2018, arXiv:1802.02611, figure 2, sections 3.1 and 4.1 (48 low-level channels, two 3x3
        convolutions of 256), and Chen et al. 2017, arXiv:1706.05587, section 3.3 (ASPP).
    Differs: the image-pooling branch has a bias instead of batch normalisation, because it has one value per image, and
        statistics over these few values are noise. MobileNetV2's low-level features are the 24 channels of the last
        block at stride 4. With this backbone the published models have neither dilated branches nor decoder; here they
        have both, with separable convolutions.
    """

    reads = (0, 3)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1, separable: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = backbone.strides[0]
        self.feature_channels = WIDTH
        self.backbone = backbone
        rates = tuple(rate * 16 // backbone.output_stride for rate in RATES_AT_STRIDE_16)
        self.aspp = ASPP(backbone.channels[-1], rates, separable)
        self.dropout = Dropout(dropout)
        self.low_level = conv_bn_relu(backbone.channels[0], LOW_LEVEL_WIDTH, 1)
        self.decoder = nn.Sequential(
            conv_bn_relu(WIDTH + LOW_LEVEL_WIDTH, WIDTH, 3, separable=separable),
            conv_bn_relu(WIDTH, WIDTH, 3, separable=separable),
        )
        self.classifier = nn.Conv2d(WIDTH, num_classes, 1)
        for head in (self.aspp, self.low_level, self.decoder):
            initialise(head)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,256,ceil(H/4),ceil(W/4)) of normalised images (B,3,H,W)."""
        low, _, _, high = self.backbone(image)
        context = self.dropout(self.aspp(high))
        context = functional.interpolate(context, low.shape[2:], mode="bilinear", align_corners=False)
        features: Tensor = self.decoder(torch.cat([context, self.low_level(low)], 1))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,256,h,w)."""
        logits: Tensor = self.classifier(features)
        return logits
