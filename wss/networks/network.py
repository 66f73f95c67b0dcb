"""What every segmentation network offers: logits at its output stride, and the features they are computed from."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor, nn

from wss.networks.layers.convolution import initialise_classifier
from wss.networks.layers.dropout import Dropout2d


class SegmentationNetwork(nn.Module, ABC):
    """A network that labels pixels.

    Heads that need features (boundary regression, refinement, random-walk layers, embeddings) call ``forward_features``
    and ``classify`` instead of ``forward``.

    Attributes:
        num_classes: K, background included.
        output_stride: Stride s of features and logits, which are (B,...,ceil(H/s),ceil(W/s)).
        feature_channels: Channels C of ``forward_features``.
        classifier: What ``classify`` applies last, and image classification replaces.
        reads: Indices of the backbone's feature maps that the decoder reads; none without a backbone.
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
        """What labels pixels again, with weights of its own, from what ``both`` shares between the branches.

        That is as much of the network as is not its encoder: here the classifier, on the features; a network that has an encoder
        and a decoder (U-Net) gives a second decoder.

        Args:
            dropout: Rate at which the branch loses whole channels of what it is given, in training.
        """
        classifier = copy.deepcopy(self.classifier)
        initialise_classifier(classifier)
        return nn.Sequential(Dropout2d(dropout), classifier)

    def both(self, image: Tensor, branch: nn.Module) -> tuple[Tensor, Tensor]:
        """Logits (B,K,h,w) of this network and of its ``second_branch``, from one pass through what they share."""
        features = self.forward_features(image)
        return self.classify(features), branch(features)
