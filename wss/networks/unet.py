"""Two-dimensional U-Net, trained from scratch; by default that of the scribble papers on cardiac MRI."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import EllipsisType
from typing import Any, Literal, NamedTuple

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
"""Dropout rate of each encoder level relative to the deepest: .05, .1, .2, .3, .5 for the default of 0.5."""


class Side(NamedTuple):
    """Logits of one coarser level of the decoder.

    Attributes:
        logits: (B,K,h,w), logits of the padded image.
        stride: Stride of the level in pixels.
    """

    logits: Tensor
    stride: int


class UNet(SegmentationNetwork):
    """U-Net, by default of five levels with 16 to 256 channels: 1.81 M parameters, 1.94 M with transposed convolutions.

    Each level has two 3x3 convolutions with batch normalisation and leaky ReLU; in the encoder with dropout between
    them. The image is padded right and bottom (border repeated) to a multiple of the deepest level's stride, and the
    features are cropped again. So images of any size work. ``output_stride`` is ``stem_stride``.

    Args:
        num_classes: K, background included.
        in_channels: Image channels.
        dropout: Dropout rate at the deepest encoder level. Shallower levels have less (``DROPOUT_SHARES``, counted from
            the deepest level).
        upsampling: ``bilinear``: a 1x1 convolution and bilinear interpolation. ``transposed``: transposed 2x2
            convolutions.
        widths: Channels of each level, fine to coarse; two to six levels.
        stem_stride: s, 1, 2 or 4. Before the first convolution each s x s block of pixels becomes one position with s * s
            times as many channels (``torch.nn.functional.pixel_unshuffle``). Levels and logits are then s times as coarse.
        deep_supervision: True adds classifiers to the decoder's coarser levels, for training only.

    Attributes:
        recorded: If it is an empty list, the next forward pass appends the side classifiers' logits (``Side``), coarse to fine.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, in the form of the public scribble benchmarks on ACDC (Luo et al.
        2022, arXiv:2203.02106): widths, dropout, leaky ReLU, 3x3 classifier.
    Differs: bilinear interpolation does not align corners. Other widths and a stem stride above 1 are ours. As in the
        benchmarks, convolutions before a normalisation have a redundant bias, so that parameter counts agree.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        upsampling: Upsampling = "bilinear",
        widths: Sequence[int] = WIDTHS,
        stem_stride: int = 1,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.widths = tuple(widths)
        self.output_stride = stem_stride
        self.feature_channels = self.widths[0]
        before = (in_channels * stem_stride**2, *self.widths[:-1])
        self.encoder = nn.ModuleList(
            _two_convolutions(i, o, dropout * share)
            for i, o, share in zip(before, self.widths, _dropout_shares(len(self.widths)), strict=True)
        )
        self.upsampling = upsampling
        self.decoder = _decoder(self.widths, upsampling)
        self.classifier = nn.Conv2d(self.widths[0], num_classes, 3, padding=1)
        coarser = self.widths[-2:0:-1] if deep_supervision else ()
        self.side_classifiers = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in coarser)
        self.recorded: list[Side] | None = None
        initialise(self)
        for classifier in (self.classifier, *self.side_classifiers):
            initialise_classifier(classifier)

    def __getstate__(self) -> dict[str, Any]:
        """State without ``recorded``: a copy of the network does not record."""
        return {**self.__dict__, "recorded": None}

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,widths[0],ceil(H/s),ceil(W/s)) of normalised images (B,in_channels,H,W), s the ``stem_stride``."""
        return self._decoded(self._levels(image))[self._inside(image)]

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,widths[0],h,w)."""
        logits: Tensor = self.classifier(features)
        return logits

    def second_branch(self, dropout: float) -> nn.Module:
        """Build a second decoder and classifier, with channel dropout at the rate ``dropout`` on all encoder levels."""
        return _Branch(self.num_classes, self.widths, self.upsampling, dropout)

    def both(self, image: Tensor, branch: nn.Module) -> tuple[Tensor, Tensor]:
        """See ``SegmentationNetwork.both``."""
        levels = self._levels(image)
        inside = self._inside(image)
        return self.classify(self._decoded(levels)[inside]), branch(levels)[inside]

    def _levels(self, image: Tensor) -> list[Tensor]:
        """Features of the encoder levels for the padded image, fine to coarse."""
        height, width = image.shape[2:]
        multiple = self.output_stride * 2 ** (len(self.widths) - 1)
        x = functional.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        if self.output_stride > 1:
            x = functional.pixel_unshuffle(x, self.output_stride)
        levels: list[Tensor] = []
        for level in self.encoder:
            x = level(functional.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        return levels

    def _decoded(self, levels: Sequence[Tensor]) -> Tensor:
        """Features of the finest decoder level. Fills ``recorded`` if it is an empty list."""
        decoded = _decode(self.decoder, levels)
        if self.recorded is not None and not self.recorded:
            stride = self.output_stride << len(self.side_classifiers)
            for classifier, features in zip(self.side_classifiers, decoded, strict=False):
                self.recorded.append(Side(classifier(features), stride))
                stride //= 2
        return decoded[-1]

    def _inside(self, image: Tensor) -> tuple[EllipsisType, slice, slice]:
        """Index of the part of the features that covers the image without its padding."""
        height, width = (-(-side // self.output_stride) for side in image.shape[2:])
        return ..., slice(height), slice(width)


class _Branch(nn.Module):
    """A second decoder with its own classifier, which takes the levels of the encoder."""

    def __init__(self, num_classes: int, widths: Sequence[int], upsampling: Upsampling, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout2d(dropout)
        self.decoder = _decoder(widths, upsampling)
        self.classifier = nn.Conv2d(widths[0], num_classes, 3, padding=1)
        initialise(self)
        initialise_classifier(self.classifier)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(_decode(self.decoder, [self.dropout(level) for level in levels])[-1])
        return logits


def _dropout_shares(levels: int) -> Sequence[float]:
    """The last ``levels`` entries of ``DROPOUT_SHARES``. Additional levels have the shallowest share."""
    return (DROPOUT_SHARES[0],) * (levels - len(DROPOUT_SHARES)) + DROPOUT_SHARES[-levels:]


def _decoder(widths: Sequence[int], upsampling: Upsampling) -> nn.ModuleList:
    return nn.ModuleList(_Up(i, o, upsampling) for i, o in pairwise(widths[::-1]))


def _decode(decoder: nn.ModuleList, levels: Sequence[Tensor]) -> list[Tensor]:
    """Features of the decoder levels, coarse to fine, from those of the encoder levels, fine to coarse."""
    features: list[Tensor] = []
    x = levels[-1]
    for up, skip in zip(decoder, levels[-2::-1], strict=True):
        x = up(x, skip)
        features.append(x)
    return features


class _Up(nn.Module):
    """Upsampling by 2, concatenation with the encoder's features of that level, two convolutions."""

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
