"""SegFormer: a Mix Transformer and a decoder of linear layers at stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.backbone import Backbone
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout2d
from wss.networks.network import SegmentationNetwork


class SegFormer(SegmentationNetwork):
    """SegFormer: 3.7, 13.7 and 27.4 M parameters with MiT-B0 to B2 and 21 classes.

    Args:
        backbone: Backbone. Its four feature maps are projected to ``width`` channels, upsampled to the size of the
            first and concatenated.
        num_classes: K, background included.
        dropout: Rate of channel dropout before the classifier.
        width: Channels of the decoder. Published: 256 with B0 and B1, 768 with B2.

    Source: Xie et al. 2021, arXiv:2105.15203, section 3.2, (4).
    """

    reads = (0, 1, 2, 3)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1, width: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = backbone.strides[0]
        self.feature_channels = width
        self.backbone = backbone
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.channels)
        self.fuse = conv_bn_relu(4 * width, width, 1)
        self.dropout = Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for projection in self.projections:
            initialise(projection)
        initialise(self.fuse)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,C,ceil(H/4),ceil(W/4)) of normalised images (B,3,H,W)."""
        maps = [project(level) for project, level in zip(self.projections, self.backbone(image), strict=True)]
        size = maps[0].shape[2:]
        enlarged = [functional.interpolate(level, size, mode="bilinear", align_corners=False) for level in maps[1:]]
        features: Tensor = self.fuse(torch.cat([maps[0], *enlarged], 1))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,C,h,w)."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
