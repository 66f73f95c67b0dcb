"""A light decoder for frozen backbones: the sum of two projected feature maps, and two convolutions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from wss.networks.backbone import Backbone
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout2d
from wss.networks.network import SegmentationNetwork

WIDTH = 192


class LightDecoder(SegmentationNetwork):
    """A decoder with 0.8 million parameters for features of 384 channels. On stored features it trains in seconds.

    The second and the last feature map are projected and added, at the size of the second. Two 3x3 convolutions follow.
    The decoder does not see the image, because a version with convolutions of the image at strides 4 and 2 scored lower
    with scribbles. A dense CRF recovers the outlines.

    Args:
        backbone: Any backbone. Logits have the stride of its second feature map: 8, or with DINOv2 its
            ``output_stride``.
        num_classes: K, background included.
        dropout: Rate of channel dropout before the classifier.

    Source: none; chosen by measurements on photographs with scribbles (``docs/features.md``).
    """

    reads = (1, 3)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = backbone.strides[1]
        self.feature_channels = WIDTH
        self.backbone = backbone
        self.projections = nn.ModuleList(nn.Conv2d(backbone.channels[n], WIDTH, 1, bias=False) for n in self.reads)
        self.normalise = nn.Sequential(BatchNorm2d(WIDTH), nn.ReLU(inplace=True))
        self.context = nn.Sequential(conv_bn_relu(WIDTH, WIDTH, 3), conv_bn_relu(WIDTH, WIDTH, 3))
        self.dropout = Dropout2d(dropout)
        self.classifier = nn.Conv2d(WIDTH, num_classes, 1)
        for part in (self.projections, self.context):
            initialise(part)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,192,h,w) at the stride of the logits, of normalised images (B,3,H,W)."""
        maps = self.backbone(image)
        middle, deep = (project(maps[n]) for project, n in zip(self.projections, self.reads, strict=True))
        deep = functional.interpolate(deep, middle.shape[2:], mode="bilinear", align_corners=False)
        features: Tensor = self.context(self.normalise(middle + deep))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,192,h,w)."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
