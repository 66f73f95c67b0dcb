"""DeepLab-VGG16: VGG16 at stride 8 and the sum of four branches of ``fc6`` and ``fc7`` with growing dilations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wss.networks.deeplab_v2 import DILATIONS_AT_STRIDE_8
from wss.networks.layers.convolution import initialise_classifier
from wss.networks.network import SegmentationNetwork
from wss.networks.vgg import FC_WIDTH, VGG16


class DeepLabVGG16(SegmentationNetwork):
    """DeepLab-v2's ASPP-L on VGG16: 37.9 M parameters with 21 classes.

    Each branch has its own ``fc6`` (dilation 6, 12, 18 or 24) and ``fc7``. They belong to the backbone, as in
    DeepLab-LargeFOV. One 1x1 convolution of all four branches equals the sum of one classifier per branch.

    Args:
        num_classes: K, background included.
        dropout: Dropout rate after ``fc6`` and ``fc7``.

    Source: Chen et al. 2017, arXiv:1606.00915, section 4.1.2 and figure 7, and the published network definition.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = 8
        self.feature_channels = FC_WIDTH * len(DILATIONS_AT_STRIDE_8)
        self.backbone = VGG16(8, dilations=DILATIONS_AT_STRIDE_8, dropout=dropout)
        self.classifier = nn.Conv2d(self.feature_channels, num_classes, 1)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,4096,ceil(H/8),ceil(W/8)) of normalised images (B,3,H,W)."""
        return torch.cat(self.backbone.branches(self.backbone(image)[-1]), 1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,4096,h,w)."""
        logits: Tensor = self.classifier(features)
        return logits
