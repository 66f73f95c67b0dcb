"""A fully connected CRF as the last layer of a network, trained with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wss.ops import differentiable_mean_field
from wss.ops.differentiable_mean_field import Normalisation


class CRFLayer(nn.Module):
    """Mean-field iterations whose kernel weights and class compatibilities learn by back-propagation.

    Args:
        num_classes: K, background included.
        pos_weight: Initial weight of the position kernel, for every class.
        pos_xy_std: Its standard deviation in pixels; fixed.
        bi_weight: Initial weight of the bilateral kernel, for every class.
        bi_xy_std: Its standard deviation in pixels; fixed.
        bi_rgb_std: Its standard deviation in colour, 0-255 units; fixed.
        iterations: Mean-field iterations in training mode.
        test_iterations: Mean-field iterations in evaluation mode.
        normalisation: Of the kernels, see ``differentiable_mean_field``.
        rate: Learning rate of the layer's parameters as a multiple of the phase's.

    Attributes:
        pos_weight: (K,), starts at the given weight.
        bi_weight: (K,), likewise.
        compatibility: (K,K), starts as the Potts model: 0 on the diagonal, 1 elsewhere.

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
            rgb: Images (B,3,H,W) in 0..255. Values are rounded to bytes, since interpolation may leave the range by a hair.
            roi: bool (B,H,W), True where there is an image; None is everywhere.

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
