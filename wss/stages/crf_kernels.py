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

_LEAST = 1e-5  # probabilities below are raised to it: float16 and the network know no better


class CrfParams(Params):
    """Strength and reach of the two kernels; a number given here replaces the preset's."""

    preset: Literal["largefov", "msc", "vgg16", "resnet101", "sec", "auto"] = "resnet101"
    """Published settings to start from; ``auto`` tries settings on training images with labels, and leaves the CRF out where none
    gains (stage ``crf`` alone)."""
    may_leave_out: bool = Field(default=True, json_schema_extra=LATER)
    """Preset ``auto`` may leave the CRF out. False takes the best setting even where none gains on training images."""
    iterations: int = Field(default=10, ge=0)
    """Mean-field iterations."""
    pos_weight: float | None = Field(default=None, ge=0)
    """Weight of the smoothness kernel."""
    pos_xy_std: float | None = Field(default=None, gt=0)
    """Its standard deviation in pixels."""
    bi_weight: float | None = Field(default=None, ge=0)
    """Weight of the appearance kernel."""
    bi_xy_std: float | None = Field(default=None, gt=0)
    """Its standard deviation in pixels."""
    bi_rgb_std: float | None = Field(default=None, gt=0)
    """Its standard deviation in units of 0..255 per channel."""
    backend: Literal["auto", "native", "torch", "pydensecrf"] = "auto"
    """Engine; ``pydensecrf`` is the reference (``pip install wss[pydensecrf]``)."""

    @model_validator(mode="after")
    def _auto_chooses_all(self) -> CrfParams:
        given = [name for name in _KERNELS if getattr(self, name) is not None]
        if self.preset == "auto" and given:
            raise ValueError(
                f"preset auto chooses {given[0]} itself; name a preset to start from as well, for example preset: resnet101"
            )
        return self

    def kernels(self) -> dict[str, float]:
        """The five numbers, by the names that ``wss.ops.mean_field`` takes.

        Raises:
            UsageError: The preset is ``auto``, which has no numbers before it has seen images.
        """
        if self.preset == "auto":
            raise UsageError("preset auto is known after the stage `crf` has looked at training images; name a preset")
        preset = dict(zip(_KERNELS, PRESETS[self.preset], strict=True))
        return {name: preset[name] if getattr(self, name) is None else getattr(self, name) for name in _KERNELS}


def refine(
    params: CrfParams, image: NDArray[np.uint8], probs: Tensor, valid: NDArray[np.bool_] | None = None
) -> Tensor:
    """Refine probabilities by the CRF.

    Args:
        params: Kernels, iterations and engine.
        image: uint8 (H,W,3).
        probs: (K,H,W).
        valid: bool (H,W), False where the image has no data: such pixels neither give nor receive, and keep their probabilities.
            None is data everywhere.

    Returns:
        float32 (K,H,W) on the device of ``probs``.
    """
    logits = probs.clamp(_LEAST, 1).log()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(probs.device)
    kernels: dict[str, Any] = {"iterations": params.iterations, **params.kernels()}
    if valid is not None:  # every engine follows the same conventions; this one leaves pixels out
        roi = torch.from_numpy(valid)[None].to(probs.device)
        backend = "auto" if params.backend == "pydensecrf" else params.backend
        with torch.no_grad():
            return differentiable_mean_field(logits[None], pixels[None], roi=roi, backend=backend, **kernels)[0].exp()
    if params.backend == "pydensecrf":
        return mean_field_pydensecrf(logits, pixels, **kernels)
    return mean_field(logits[None], pixels[None], backend=params.backend, **kernels)[0]
