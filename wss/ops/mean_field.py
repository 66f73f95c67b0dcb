"""Mean-field inference in the fully connected CRF of Krähenbühl and Koltun."""

from __future__ import annotations

import torch
from torch import Tensor

from wss import devices
from wss.errors import DataError, UsageError
from wss.kernels import native
from wss.kernels.geometry import Geometry
from wss.ops.bilateral import Backend, check_images, check_sigma, resolve_backend
from wss.ops.lattice import TorchLattice, planes_of, rows_of


def mean_field(
    logits: Tensor,
    images: Tensor,
    *,
    iterations: int = 10,
    pos_weight: float,
    pos_xy_std: float,
    bi_weight: float,
    bi_xy_std: float,
    bi_rgb_std: float,
    backend: Backend = "auto",
) -> Tensor:
    """Refine a segmentation with DenseCRF: Q <- softmax(log softmax(logits) + sum_m w_m K_m Q), from Q = softmax(logits).

    The kernels are K_m = D^-1/2 W_m D^-1/2 with D = diag(W_m 1). One W_m is a Gaussian over positions, the other a
    bilateral Gaussian over positions and colours, both on the permutohedral lattice. The compatibility is the Potts
    model. All conventions are those of pydensecrf (``addPairwiseGaussian`` and ``addPairwiseBilateral`` with their
    default normalisation), and results agree with it.

    Args:
        logits: (B,K,H,W) floating point, K >= 1: scores before softmax, or log-probabilities. -inf forbids a class at a
            pixel; at least one class must be allowed.
        images: (B,3,H,W) RGB in 0-255, any dtype.
        iterations: Number of updates; 0 returns softmax(logits).
        pos_weight: Weight of the position kernel, >= 0; 0 leaves it out.
        pos_xy_std: Standard deviation of the position kernel in pixels.
        bi_weight: Weight of the bilateral kernel, >= 0; 0 leaves it out.
        bi_xy_std: Spatial standard deviation of the bilateral kernel in pixels.
        bi_rgb_std: Colour standard deviation of the bilateral kernel, 0-255 units.
        backend: ``native`` (compiled, CPU, float32), ``torch`` (any device), or ``auto``: native if possible.

    Returns:
        Probabilities (B,K,H,W) of the dtype of the logits, summing to 1 over K. They carry no gradient.

    Raises:
        UsageError: Shapes or parameters are unusable, or the images seem to be in 0..1.
        DataError: The logits hold NaN or +inf, or forbid all classes at a pixel; the images hold NaN or values outside
            0-255.

    Source: Krähenbühl, Koltun: Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011, algorithm 1.
    Differs: as in the authors' code, a pixel also sends a message to itself, and the kernels are normalised symmetrically.
    """
    check_inputs(logits, images, iterations)
    check_sigma(pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
    if not 0 <= pos_weight < float("inf") or not 0 <= bi_weight < float("inf"):
        raise UsageError(f"pos_weight and bi_weight must not be negative; got {pos_weight} and {bi_weight}")
    logits, images = logits.detach(), images.detach()
    height, width = images.shape[2:]
    colour = Geometry.of(height, width, bi_xy_std, bi_rgb_std)
    position = Geometry.of(height, width, pos_xy_std, None)
    if resolve_backend(backend, images) == "native" and (backend == "native" or logits.dtype != torch.float64):
        if logits.shape[1] <= native.MAX_CLASSES:
            probs = native.mean_field(
                logits.to(torch.float32).contiguous(),
                images.to(torch.float32).contiguous(),
                (colour, bi_weight),
                (position, pos_weight),
                iterations,
            )
            return probs.to(logits.dtype)
        if backend == "native":
            raise UsageError(
                f"the native kernels handle at most {native.MAX_CLASSES} classes; got {logits.shape[1]}: use backend='torch'"
            )
    return _mean_field_torch(logits, images, [(colour, bi_weight), (position, pos_weight)], iterations)


def check_inputs(logits: Tensor, images: Tensor, iterations: int) -> None:
    """Check the inputs of mean-field inference, see ``mean_field``.

    Raises:
        UsageError: Shapes disagree, the number of iterations is negative, or the images seem to be in 0..1.
        DataError: The logits hold NaN or +inf, or forbid all classes at a pixel; the images hold NaN or values outside
            0-255.
    """
    if logits.ndim != 4 or logits.shape[1] < 1 or not logits.is_floating_point():
        raise UsageError(
            f"logits must be floating point (B,K,H,W) with K >= 1; got {logits.dtype} {tuple(logits.shape)}"
        )
    if logits.shape[0] != images.shape[0] or logits.shape[2:] != images.shape[2:] or logits.device != images.device:
        raise UsageError(
            f"logits and images must agree in batch, size and device; got {tuple(logits.shape)} on {logits.device} and "
            f"{tuple(images.shape)} on {images.device}"
        )
    check_images(images)
    if iterations < 0:
        raise UsageError(f"the number of iterations must not be negative; got {iterations}")
    devices.refuse(~torch.isfinite(logits.detach().amax(1)).all(), _unusable)


def _unusable() -> DataError:
    return DataError(
        "logits hold NaN or +inf, or -inf for every class of a pixel: look for a diverged network or a logarithm of zero"
    )


def _mean_field_torch(
    logits: Tensor, images: Tensor, weighted: list[tuple[Geometry, float]], iterations: int
) -> Tensor:
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    unary = rows_of(logits).to(wide)
    kernels = [_NormalisedKernel(geometry, weight, images, wide) for geometry, weight in weighted if weight > 0]
    probs = torch.softmax(unary, 1)
    for _ in range(iterations):
        # In place, because allocating a tensor of this size costs more than the sum.
        messages = [kernel.message(probs) for kernel in kernels]
        scores = messages[0].add_(unary) if messages else unary
        for message in messages[1:]:
            scores.add_(message)
        probs = torch.softmax(scores, 1)
    return planes_of(probs, logits).to(logits.dtype)


class _NormalisedKernel:
    """w D^-1/2 W D^-1/2. The barycentric weights of splat and slice contain the scaling."""

    def __init__(self, geometry: Geometry, weight: float, images: Tensor, dtype: torch.dtype) -> None:
        lattice = TorchLattice(geometry, images, None)
        ones = torch.ones(len(lattice.corners), 1, dtype=dtype, device=images.device)
        mass = lattice.factor * lattice.slice(lattice.blur(lattice.splat(ones), native.FORWARD))[:, 0]
        self.lattice = lattice.scaled((weight * lattice.factor / (mass + 1e-20)).sqrt())

    def message(self, probs: Tensor) -> Tensor:
        return self.lattice.slice(self.lattice.blur(self.lattice.splat(probs), native.FORWARD))
