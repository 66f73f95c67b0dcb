"""Stage ``crf``: fully connected CRF post-processing of predicted probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from wss.distributed import shared
from wss.ops import differentiable_mean_field, mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf
from wss.params import Params
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import PREDICTIONS, SAMPLES, Store, StoreWriter

PRESETS: dict[str, tuple[float, float, float, float, float]] = {
    "largefov": (3, 3, 5, 50, 10),
    "msc": (3, 3, 4, 83, 5),
    "vgg16": (2, 2, 4, 65, 3),
    "resnet101": (3, 1, 4, 67, 3),
    "sec": (3, 3, 10, 80, 13),
}
"""Published settings by network: pos_weight, pos_xy_std, bi_weight, bi_xy_std, bi_rgb_std."""

_LEAST = 1e-5  # probabilities below are raised to it: float16 and the network know no better


class CrfParams(Params):
    """Strength and reach of the two kernels; a number given here replaces the preset's."""

    preset: Literal["largefov", "msc", "vgg16", "resnet101", "sec"] = "resnet101"
    """Published settings to start from."""
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

    def kernels(self) -> dict[str, float]:
        """The five numbers, by the names that ``wss.ops.mean_field`` takes."""
        names = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")
        preset = dict(zip(names, PRESETS[self.preset], strict=True))
        return {name: preset[name] if getattr(self, name) is None else getattr(self, name) for name in names}


def run(params: CrfParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Refine every predicted image; on each GPU of the run one after another, on the CPU ``jobs`` at once.

    Raises:
        UsageError: The predictions were stored without probabilities.
    """
    samples, predictions = inputs["samples"], inputs["predictions"]
    require_probabilities(predictions, predictions.ids, "crf")
    todo = pending(predictions.ids, output)
    advance = context.progress.task("dense CRF", len(predictions), len(predictions) - len(todo))
    refine_one = partial(_refine, params, samples, predictions, str(context.device))
    if context.device.type == "cuda":
        refined: Iterator[tuple[str, NDArray[np.uint8]]] = shared(refine_one, todo)
    else:
        refined = zip(todo, each(refine_one, ((image_id,) for image_id in todo), context.jobs), strict=True)
    for image_id, labels in refined:
        output.append(image_id, {"labels": labels})
        advance(1, image_id)
    output.meta.update(predictions.meta)
    output.meta["crf"] = {"iterations": params.iterations, **params.kernels()}


def _refine(params: CrfParams, samples: Store, predictions: Store, device: str, image_id: str) -> NDArray[np.uint8]:
    probs = torch.from_numpy(probabilities(predictions, image_id)).to(device)
    valid = samples.get("valid", image_id) > 0 if samples.has("valid", image_id) else None
    refined = refine(params, samples.get("image", image_id), probs, valid)
    labels: NDArray[np.uint8] = refined.argmax(0).to(torch.uint8).cpu().numpy()
    return labels


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


STAGE = Stage(
    "crf",
    1,
    CrfParams,
    {"samples": Input(SAMPLES), "predictions": Input(PREDICTIONS, probs="needed")},
    PREDICTIONS,
    run,
)
