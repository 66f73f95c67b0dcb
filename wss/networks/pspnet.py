"""PSPNet: a dilated ResNet, and means of its features over grids of 1x1, 2x2, 3x3 and 6x6 cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.backbone import Backbone
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout2d
from wss.networks.network import SegmentationNetwork

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Features, concatenated with their means over several grids; each grid is projected to equally many channels.

    Args:
        channels: Input channels; the output has twice as many.
        bins: Cells per side of each grid.
    """

    def __init__(self, channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.projections = nn.ModuleList(conv_bn_relu(channels, channels // len(self.bins), 1) for _ in self.bins)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,C,h,w) of any size to (B,2C,h,w)."""
        size = features.shape[2:]
        levels = [features]
        for cells, project in zip(self.bins, self.projections, strict=True):
            rows, columns = (_shares(side, cells, features) for side in size)
            means = project(rows @ features @ columns.T)
            levels.append(functional.interpolate(means, size, mode="bilinear", align_corners=False))
        return torch.cat(levels, 1)


def _shares(length: int, cells: int, like: Tensor) -> Tensor:
    """Matrix (cells,length) of adaptive average pooling: the weight of each position in the mean of each cell.

    Cell i holds the positions from floor(i length / cells) to below ceil((i + 1) length / cells). Unlike torch's
    operator, a matrix product can be exported to ONNX for sizes that are not a multiple of ``cells`` and for dynamic
    sizes.
    """
    place = torch.arange(length, device=like.device)
    cell = torch.arange(cells, device=like.device)[:, None]
    inside = (place >= cell * length // cells) & (place < ((cell + 1) * length + cells - 1) // cells)
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class PSPNet(SegmentationNetwork):
    """Pyramid scene parsing network: 65.7 M parameters with ResNet-101 and 21 classes.

    ``forward_features`` returns the input of the last convolution. It has a quarter of the backbone's channels: 512
    with ResNet-50 and 101.

    Args:
        backbone: Usually a ResNet at stride 8.
        num_classes: K, background included.
        dropout: Rate of channel dropout before the classifier.

    Source: Zhao et al. 2017, arXiv:1612.01105, section 3.2 and figure 3.
    Differs: no auxiliary loss on ``layer3``; the backbone is torchvision's ResNet, whose first convolution is 7x7.
    """

    reads = (3,)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        channels = backbone.channels[-1]
        self.num_classes = num_classes
        self.output_stride = backbone.output_stride
        self.feature_channels = channels // 4
        self.backbone = backbone
        self.pyramid = PyramidPooling(channels)
        self.bottleneck = conv_bn_relu(2 * channels, self.feature_channels, 3)
        self.dropout = Dropout2d(dropout)
        self.classifier = nn.Conv2d(self.feature_channels, num_classes, 1)
        initialise(self.pyramid)
        initialise(self.bottleneck)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,C,h,w) of normalised images (B,3,H,W)."""
        features: Tensor = self.bottleneck(self.pyramid(self.backbone(image)[-1]))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,C,h,w)."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
