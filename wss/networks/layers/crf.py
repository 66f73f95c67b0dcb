"""A fully connected CRF as the trainable last layer of a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wss.ops import differentiable_mean_field
from wss.ops.differentiable_mean_field import Normalisation


class CRFLayer(nn.Module):
    """Mean-field inference with trainable kernel weights and class compatibilities.

    Args:
        num_classes: K, background included.
        pos_weight: Initial weight of the position kernel, for every class.
        pos_xy_std: Standard deviation of the position kernel in pixels; fixed.
        bi_weight: Initial weight of the bilateral kernel, for every class.
        bi_xy_std: Spatial standard deviation of the bilateral kernel in pixels; fixed.
        bi_rgb_std: Colour standard deviation of the bilateral kernel, 0-255 units; fixed.
        iterations: Number of mean-field iterations in training mode.
        test_iterations: Number of mean-field iterations in evaluation mode.
        normalisation: Normalisation of the kernels, see ``differentiable_mean_field``.
        rate: Learning rate of the layer's parameters as a multiple of the phase's rate.

    Attributes:
        pos_weight: (K,), weights of the position kernel.
        bi_weight: (K,), weights of the bilateral kernel.
        compatibility: (K,K), initially the Potts model: 0 on the diagonal, 1 elsewhere.

    Source: Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", section 5: 5 iterations in training
        and 10 at test, kernel weights per class, a compatibility matrix.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        pos_weight: float,
        pos_xy_std: float,
        bi_weight: float,
        bi_xy_std: float,
        bi_rgb_std: float,
        iterations: int = 5,
        test_iterations: int = 10,
        normalisation: Normalisation = "rows",
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.pos_weight = nn.Parameter(torch.full((num_classes,), float(pos_weight)))
        self.bi_weight = nn.Parameter(torch.full((num_classes,), float(bi_weight)))
        self.compatibility = nn.Parameter(torch.tensor((1 - np.eye(num_classes, dtype=np.float32)).tolist()))
        self.pos_xy_std = pos_xy_std
        self.bi_xy_std = bi_xy_std
        self.bi_rgb_std = bi_rgb_std
        self.iterations = iterations
        self.test_iterations = test_iterations
        self.normalisation: Normalisation = normalisation
        self.rate = rate

    def forward(self, logits: Tensor, rgb: Tensor, roi: Tensor | None = None) -> Tensor:
        """Refine logits (B,K,H,W).

        Args:
            logits: Scores before softmax, float (B,K,H,W).
            rgb: Images (B,3,H,W) in 0..255. Values are rounded and clamped, because interpolated values can be slightly
                outside.
            roi: bool (B,H,W), True on the image, False on padding. None means True everywhere.

        Returns:
            Log-probabilities (B,K,H,W), float32 or float64.
        """
        return differentiable_mean_field(
            logits,
            rgb.round().clamp(0, 255) if rgb.is_floating_point() else rgb,
            iterations=self.iterations if self.training else self.test_iterations,
            pos_weight=self.pos_weight,
            pos_xy_std=self.pos_xy_std,
            bi_weight=self.bi_weight,
            bi_xy_std=self.bi_xy_std,
            bi_rgb_std=self.bi_rgb_std,
            compatibility=self.compatibility,
            normalisation=self.normalisation,
            roi=roi,
        )
