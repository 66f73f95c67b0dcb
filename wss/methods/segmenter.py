"""A network together with the normalisation its weights expect: RGB in, logits at image resolution out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.networks import NetworkSpec, build_network


class Segmenter(nn.Module):
    """Wraps a segmentation network so that callers give RGB values in 0..255 and get full-resolution logits.

    Args:
        spec: The network.
        num_classes: K, background included.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.network = build_network(spec, num_classes)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, persistent=False)

    def normalise(self, rgb: Tensor) -> Tensor:
        """Scale RGB values, uint8 or float 0..255 (B,3,H,W), to what the network's weights expect."""
        return (rgb.to(self.mean.dtype) - self.mean) / self.std

    def forward(self, rgb: Tensor) -> Tensor:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255, interpolated bilinearly from the network's stride."""
        logits: Tensor = self.network(self.normalise(rgb))
        return functional.interpolate(logits.float(), rgb.shape[2:], mode="bilinear", align_corners=False)
