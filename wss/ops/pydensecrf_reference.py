"""Mean-field inference by pydensecrf, the implementation behind the published numbers; an optional dependency."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wss.errors import UsageError
from wss.ops.bilateral import check_images, check_sigma


def mean_field_pydensecrf(
    logits: Tensor,
    image: Tensor,
    *,
    iterations: int = 10,
    pos_weight: float,
    pos_xy_std: float,
    bi_weight: float,
    bi_xy_std: float,
    bi_rgb_std: float,
) -> Tensor:
    """Refine the segmentation of one image with pydensecrf, like ``mean_field``.

    Args:
        logits: (K,H,W) floating point, scores before softmax.
        image: (3,H,W) RGB in 0-255. It is rounded to whole numbers, because pydensecrf takes only these.
        iterations: Number of updates.
        pos_weight: Weight of the position kernel; 0 leaves it out.
        pos_xy_std: Standard deviation of the position kernel in pixels.
        bi_weight: Weight of the bilateral kernel; 0 leaves it out.
        bi_xy_std: Spatial standard deviation of the bilateral kernel in pixels.
        bi_rgb_std: Colour standard deviation of the bilateral kernel, 0-255 units.

    Returns:
        Probabilities (K,H,W) of the dtype and on the device of the logits.

    Raises:
        UsageError: pydensecrf is not installed, or the shapes do not match.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as missing:
        raise UsageError(
            "pydensecrf is not installed: `pip install wss[pydensecrf]` builds it (with a C++ compiler, about a minute); "
            "the built-in CRF gives the same labels without it"
        ) from missing
    if logits.ndim != 3 or image.shape != (3, *logits.shape[1:]):
        raise UsageError(
            f"expected logits (K,H,W) and image (3,H,W); got {tuple(logits.shape)} and {tuple(image.shape)}"
        )
    check_images(image[None])
    check_sigma(pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
    classes, height, width = logits.shape
    energy = -torch.log_softmax(logits.detach().float().cpu(), 0).clamp_(min=-1e4)
    crf = DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1).numpy()))
    if pos_weight > 0:
        crf.addPairwiseGaussian(sxy=pos_xy_std, compat=pos_weight)
    if bi_weight > 0:
        pixels = image.detach().cpu().permute(1, 2, 0).float().round().to(torch.uint8)
        writable = np.array(pixels.numpy(), order="C")
        crf.addPairwiseBilateral(sxy=bi_xy_std, srgb=bi_rgb_std, rgbim=writable, compat=bi_weight)
    probs = np.array(crf.inference(iterations), dtype=np.float32).reshape(classes, height, width)
    return torch.from_numpy(probs).to(logits)
