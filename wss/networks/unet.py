"""The two-dimensional U-Net that scribble papers train from scratch on cardiac MRI."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout, Dropout2d
from wss.networks.network import SegmentationNetwork

Upsampling = Literal["transposed", "bilinear"]

WIDTHS = (16, 32, 64, 128, 256)
DROPOUT_SHARES = (0.1, 0.2, 0.4, 0.6, 1.0)
"""Dropout of each encoder level relative to the deepest: .05, .1, .2, .3, .5 at the usual 0.5."""


class UNet(SegmentationNetwork):
    """U-Net of five levels with 16 to 256 channels: 1.81 M parameters, 1.94 M with transposed convolutions.

    Each level has two 3x3 convolutions with batch normalisation and leaky ReLU, with dropout between the two in the
    encoder. The image is padded right and bottom (border repeated) to a multiple of 16 and the features are cropped
    again, so that any size works. ``output_stride`` is 1.

    Args:
        num_classes: K, background included.
        in_channels: Image channels.
        dropout: Rate at the deepest encoder level; shallower levels have less (``DROPOUT_SHARES``).
        upsampling: A 1x1 convolution and ``bilinear`` interpolation, or ``transposed`` 2x2 convolutions.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, in the form that the public scribble benchmarks on ACDC share
        (Luo et al. 2022, arXiv:2203.02106): widths, dropout, leaky ReLU, 3x3 classifier.
    Differs: convolutions before a normalisation keep the benchmarks' redundant bias, so that parameter counts agree;
        bilinear interpolation does not align corners.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, dropout: float = 0.5, upsampling: Upsampling = "bilinear"
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.output_stride = 1
        self.feature_channels = WIDTHS[0]
        before = (in_channels, *WIDTHS[:-1])
        self.encoder = nn.ModuleList(
            _two_convolutions(i, o, dropout * share) for i, o, share in zip(before, WIDTHS, DROPOUT_SHARES, strict=True)
        )
        self.upsampling = upsampling
        self.decoder = _decoder(upsampling)
        self.classifier = nn.Conv2d(WIDTHS[0], num_classes, 3, padding=1)
        initialise(self)
        initialise_classifier(self.classifier)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,16,H,W) of normalised images (B,in_channels,H,W)."""
        return _decode(self.decoder, self._levels(image))[:, :, : image.shape[2], : image.shape[3]]

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,H,W) of features (B,16,H,W)."""
        logits: Tensor = self.classifier(features)
        return logits

    def second_branch(self, dropout: float) -> nn.Module:
        """Another decoder and classifier, in front of which every level of the encoder loses channels at the rate ``dropout``."""
        return _Branch(self.num_classes, self.upsampling, dropout)

    def both(self, image: Tensor, branch: nn.Module) -> tuple[Tensor, Tensor]:
        """See ``SegmentationNetwork.both``."""
        levels = self._levels(image)
        inside = (..., slice(image.shape[2]), slice(image.shape[3]))
        return self.classify(_decode(self.decoder, levels)[inside]), branch(levels)[inside]

    def _levels(self, image: Tensor) -> list[Tensor]:
        """Features of the encoder, fine to coarse, of the padded image."""
        height, width = image.shape[2:]
        multiple = 2 ** (len(WIDTHS) - 1)
        x = functional.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        levels: list[Tensor] = []
        for level in self.encoder:
            x = level(functional.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        return levels


class _Branch(nn.Module):
    """A second decoder with its classifier, on the levels of the encoder."""

    def __init__(self, num_classes: int, upsampling: Upsampling, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout2d(dropout)
        self.decoder = _decoder(upsampling)
        self.classifier = nn.Conv2d(WIDTHS[0], num_classes, 3, padding=1)
        initialise(self)
        initialise_classifier(self.classifier)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(_decode(self.decoder, [self.dropout(level) for level in levels]))
        return logits


def _decoder(upsampling: Upsampling) -> nn.ModuleList:
    return nn.ModuleList(_Up(i, o, upsampling) for i, o in pairwise(WIDTHS[::-1]))


def _decode(decoder: nn.ModuleList, levels: Sequence[Tensor]) -> Tensor:
    x = levels[-1]
    for up, skip in zip(decoder, levels[-2::-1], strict=True):
        x = up(x, skip)
    return x


class _Up(nn.Module):
    """Doubles the size, joins the encoder's features of that level, convolves."""

    def __init__(self, in_channels: int, out_channels: int, upsampling: Upsampling) -> None:
        super().__init__()
        if upsampling == "transposed":
            self.up: nn.Module = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        else:
            self.up = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            )
        self.convolutions = _two_convolutions(2 * out_channels, out_channels, 0.0)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.convolutions(torch.cat([skip, self.up(x)], 1))
        return y


def _two_convolutions(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        BatchNorm2d(out_channels),
        nn.LeakyReLU(inplace=True),
        Dropout(dropout),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        BatchNorm2d(out_channels),
        nn.LeakyReLU(inplace=True),
    )
