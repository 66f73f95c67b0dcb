"""Colour gradient of an image: boundaries without any learning."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from wss.errors import UsageError

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)
"""Conversion of sRGB to XYZ, and the D65 white point."""
_LEAST_SPREAD = 1e-2
"""Smallest standard deviation of colours in CIELAB; smaller values are rounding errors."""


def colour_gradient(images: Tensor, *, smooth_px: float = 0.5) -> Tensor:
    """Magnitude of the gradient of smoothed CIELAB colours per pixel, in standard deviations of the image's colours.

    Division by the standard deviation makes it independent of the contrast. It also works for grey images.

    Args:
        images: (B,3,H,W), RGB in 0..255.
        smooth_px: Standard deviation of the Gaussian smoothing before the central differences; 0 does not smooth.

    Returns:
        (B,H,W), at least float32. Values are at least 0, and 0 for a constant image. The function is not meant to be
        differentiated.

    Raises:
        UsageError: Images are not (B,3,H,W), or smooth_px is negative.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UsageError(f"images must be (B,3,H,W), got {tuple(images.shape)}")
    if not smooth_px >= 0:
        raise UsageError(f"smooth_px must be at least 0; got {smooth_px}")
    with torch.autocast(images.device.type, enabled=False):
        lab = _lab(images.to(torch.promote_types(images.dtype, torch.float32)) / 255)
        spread = lab.var((2, 3), correction=0).sum(1).sqrt()[:, None, None]
        lab = _smoothed(lab, smooth_px)
        squares = _differences(lab, 2).square().sum(1) + _differences(lab, 3).square().sum(1)
        return squares.sqrt() / spread.clamp(min=_LEAST_SPREAD)


def _lab(rgb: Tensor) -> Tensor:
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    matrix = torch.tensor(_TO_XYZ, dtype=rgb.dtype, device=rgb.device)
    white = torch.tensor(_WHITE, dtype=rgb.dtype, device=rgb.device)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / white[:, None], linear)
    bent = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=0) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = bent.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return maps
    radius = math.ceil(4 * sigma)
    kernel = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device).div(sigma).square().mul(-0.5).exp()
    kernel = kernel / kernel.sum()
    channels = maps.shape[1]
    for shape, pad in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        window = kernel.reshape(1, 1, *shape).expand(channels, -1, -1, -1)
        maps = functional.conv2d(functional.pad(maps, pad, mode="replicate"), window, groups=channels)
    return maps


def _differences(maps: Tensor, axis: int) -> Tensor:
    """Central differences, one-sided at the border."""
    size = maps.shape[axis]
    if size == 1:
        return torch.zeros_like(maps)
    ends = maps.narrow(axis, 1, 1) - maps.narrow(axis, 0, 1), maps.narrow(axis, -1, 1) - maps.narrow(axis, -2, 1)
    middle = (maps.narrow(axis, 2, size - 2) - maps.narrow(axis, 0, size - 2)) / 2
    return torch.cat([ends[0], middle, ends[1]], axis)
