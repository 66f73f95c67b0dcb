"""DeepLab-LargeFOV: VGG16 at stride 8 whose first fully connected layer is a convolution with a wide field of view."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from wss.networks.layers.convolution import initialise_classifier
from wss.networks.network import SegmentationNetwork
from wss.networks.vgg import FC_WIDTH, VGG16

DILATION = 12


class DeepLabLargeFOV(SegmentationNetwork):
    """DeepLab-LargeFOV: 20.5 M parameters with 21 classes.

    ``fc6`` and ``fc7`` belong to the backbone: they have its learning rate, and weights of a full VGG16 initialise
    them.

    Args:
        num_classes: K, background included.
        dropout: Dropout rate after ``fc6`` and ``fc7``.

    Source: Chen et al. 2015, arXiv:1412.7062, section 3.1 and table 2, and the published network definition: stride 8;
        ``fc6`` is 3x3 with dilation 12 and 1024 channels, after a 3x3 average pooling.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = 8
        self.feature_channels = FC_WIDTH
        self.backbone = VGG16(8, dilations=(DILATION,), dropout=dropout)
        self.classifier = nn.Conv2d(FC_WIDTH, num_classes, 1)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,1024,ceil(H/8),ceil(W/8)) of normalised images (B,3,H,W)."""
        return large_field(self.backbone, self.backbone(image)[-1])

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,1024,h,w)."""
        logits: Tensor = self.classifier(features)
        return logits


def large_field(backbone: VGG16, pool5: Tensor) -> Tensor:
    """Features (B,1024,h,w) after ``fc7`` of a VGG16 with one branch, from its last feature map (B,512,h,w)."""
    (features,) = backbone.branches(functional.avg_pool2d(pool5, 3, stride=1, padding=1))
    return features
