"""Stage ``walk``: labels that random walks spread from scribbles, stopped by the boundaries of a RAWKS network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wss.checkpoints import build_model
from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.losses.rawks import uncertainty_weights
from wss.methods.coarse import coarse_labels
from wss.methods.rawks import Rawks, RawksNetwork
from wss.metrics import certainty_levels
from wss.ops import hitting_probabilities, reachable
from wss.params import Params, validate
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, MODEL, SAMPLES, Store, StoreWriter


class WalkParams(Params):
    """Parameters of the stage ``walk``."""

    split: str = "train"
    """Split whose labels are propagated. The result holds only images of this split."""
    stride: int | None = Field(default=None, ge=1)
    """Side of the grid cells of the walks, in pixels. Smaller: labels follow outlines more closely. None: as in training."""


def run(params: WalkParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Propagate the labels of each image of the split.

    A pixel gets the most probable class of P in the paper; the weight w gives its certainty. Probabilities are computed on the
    grid and interpolated to the image's size. Scribbled pixels keep their labels. Images without labelled pixels stay
    unlabelled.

    Raises:
        UsageError: The network was not trained by the method rawks.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    walker = HittingLabeller(inputs["model"], context.device, params.stride)
    ids = [i for i in split_ids(samples, params.split) if i in labels]
    todo = pending(ids, output)
    advance = context.progress.task("random walks", len(ids), len(ids) - len(todo))
    for image_id in todo:
        walked = walker(samples.get("image", image_id), labels.get("labels", image_id))
        output.append(image_id, {"labels": walked.labels, "certainty": certainty_levels(1 - walked.weights)})
        advance(1, image_id)
    output.meta.update(labels.meta)
    output.meta["proposals"] = "rawks"


@dataclass(frozen=True)
class HittingLabels:
    """Result of the random walks of one image.

    Attributes:
        labels: uint8 (H,W), 255 where no walk reaches a scribble.
        weights: w(x) of (11), float (H,W) in 0..1: 1 on scribbles, 0 where no walk reaches one.
        boundary: B, float (ceil(H/stride),ceil(W/stride)), at least 0.
    """

    labels: NDArray[np.uint8]
    weights: NDArray[np.float64]
    boundary: NDArray[np.float32]


class HittingLabeller:
    """Propagates scribbles by random walks that the boundaries of a RAWKS network stop.

    Args:
        store: Model store of the network.
        device: Device on which the network runs.
        stride: Side of the grid cells of the walks, in pixels; None for the stride of training.

    Raises:
        UsageError: The network was not trained by the method rawks.

    Source: Vernaza, Chandraker 2017, (5), and w of (11).
    """

    def __init__(self, store: Store, device: torch.device, stride: int | None = None) -> None:
        if store.meta["method"]["name"] != "rawks":
            raise UsageError(
                f"random walks need a network trained by rawks; {store.path} was trained by {store.meta['method']['name']}"
            )
        method = validate(Rawks, store.meta["method"], str(store.path))
        self._alpha = method.alpha
        self._stride = stride or method.stride
        self._model = cast(RawksNetwork, build_model(store).to(device).eval())
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], scribble: NDArray[np.uint8]) -> HittingLabels:
        """Propagate the scribbles, uint8 (H,W), 255 = unlabelled, of an image, uint8 (H,W,3)."""
        rgb = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float()
        given = torch.from_numpy(np.array(scribble)).to(self._device).long()
        stride, num_classes = self._stride, self._model.network.num_classes
        boundary = self._model.boundary(rgb, stride).double()  # float64 resolves probabilities close to 1
        coarse = coarse_labels(given[None], stride, num_classes)
        probs = self._enlarged(hitting_probabilities(boundary, coarse, num_classes), given, "bilinear")
        known = self._enlarged(reachable(boundary, coarse)[:, None].float(), given, "nearest")[0] > 0
        weights = uncertainty_weights(probs[None], alpha=self._alpha)[0] * known
        labels = torch.where(given != UNLABELLED, given, torch.where(known, probs.argmax(0), UNLABELLED))
        weights = torch.where(given != UNLABELLED, 1.0, weights)
        return HittingLabels(
            labels.to(torch.uint8).cpu().numpy(), weights.cpu().numpy(), boundary[0].float().cpu().numpy()
        )

    def _enlarged(self, maps: Tensor, like: Tensor, mode: str) -> Tensor:
        size = [side * self._stride for side in maps.shape[2:]]
        align = {"align_corners": False} if mode == "bilinear" else {}
        return functional.interpolate(maps, size, mode=mode, **align)[0, :, : like.shape[0], : like.shape[1]]


STAGE = Stage(
    "walk",
    2,
    WalkParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "model": Input(MODEL)},
    LABELS,
    run,
    check=check_split,
)
