"""Gaussian filter over position and colour: the matrix W of the regularised losses and of DenseCRF."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from wss import devices
from wss.errors import DataError, UsageError
from wss.kernels import native
from wss.kernels.geometry import Geometry
from wss.ops.lattice import TorchLattice, planes_of, rows_of

Backend = Literal["auto", "torch", "native"]
Mode = Literal["symmetric", "compat", "accurate"]

# Blur order of W and of its transpose.
_ORDERS = {
    "symmetric": (native.MEAN, native.MEAN),
    "compat": (native.FORWARD, native.REVERSE),
    "accurate": (native.THERE_AND_BACK, native.THERE_AND_BACK),
}


class BilateralFilter:
    """Multiply by the Gaussian affinity matrix W of each image.

    W_pq = exp(-|x_p - x_q|^2 / (2 sigma_xy^2) - |c_p - c_q|^2 / (2 sigma_rgb^2)), with positions x and colours c. W is
    dense but never formed. Pixels are splatted onto a permutohedral lattice, blurred there and sliced back; the time is
    linear in the number of pixels. The constructor builds the lattice once, for all channels, calls and backward
    passes.

    The error of the approximation is known. Row sums of ``symmetric`` and ``compat`` are about 0.6 times those of the
    exact Gaussian. Normalised results (W x) / (W 1) are within about 5 % of the exact ones. Weights tuned with one mode
    are not valid for another mode.

    Args:
        images: (B,3,H,W), RGB in 0-255, any dtype.
        sigma_rgb: Standard deviation in colour, in 0-255 units. None ignores colour (a Gaussian over positions).
        sigma_xy: Standard deviation in position, in pixels.
        roi: (B,H,W) bool, True inside the region of interest. Pixels outside (padding) do not take part; their result
            is 0.
        backend: ``native`` (compiled, CPU, float32), ``torch`` (any device, in the dtype of x), or ``auto``: native if
            possible. For images in float64 ``auto`` takes torch, because float64 asks for precision.
        mode: ``symmetric``: W is symmetric (the mean over both blur orders), so W 1 - 2 W S is the exact gradient of
            S'W(1 - S). ``compat``: agrees with pydensecrf, whose W is symmetric only to 2-3 %. ``accurate``: blurs a
            finer lattice forwards and backwards; W is symmetric, positive semi-definite and scaled like the exact
            Gaussian, but several times slower.
        exact: Sum over all pairs of pixels instead: the exact result in quadratic time, for tests and small images.

    Attributes:
        exact: As given. It may be changed at any time.

    Raises:
        UsageError: Shapes, dtypes or standard deviations are unusable, or the images seem to be in 0..1.
        DataError: The images hold NaN or values outside 0-255.

    Source:
        Adams, Baek, Davis 2010 (permutohedral lattice); Krähenbühl, Koltun 2011 (its use for DenseCRF); Tang et al. 2018,
        On regularized losses for weakly-supervised CNN segmentation, section 3 (W in losses).
    """

    def __init__(
        self,
        images: Tensor,
        sigma_rgb: float | None,
        sigma_xy: float,
        roi: Tensor | None = None,
        backend: Backend = "auto",
        *,
        mode: Mode = "symmetric",
        exact: bool = False,
    ) -> None:
        if mode not in _ORDERS:
            raise UsageError(f"mode is one of {', '.join(_ORDERS)}; got {mode!r}")
        check_sigma(sigma_xy=sigma_xy)
        if sigma_rgb is not None:
            check_sigma(sigma_rgb=sigma_rgb)
        check_images(images, use_colour=sigma_rgb is not None)
        if roi is not None:
            expected = (images.shape[0], *images.shape[2:])
            if roi.shape != expected or roi.dtype != torch.bool or roi.device != images.device:
                raise UsageError(
                    f"roi must be bool {expected} on {images.device} like the images; "
                    f"got {roi.dtype} {tuple(roi.shape)} on {roi.device}"
                )
            roi = roi.contiguous()
        self.exact = exact
        self.mode = mode
        self.backend = resolve_backend(backend, images)
        self.roi = roi
        self._images = images.detach()
        self._sigmas = (sigma_xy, sigma_rgb)
        self._built: native.NativeLattice | TorchLattice | None = None
        if not exact:
            self._lattice()

    def filter(self, x: Tensor) -> Tensor:
        """Return W x, unnormalised.

        Args:
            x: (B,C,H,W) floating point, any C >= 1. The result is twice differentiable in x.

        Returns:
            (B,C,H,W) of the dtype of x. Half precision is computed in float32.

        Raises:
            UsageError: x does not match the images.
            DataError: x holds NaN or infinity.
        """
        batch, _, height, width = self._images.shape
        if x.ndim != 4 or x.shape[1] < 1 or (x.shape[0], *x.shape[2:]) != (batch, height, width):
            raise UsageError(
                f"x must be (B,C,H,W) = ({batch},C,{height},{width}) like the images; got {tuple(x.shape)}"
            )
        if not x.is_floating_point() or x.device != self._images.device:
            raise UsageError(f"x must be floating point on {self._images.device}; got {x.dtype} on {x.device}")
        result, finite = _Multiply.apply(x, self, False)  # type: ignore[no-untyped-call]
        devices.refuse(~finite, _not_finite)
        return result  # type: ignore[no-any-return]

    def _lattice(self) -> native.NativeLattice | TorchLattice:
        if self._built is None:
            sigma_xy, sigma_rgb = self._sigmas
            height, width = self._images.shape[2:]
            geometry = Geometry.of(height, width, sigma_xy, sigma_rgb, blurs=2 if self.mode == "accurate" else 1)
            images = self._images.to(torch.float32).contiguous()
            lattice = native.NativeLattice if self.backend == "native" else TorchLattice
            self._built = lattice(geometry, images, self.roi)
        return self._built

    def _multiply(self, x: Tensor, transpose: bool) -> tuple[Tensor, Tensor]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if self.exact:
            result, finite = self._multiply_exactly(wide)
        else:
            result, all_finite = self._lattice().filter(wide, _ORDERS[self.mode][int(transpose)])
            finite = all_finite if isinstance(all_finite, Tensor) else torch.tensor(all_finite)
        return result.to(x.dtype), finite

    def _multiply_exactly(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sigma_xy, sigma_rgb = self._sigmas
        batch, channels, height, width = x.shape
        y, z = torch.meshgrid(
            torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
        )
        positions = torch.stack([y, z], -1).view(1, -1, 2).to(x) / sigma_xy
        features = positions.expand(batch, -1, -1)
        if sigma_rgb is not None:
            features = torch.cat([features, rows_of(self._images).view(batch, -1, 3).to(x) / sigma_rgb], 2)
        inside = torch.ones_like(features[..., :1]) if self.roi is None else self.roi.view(batch, -1, 1).to(x)
        source = rows_of(x).view(batch, -1, channels) * inside
        chunks = [
            torch.exp(-0.5 * (chunk[:, :, None] - features[:, None]).square().sum(3)) @ source
            for chunk in torch.split(features, 256, dim=1)
        ]
        return planes_of((torch.cat(chunks, 1) * inside).flatten(0, 1), x), torch.isfinite(x).all()


class _Multiply(torch.autograd.Function):
    """W x. The backward pass multiplies the gradient by the transpose of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bilateral: BilateralFilter, transpose: bool) -> tuple[Tensor, Tensor]:
        ctx.bilateral, ctx.transpose = bilateral, transpose
        result, finite = bilateral._multiply(x.detach(), transpose)
        ctx.mark_non_differentiable(finite)
        return result, finite

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        # No check for finite values here: a gradient scaler must see infinite gradients.
        return _Multiply.apply(grads[0], ctx.bilateral, not ctx.transpose)[0], None, None  # type: ignore[no-untyped-call]


def resolve_backend(backend: Backend, images: Tensor) -> Literal["torch", "native"]:
    """Return the backend to use for these images.

    Raises:
        UsageError: The name is unknown, the native kernels are not installed, or the images are not on the CPU.
    """
    if backend == "torch":
        return "torch"
    if backend == "auto":
        fits = devices.on_host(images) and images.dtype != torch.float64
        return "native" if fits and native.available() else "torch"
    if backend != "native":
        raise UsageError(f"backend is one of auto, torch, native; got {backend!r}")
    if images.device.type != "cpu":
        raise UsageError(
            f"backend='native' runs on the CPU; the images are on {images.device}: use backend='torch' or 'auto'"
        )
    native.require()
    return "native"


def check_sigma(**sigmas: float) -> None:
    """Raise an error that names a standard deviation if it is not a positive number."""
    for name, sigma in sigmas.items():
        if not 0 < sigma < float("inf"):
            raise UsageError(f"{name} is a standard deviation and must be a positive number; got {sigma}")


def check_images(images: Tensor, *, use_colour: bool = True) -> None:
    """Raise an error for images that are not (B,3,H,W) RGB in 0-255.

    Raises:
        UsageError: The shape is wrong, or floating-point values seem to be in 0..1.
        DataError: The images hold NaN or values outside 0-255.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise UsageError(f"images must be (B,3,H,W) with at least one pixel; got {tuple(images.shape)}")
    if not use_colour:
        return
    lowest, highest = torch.aminmax(images.detach())
    devices.refuse(~((lowest >= 0) & (highest <= 255)), _not_in_range, lowest, highest)
    # Whole numbers up to 1 can be a very dark crop of an image with values in 0-255.
    if images.is_floating_point():
        suspicious = (lowest < highest) & (highest <= 1)
        # On a GPU the comparison costs less than waiting for the range.
        if not devices.on_host(images) or bool(suspicious):
            devices.refuse(suspicious & (images != images.round()).any(), _not_0_to_255, lowest, highest)


def _not_finite() -> DataError:
    return DataError(
        "x holds NaN or infinity, which filtering would spread over the image: look for a diverged network "
        "(lower the learning rate) or a logarithm of zero before it"
    )


def _not_in_range(lowest: float, highest: float) -> DataError:
    return DataError(
        f"images must be RGB in 0-255; got values from {lowest:g} to {highest:g}"
        + (": undo the normalisation (multiply by the standard deviation, add the mean) first" if lowest < 0 else "")
    )


def _not_0_to_255(lowest: float, highest: float) -> UsageError:
    return UsageError(
        f"images must be RGB in 0-255; got values from {lowest:g} to {highest:g}, which looks like 0..1: multiply by 255"
    )
