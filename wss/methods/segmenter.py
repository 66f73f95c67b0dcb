"""A network with the normalisation that its weights expect: from RGB images to logits at image resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks import NetworkSpec, build_network
from wss.networks.layers.lazy_feature_walk import LazyFeatureWalk


class Segmenter(nn.Module):
    """Wrapper of a segmentation network that takes RGB values in 0..255 and returns logits at full resolution.

    Args:
        spec: The network.
        num_classes: K, background included.

    Attributes:
        scales: Scales at which the network sees each image besides its own size (``NetworkSpec.multi_scale``).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.network = build_network(spec, num_classes)
        self.scales = spec.multi_scale
        self.register_buffer("mean", _per_channel(spec.mean), persistent=False)
        self.register_buffer("std", _per_channel(spec.std), persistent=False)

    def normalise(self, rgb: Tensor) -> Tensor:
        """Normalise RGB values, uint8 or float 0..255 (B,3,H,W), with the mean and std that the weights expect."""
        return (rgb.to(self.mean.dtype) - self.mean) / self.std

    def walk_before_classifying(self, *, stride: int, scale: float, alpha: float) -> None:
        """Insert one step of a ``LazyFeatureWalk`` before the last classifier.

        Args:
            stride: Side in pixels of the cells between which features walk. Features with a larger stride use their
                own.
            scale: See ``LazyFeatureWalk``.
            alpha: See ``LazyFeatureWalk``.

        Raises:
            UsageError: The stride is not a multiple of the stride of the features.
        """
        step = lazy_walk(stride, self.network.output_stride, scale, alpha)
        self.network.classifier = nn.Sequential(step, self.network.classifier)

    def forward(self, rgb: Tensor, every: bool = False) -> Any:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255, interpolated bilinearly from the network's stride.

        If the network sees several scales, the result is the maximum of their logits at each pixel.

        Args:
            rgb: Images.
            every: Return a list: these logits, then, if there are several scales, the logits of each scale. The images'
                own size comes first among the scales.

        Source: Chen et al. 2017, "DeepLab", arXiv:1606.00915, section 4.1.2, for several scales.
        """
        images = self.normalise(rgb)
        logits: list[Tensor] = [self.network(images)]
        fused = logits[0]
        for scale in self.scales:
            scaled = self.network(_at_scale(images, scale))
            logits.append(functional.interpolate(scaled, fused.shape[2:], mode="bilinear", align_corners=False))
            fused = torch.maximum(fused, logits[-1])
        outputs = [fused, *logits] if self.scales else logits
        outputs = [
            functional.interpolate(maps.float(), rgb.shape[2:], mode="bilinear", align_corners=False)
            for maps in (outputs if every else outputs[:1])
        ]
        return outputs if every else outputs[0]


def lazy_walk(stride: int, own: int, scale: float, alpha: float) -> LazyFeatureWalk:
    """A ``LazyFeatureWalk`` between cells of ``stride`` x ``stride`` pixels, on features with the stride ``own``.

    Raises:
        UsageError: ``stride`` is larger than ``own`` but not a multiple of it.
    """
    side = max(stride, own)
    if side % own:
        raise UsageError(f"the stride of a random walk must be a multiple of the features' stride, {own}; got {stride}")
    return LazyFeatureWalk(cell=side // own, scale=scale, alpha=alpha)


def _at_scale(images: Tensor, scale: float) -> Tensor:
    """Images (B,3,H,W) scaled to whole pixels, rounded down. Images that would have no pixel left are not scaled."""
    if min(images.shape[2:]) * scale < 1:
        return images
    return functional.interpolate(
        images, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
    )


def _per_channel(values: Sequence[float]) -> Tensor:
    """RGB values in [0,1] as a tensor (1,3,1,1) in 0..255.

    NumPy does the multiplication, because on the meta device, where networks are only checked, torch arithmetic would
    import torch's compiler.
    """
    return torch.tensor((np.asarray(values, np.float32) * np.float32(255)).tolist()).view(1, 3, 1, 1)
