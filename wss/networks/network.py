"""Interface of segmentation networks: logits at the output stride, and the features before the classifier."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor, nn

from wss.networks.layers.convolution import initialise_classifier
from wss.networks.layers.dropout import Dropout2d


class SegmentationNetwork(nn.Module, ABC):
    """Base class of segmentation networks.

    Heads that need features (boundary regression, refinement, random-walk layers, embeddings) call ``forward_features``
    and ``classify`` instead of ``forward``.

    Attributes:
        num_classes: K, background included.
        output_stride: Stride s of features and logits, which are (B,...,ceil(H/s),ceil(W/s)).
        feature_channels: Channels C of ``forward_features``.
        classifier: Last module that ``classify`` applies. Image classification replaces it.
        reads: Indices of the backbone's feature maps that the decoder reads; empty without a backbone.
    """

    num_classes: int
    output_stride: int
    feature_channels: int
    classifier: nn.Module
    reads: tuple[int, ...] = ()

    @abstractmethod
    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,C,h,w), the input of ``classify``, of normalised images (B,3,H,W) of any size."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,C,h,w)."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B,K,h,w) of normalised images (B,3,H,W); the caller interpolates them to the image's size."""
        return self.classify(self.forward_features(image))

    def second_branch(self, dropout: float) -> nn.Module:
        """Build a second branch with its own weights, for ``both``: a copy of everything after the encoder.

        Here it is a second classifier on the same features. A network with encoder and decoder (U-Net) builds a second
        decoder.

        Args:
            dropout: Rate of channel dropout at the input of the branch, in training.
        """
        classifier = copy.deepcopy(self.classifier)
        initialise_classifier(classifier)
        return nn.Sequential(Dropout2d(dropout), classifier)

    def both(self, image: Tensor, branch: nn.Module) -> tuple[Tensor, Tensor]:
        """Logits (B,K,h,w) of this network and of its ``second_branch``. The shared part runs once."""
        features = self.forward_features(image)
        return self.classify(features), branch(features)
