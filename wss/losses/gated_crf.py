"""The gated CRF loss: affinity that soft segments cut within a local window, between pixels that the gates select."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wss.distributed import all_reduce_sum
from wss.errors import UsageError
from wss.losses.pairwise import soft_segments, with_gradient


def gated_crf_loss(
    probs: Tensor,
    images: Tensor,
    *,
    radius: int = 5,
    sigma_rgb: float = 25.5,
    sigma_xy: float = 6.0,
    colour_weight: float = 1.0,
    position_weight: float = 0.0,
    sources: Tensor | None = None,
    destinations: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Potts energy of soft segments S in a window: 1/|D| sum_i in D sum_j in S(i) k_ij (1 - S_i' S_j).

    k_ij = w_c exp(-|rgb_i - rgb_j|^2 / 2 sigma_rgb^2 - |xy_i - xy_j|^2 / 2 sigma_xy^2) + w_p exp(-|xy_i - xy_j|^2 / 2 sigma_xy^2)
    S(i) is the set of other source pixels at most ``radius`` away from i in x and y, D the set of destination pixels.
    The loss needs no lattice and no filter of the whole image; it does not relate pixels that are far apart. One pass
    over half of the window gives value and gradient, because the other half is its mirror image. The memory is that of
    a few copies of S.

    Args:
        probs: S, float (B,K,H,W), in 0..1 and summing to 1 over K. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype, not normalised.
        radius: Radius of the window, in pixels of the reduced image (see ``scale``).
        sigma_rgb: Standard deviation in colour, 0-255 units.
        sigma_xy: Standard deviation of position, in pixels of the reduced image. Unlike in ``dense_crf_loss`` it does
            not change with ``scale``, because the window does not change either.
        colour_weight: w_c, weight of the kernel of colour and position.
        position_weight: w_p, weight of the kernel of position alone.
        sources: bool (B,H,W), pixels with which others are compared. None means all pixels. It must be False on
            padding.
        destinations: bool (B,H,W), pixels whose energy counts. None means all pixels.
        scale: Factor in (0,1] by which S, images and gates are reduced first, see ``soft_segments``. A reduced gate is
            open if it is open on at least half of the area.

    Returns:
        A scalar, at least 0 and at most the number of pixels in the window times the sum of the weights. If no
        destination has a source, it is a differentiable 0.

    Raises:
        UsageError: Shapes or settings are unusable, or the images seem to be in 0..1.
        DataError: probs hold NaN or are not in 0..1, or images are not in 0-255.

    Source: Obukhov et al. 2019, "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation", arXiv:1906.04651: the energy
        with the Potts compatibility, and its published settings (radius 5, sigma 6 and 0.1 of the range of colours).
    Differs: pixels outside the image are no neighbours; the published code takes them as black pixels, whose energy is
        constant. A reduced gate is open if half of its area is open; the published code requires the whole area.
    """
    if radius < 1 or radius != int(radius):
        raise UsageError(f"radius is a whole number of pixels, at least 1; got {radius}")
    if not (0 < sigma_rgb < math.inf and 0 < sigma_xy < math.inf):
        raise UsageError(f"sigma_rgb and sigma_xy must be positive; got {sigma_rgb} and {sigma_xy}")
    if min(colour_weight, position_weight) < 0 or colour_weight + position_weight == 0:
        raise UsageError(
            f"colour_weight and position_weight must be at least 0, and one above; got {colour_weight} and {position_weight}"
        )
    gates = [_gate(gate, probs, name) for gate, name in ((sources, "sources"), (destinations, "destinations"))]
    segments = soft_segments(probs, images, gates[0] | gates[1], None, "plain", scale)
    with torch.no_grad(), torch.autocast(probs.device.type, enabled=False):
        soft = segments.probs.detach().contiguous()
        colours = segments.images.to(soft.dtype) / sigma_rgb
        source, destination = (_reduced(gate, segments.roi, soft) for gate in gates)
        gradient = torch.zeros_like(soft)
        total = soft.new_zeros(())
        for first, second, distance in _pairs(soft.shape[2], soft.shape[3], radius):
            near = math.exp(-distance / (2 * sigma_xy**2))
            affinity = (colours[first] - colours[second]).square_().sum(1, keepdim=True).mul_(-0.5).exp_()
            affinity.mul_(colour_weight * near).add_(position_weight * near)
            affinity.mul_(destination[first] * source[second] + destination[second] * source[first])
            total += affinity.sum()
            gradient[first].addcmul_(affinity, soft[second])
            gradient[second].addcmul_(affinity, soft[first])
        count = all_reduce_sum(destination.sum()).clamp(min=1)
        value = (total - (soft * gradient).sum() / 2) / count
        gradient.div_(-count)
    return with_gradient(segments.probs, value, gradient)


_Place = tuple[slice, slice, slice, slice]


def _pairs(height: int, width: int, radius: int) -> Iterator[tuple[_Place, _Place, int]]:
    """Yield for each offset in half of the window: slices of first pixels, of second pixels, squared distance."""
    every = slice(None)
    for down in range(min(radius, height - 1) + 1):
        for right in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if down > 0 or right > 0:
                first = (every, every, slice(0, height - down), slice(max(0, -right), width - max(0, right)))
                second = (every, every, slice(down, height), slice(max(0, right), width + min(0, right)))
                yield first, second, down**2 + right**2


def _gate(gate: Tensor | None, probs: Tensor, name: str) -> Tensor:
    shape = (probs.shape[0], *probs.shape[2:])
    if gate is None:
        return torch.ones(shape, dtype=torch.bool, device=probs.device)
    if gate.shape != shape or gate.dtype != torch.bool:
        raise UsageError(f"{name} must be bool (B,H,W), {shape}; got {gate.dtype} {tuple(gate.shape)}")
    return gate


def _reduced(gate: Tensor, roi: Tensor | None, soft: Tensor) -> Tensor:
    """A gate at the resolution of the loss, (B,1,h,w) of 0 and 1."""
    share = gate[:, None].to(soft.dtype)
    if share.shape[2:] != soft.shape[2:]:
        share = interpolate(share, soft.shape[2:], mode="bilinear", align_corners=False)
    is_open = share >= 0.5
    return (is_open if roi is None else is_open & roi[:, None]).to(soft.dtype)
