"""A light decoder above any backbone: features of several depths joined, then image detail added at stride 4 and 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.backbone import Backbone
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout2d
from wss.networks.network import SegmentationNetwork

WIDTH = 192
JOINED = 48
DETAIL = (16, 32)
"""Channels of the image's features at stride 2 and 4."""


class LightDecoder(SegmentationNetwork):
    """A decoder of 0.5 million parameters, made for frozen backbones of one stride, whose maps lack the image's detail.

    The last and the second feature map are projected and joined. Two strided convolutions see the image itself. Their features
    are joined with the enlarged ones at stride 4 and then at stride 2.

    Args:
        backbone: Any.
        num_classes: K, background included.
        dropout: Rate of whole channels before detail is added.

    Source: none; chosen by measurement on photographs with scribbles (``docs/features.md``).
    """

    reads = (1, 3)

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = 2
        self.feature_channels = 24
        self.backbone = backbone
        self.projections = nn.ModuleList(nn.Conv2d(backbone.channels[n], WIDTH, 1, bias=False) for n in (1, 3))
        self.normalise = nn.Sequential(BatchNorm2d(WIDTH), nn.ReLU(inplace=True))
        self.context = conv_bn_relu(WIDTH, WIDTH, 3)
        self.narrow = conv_bn_relu(WIDTH, JOINED, 1)
        self.dropout = Dropout2d(dropout)
        self.fine = _halving(3, DETAIL[0])
        self.finer = _halving(DETAIL[0], DETAIL[1])
        self.join_at_4 = conv_bn_relu(JOINED + DETAIL[1], JOINED, 3)
        self.join_at_2 = conv_bn_relu(JOINED + DETAIL[0], self.feature_channels, 3)
        self.classifier = nn.Conv2d(self.feature_channels, num_classes, 1)
        for name, child in self.named_children():
            if name != "backbone":
                initialise(child)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,24,ceil(H/2),ceil(W/2)) of normalised images (B,3,H,W)."""
        maps = self.backbone(image)
        deep, middle = self.projections[1](maps[3]), self.projections[0](maps[1])
        joined = self.normalise(_like(deep, middle) + middle)
        context = self.narrow(self.dropout(self.context(joined)))
        at_2 = self.fine(image)
        at_4 = self.finer(at_2)
        joined = self.join_at_4(torch.cat([_like(context, at_4), at_4], 1))
        features: Tensor = self.join_at_2(torch.cat([_like(joined, at_2), at_2], 1))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,24,h,w)."""
        logits: Tensor = self.classifier(features)
        return logits


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False), BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )


def _like(maps: Tensor, others: Tensor) -> Tensor:
    """The maps at the size of others."""
    if maps.shape[2:] == others.shape[2:]:
        return maps
    return functional.interpolate(maps, others.shape[2:], mode="bilinear", align_corners=False)
