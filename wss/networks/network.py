"""What every segmentation network offers: logits at its output stride, and the features they are computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class SegmentationNetwork(nn.Module, ABC):
    """A network that labels pixels.

    Heads that need features (boundary regression, refinement, random-walk layers, embeddings) call ``forward_features``
    and ``classify`` instead of ``forward``.

    Attributes:
        num_classes: K, background included.
        output_stride: Stride s of features and logits, which are (B,...,ceil(H/s),ceil(W/s)).
        feature_channels: Channels C of ``forward_features``.
        classifier: What ``classify`` applies last, and image classification replaces.
    """

    num_classes: int
    output_stride: int
    feature_channels: int
    classifier: nn.Module

    @abstractmethod
    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B,C,h,w), the input of ``classify``, of normalised images (B,3,H,W) of any size."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,K,h,w) of features (B,C,h,w)."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B,K,h,w) of normalised images (B,3,H,W); the caller interpolates them to the image's size."""
        return self.classify(self.forward_features(image))
