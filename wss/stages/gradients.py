"""Stage ``gradients``: pictures of the gradients of regularised losses with respect to a network's output."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.methods import Batch
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut, RegularisedLoss
from wss.params import Params
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.splits import evenly
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import PICTURES, PREDICTIONS, SAMPLES, Store, StoreWriter
from wss.viz import signed_map

AnyRegulariser = Annotated[DenseCRF | NormalizedCut | KernelCut, Field(discriminator="name")]
_TITLES = {
    "segment": "Gradients with respect to the segment of {}: negative red, positive yellow",
    "score": "Gradients with respect to the score of {}: red (negative) asks for more of it, yellow (positive) for less",
}
Of = Literal["segment", "score"]
_LEAST = 1e-5  # smaller probabilities are raised to this: float16 is not more precise
_SHORT = {"ncut": "NC", "densecrf": "CRF", "kernelcut": "KC"}


class GradientsParams(Params):
    """Parameters of the stage ``gradients``."""

    losses: tuple[AnyRegulariser, ...] = Field(default=(NormalizedCut(), DenseCRF(), KernelCut()), min_length=1)
    """Losses with their settings, as in ``train.method``. Each loss gives one picture per image."""
    images: int = Field(default=6, ge=1)
    """Maximum number of images, evenly spread over the predicted ones."""
    of: Of = "segment"
    """Variable of the gradient. ``segment``: the probabilities, as published; here the gradient of the CRF loss is never
    positive, because only differences between classes count. ``score``: the network's scores before softmax; here the sign
    says whether training lowers (+) or raises (-) the score."""


def run(params: GradientsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint the probability of one class and the gradient of each loss with respect to it.

    In each image, the class is the predicted one with most pixels, apart from the background.

    Raises:
        UsageError: The predictions were stored without probabilities, or there is no class besides background.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", Fig. 1, (11) and (12).
    """
    samples, predictions = inputs["samples"], inputs["predictions"]
    ids = predictions.ids
    ids = evenly(ids, params.images)
    classes, background = samples.meta["classes"], samples.meta["background"]
    require_probabilities(predictions, ids, "gradients")
    foreground = [k for k in range(len(classes)) if k != background]
    if not foreground:
        raise UsageError("gradients need a class other than background, and this data set has none")
    todo = pending(ids, output)
    advance = context.progress.task("gradients", len(ids), len(ids) - len(todo))
    titles = {}
    for image_id in ids:
        probs = probabilities(predictions, image_id)
        chosen = _largest(probs, foreground)
        titles[image_id] = _TITLES[params.of].format(classes[chosen])
        if image_id in todo:
            output.append(image_id, {"tiles": _tiles(params, samples, image_id, probs, chosen, context.device)})
            advance(1, image_id)
    output.meta["titles"] = titles
    output.meta["captions"] = ["Network output", *(f"{_SHORT[loss.name]} gradient" for loss in params.losses)]


def _largest(probs: NDArray[np.float32], foreground: list[int]) -> int:
    """The foreground class with most predicted pixels. Equal numbers (also 0) are decided by the sum of probabilities."""
    areas = np.bincount(probs.argmax(0).ravel(), minlength=len(probs))
    return max(foreground, key=lambda k: (int(areas[k]), float(probs[k].sum())))


def _tiles(
    params: GradientsParams,
    samples: Store,
    image_id: str,
    probs: NDArray[np.float32],
    chosen: int,
    device: torch.device,
) -> NDArray[np.uint8]:
    rgb = torch.from_numpy(np.array(samples.get("image", image_id))).permute(2, 0, 1)[None].float().to(device)
    segments = torch.from_numpy(probs / probs.sum(0))[None].to(device)
    shades = np.rint(255 * probs[chosen].clip(0, 1)).astype(np.uint8)
    tiles = [np.repeat(shades[..., None], 3, axis=2)]
    tiles += [signed_map(gradient(loss, segments, rgb, params.of)[0, chosen].cpu().numpy()) for loss in params.losses]
    return np.stack(tiles)


def gradient(loss: RegularisedLoss, probs: torch.Tensor, rgb: torch.Tensor, of: Of = "segment") -> torch.Tensor:
    """Gradient of a loss with respect to soft segments (probabilities), or to the scores before softmax.

    Args:
        loss: Loss with its settings. No pixel counts as labelled.
        probs: S, float (B,K,H,W), summing to 1 over K.
        rgb: (B,3,H,W) in 0..255.
        of: Variable of the gradient, see ``GradientsParams``.

    Returns:
        Shape and dtype of ``probs``.
    """
    shape = (len(probs), *probs.shape[2:])
    labels = torch.full(shape, UNLABELLED, dtype=torch.int64, device=probs.device)
    valid = torch.ones(shape, dtype=torch.bool, device=probs.device)
    leaf = (probs if of == "segment" else probs.clamp(min=_LEAST).log()).detach().requires_grad_()
    with torch.enable_grad():
        segments = leaf if of == "segment" else leaf.softmax(1)
        (derivative,) = torch.autograd.grad(loss.regulariser(segments, Batch(rgb, labels, valid, {}), valid), leaf)
    return derivative


STAGE = Stage(
    "gradients",
    1,
    GradientsParams,
    {"samples": Input(SAMPLES), "predictions": Input(PREDICTIONS, probs="needed")},
    PICTURES,
    run,
    reports=True,
)
