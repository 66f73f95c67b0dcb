"""Settings of the dense CRF, and the refinement of one image by it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from wss.errors import UsageError
from wss.ops import differentiable_mean_field, mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf
from wss.params import LATER, Params

PRESETS: dict[str, tuple[float, float, float, float, float]] = {
    "largefov": (3, 3, 5, 50, 10),
    "msc": (3, 3, 4, 83, 5),
    "vgg16": (2, 2, 4, 65, 3),
    "resnet101": (3, 1, 4, 67, 3),
    "sec": (3, 3, 10, 80, 13),
}
"""Published settings by network: pos_weight, pos_xy_std, bi_weight, bi_xy_std, bi_rgb_std."""

_KERNELS = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")

_LEAST = 1e-5  # smaller probabilities are raised to this: float16 and the network are not more precise


class CrfParams(Params):
    """Weights and standard deviations of the two CRF kernels. A number given here replaces the number of the preset."""

    preset: Literal["largefov", "msc", "vgg16", "resnet101", "sec", "auto"] = "resnet101"
    """Published settings, named by network. ``auto`` (only in the stage ``crf``) tries several settings on labelled training
    images and leaves the CRF out if none of them improves the result."""
    may_leave_out: bool = Field(default=True, json_schema_extra=LATER)
    """True lets ``auto`` leave the CRF out. False makes it take the best setting, even if none improves the result."""
    iterations: int = Field(default=10, ge=0)
    """Number of mean-field iterations."""
    pos_weight: float | None = Field(default=None, ge=0)
    """Weight of the smoothness kernel. Larger: small regions disappear. None: as in the preset."""
    pos_xy_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the smoothness kernel in pixels. None: as in the preset."""
    bi_weight: float | None = Field(default=None, ge=0)
    """Weight of the appearance kernel. Larger: borders follow image colours more. None: as in the preset."""
    bi_xy_std: float | None = Field(default=None, gt=0)
    """Spatial standard deviation of the appearance kernel in pixels. Larger: more distant pixels interact. None: as in the
    preset."""
    bi_rgb_std: float | None = Field(default=None, gt=0)
    """Colour standard deviation of the appearance kernel, in units of 0..255 per channel. Larger: less similar colours still
    count as similar. None: as in the preset."""
    backend: Literal["auto", "native", "torch", "pydensecrf"] = "auto"
    """Implementation. ``pydensecrf`` is the reference (``pip install wss[pydensecrf]``)."""

    @model_validator(mode="after")
    def _auto_chooses_all(self) -> CrfParams:
        given = [name for name in _KERNELS if getattr(self, name) is not None]
        if self.preset == "auto" and given:
            raise ValueError(
                f"preset auto chooses {given[0]} itself; to set {given[0]}, name a preset as well, for example preset: resnet101"
            )
        return self

    def kernels(self) -> dict[str, float]:
        """The five kernel numbers, under the argument names of ``wss.ops.mean_field``.

        Raises:
            UsageError: The preset is ``auto``, whose numbers are known only after the stage ``crf`` has chosen them.
        """
        if self.preset == "auto":
            raise UsageError(
                "the numbers of preset auto are known only after the stage `crf` has looked at training images; name a preset"
            )
        preset = dict(zip(_KERNELS, PRESETS[self.preset], strict=True))
        return {name: preset[name] if getattr(self, name) is None else getattr(self, name) for name in _KERNELS}


def refine(
    params: CrfParams, image: NDArray[np.uint8], probs: Tensor, valid: NDArray[np.bool_] | None = None
) -> Tensor:
    """Refine the class probabilities of one image by the CRF.

    Args:
        params: Kernels, iterations and implementation.
        image: uint8 (H,W,3).
        probs: (K,H,W).
        valid: bool (H,W), False where the image has no data. Such pixels send and receive no messages and keep their
            probabilities. None: all pixels have data.

    Returns:
        float32 (K,H,W) on the device of ``probs``.
    """
    logits = probs.clamp(_LEAST, 1).log()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(probs.device)
    kernels: dict[str, Any] = {"iterations": params.iterations, **params.kernels()}
    if valid is not None:  # all backends follow the same conventions; only this one can leave pixels out
        roi = torch.from_numpy(valid)[None].to(probs.device)
        backend = "auto" if params.backend == "pydensecrf" else params.backend
        with torch.no_grad():
            return differentiable_mean_field(logits[None], pixels[None], roi=roi, backend=backend, **kernels)[0].exp()
    if params.backend == "pydensecrf":
        return mean_field_pydensecrf(logits, pixels, **kernels)
    return mean_field(logits[None], pixels[None], backend=params.backend, **kernels)[0]
