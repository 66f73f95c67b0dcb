"""DeepLab-MSc-LargeFOV: DeepLab-LargeFOV plus classifiers on the image and on the first four poolings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.deeplab_largefov import DILATION, large_field
from wss.networks.layers.convolution import initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout
from wss.networks.network import SegmentationNetwork
from wss.networks.vgg import FC_WIDTH, VGG16

SIDE_WIDTH = 128
SIDE_CHANNELS = (3, 64, 128, 256, 512)
"""Channels of the image and of the first four poolings."""


class DeepLabMScLargeFOV(SegmentationNetwork):
    """DeepLab-MSc-LargeFOV: 21.7 M parameters with 21 classes.

    Five side branches, on the image and on the first four poolings, have two layers of 128 channels each. The features
    are their maps and those of DeepLab-LargeFOV, upsampled to the size of the image. One 1x1 convolution of all
    features equals the sum of one classifier per map. ``output_stride`` is 1. ``forward`` classifies each map at its
    own resolution and sums the upsampled logits. The result is the same, and it takes a fraction of the memory of
    ``forward_features``.

    Args:
        num_classes: K, background included.
        dropout: Dropout rate after ``fc6``, ``fc7`` and both layers of a side branch.

    Source: Chen et al. 2015, arXiv:1412.7062, section 4.3, and the published network definitions.
    Differs: the published network evaluates the side branches at every pixel for testing but at every eighth pixel for
        training, on reduced labels, and trains them after the rest. Here training and testing are alike. Images are
        padded (border repeated) to 8 n + 1 pixels per side and cropped again, because then the cells of all strides are
        centred on pixels. Side branches start with He-normal weights, not with a standard deviation of 0.001, which
        suits pixel values in 0..255.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = 1
        self.feature_channels = SIDE_WIDTH * len(SIDE_CHANNELS) + FC_WIDTH
        self.backbone = VGG16(8, dilations=(DILATION,), dropout=dropout)
        self.sides = nn.ModuleList(_side(channels, dropout) for channels in SIDE_CHANNELS)
        self.classifier: nn.Module = nn.Conv2d(self.feature_channels, num_classes, 1)
        initialise(self.sides)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,1664,H,W) of normalised images (B,3,H,W)."""
        return torch.cat([_enlarge(maps, image) for maps in self._branches(image)], 1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,H,W) of features (B,1664,H,W)."""
        logits: Tensor = self.classifier(features)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B,K,H,W) of normalised images (B,3,H,W)."""
        if not isinstance(self.classifier, nn.Conv2d) or self.classifier.kernel_size != (1, 1):
            return super().forward(image)  # a classifier that cannot be split
        bias = self.classifier.bias
        total = torch.zeros((), device=image.device) if bias is None else bias.view(1, -1, 1, 1)
        start = 0
        for maps in self._branches(image):
            weight = self.classifier.weight[:, start : start + maps.shape[1]]
            total = total + _enlarge(functional.conv2d(maps, weight), image)
            start += maps.shape[1]
        return total

    def _branches(self, image: Tensor) -> Iterator[Tensor]:
        height, width = image.shape[2:]
        padded = functional.pad(image, (0, -(width - 1) % 8, 0, -(height - 1) % 8), mode="replicate")
        _, pooled = self.backbone.stage_outputs(padded)
        for side, maps in zip(self.sides, (padded, *pooled[:4]), strict=True):
            yield side(maps)
        yield large_field(self.backbone, pooled[4])


def _side(channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, SIDE_WIDTH, 3, padding=1),
        nn.ReLU(inplace=True),
        Dropout(dropout),
        nn.Conv2d(SIDE_WIDTH, SIDE_WIDTH, 1),
        nn.ReLU(inplace=True),
        Dropout(dropout),
    )


def _enlarge(maps: Tensor, image: Tensor) -> Tensor:
    """Interpolate maps of the padded image, at any stride, to its pixels, and crop them to the size of the image."""
    height, width = image.shape[2:]
    size = [side + -(side - 1) % 8 for side in (height, width)]
    # align_corners: cell i is centred on pixel s i, and the padded size is a multiple of s plus 1
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)[:, :, :height, :width]
