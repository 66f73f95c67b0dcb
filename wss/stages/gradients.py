"""Stage ``gradients``: what regularised losses ask of a network's output, as pictures."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.methods import Batch
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut, RegularisedLoss
from wss.params import Params
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.samples import evenly
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import PICTURES, PREDICTIONS, SAMPLES, Store, StoreWriter
from wss.viz import signed_map

AnyRegulariser = Annotated[DenseCRF | NormalizedCut | KernelCut, Field(discriminator="name")]
_TITLES = {
    "segment": "Gradients with respect to the segment of {}: negative red, positive yellow",
    "score": "Gradients with respect to the score of {}: red (negative) asks for more of it, yellow (positive) for less",
}
Of = Literal["segment", "score"]
_LEAST = 1e-5  # probabilities below are raised to it: float16 knows no better
_SHORT = {"ncut": "NC", "densecrf": "CRF", "kernelcut": "KC"}


class GradientsParams(Params):
    """Which losses, and for how many images."""

    losses: tuple[AnyRegulariser, ...] = Field(default=(NormalizedCut(), DenseCRF(), KernelCut()), min_length=1)
    """Losses with their settings, as in ``train.method``; there is a picture of each."""
    images: int = Field(default=6, ge=1)
    """So many of the predicted images, evenly spread."""
    of: Of = "segment"
    """``segment``: with respect to the probabilities, as published; the CRF loss's is nowhere positive, since only differences
    between classes count. ``score``: with respect to the network's scores before softmax, whose signs say what it is told."""


def run(params: GradientsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint the probability of one class and the gradient of each loss with respect to it.

    The class is, in each image, the one besides background that most pixels are predicted to be.

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
        raise UsageError("gradients are those of a class besides background, and this data set has none")
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
    """The class that most pixels are predicted to be; where none is, the one with most probability."""
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
    """The gradient of a loss with respect to soft segments, or to the scores they are the softmax of.

    Args:
        loss: With its settings; no pixel counts as labelled.
        probs: S, float (B,K,H,W), summing to 1 over K.
        rgb: (B,3,H,W) in 0..255.
        of: With respect to what, see ``GradientsParams``.

    Returns:
        Like ``probs``.
    """
    shape = (len(probs), *probs.shape[2:])
    labels = torch.full(shape, 255, dtype=torch.int64, device=probs.device)
    valid = torch.ones(shape, dtype=torch.bool, device=probs.device)
    leaf = (probs if of == "segment" else probs.clamp(min=_LEAST).log()).detach().requires_grad_()
    with torch.enable_grad():
        segments = leaf if of == "segment" else leaf.softmax(1)
        (found,) = torch.autograd.grad(loss.regulariser(segments, Batch(rgb, labels, valid, {}), valid), leaf)
    return found


STAGE = Stage(
    "gradients",
    1,
    GradientsParams,
    {"samples": Input(SAMPLES), "predictions": Input(PREDICTIONS, probs="needed")},
    PICTURES,
    run,
    reports=True,
)
