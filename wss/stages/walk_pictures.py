"""Stage ``walk-pictures``: pictures of a RAWKS network's boundaries, the labels that walks propagate, and their weights."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.labels import UNLABELLED
from wss.params import Params
from wss.stages.splits import check_split, evenly, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.stages.walk import HittingLabeller, HittingLabels
from wss.store import LABELS, MODEL, PICTURES, SAMPLES, StoreWriter
from wss.viz import overlay


class WalkPicturesParams(Params):
    """Parameters of the stage ``walk-pictures``."""

    split: str = "val"
    """Split from which images are chosen. Images without scribbles are skipped."""
    images: int = Field(default=6, ge=1)
    """Maximum number of images, evenly spread over the split."""


def run(params: WalkPicturesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint boundaries (black where no walk passes), propagated labels, and weights (red = 1, blue = 0).

    Raises:
        UsageError: The network was not trained by the method rawks.

    Source: Vernaza, Chandraker 2017, Fig. 4.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    walker = HittingLabeller(inputs["model"], context.device)
    ids = [i for i in split_ids(samples, params.split) if i in labels and (labels.get("labels", i) != UNLABELLED).any()]
    if not ids:
        context.progress.say(f"walk-pictures: no image of {params.split!r} has scribbles: there is nothing to show")
    ids = evenly(ids, params.images)
    todo = pending(ids, output)
    advance = context.progress.task("random-walk pictures", len(ids), len(ids) - len(todo))
    palette = np.array(samples.meta["palette"], np.uint8)
    for image_id in todo:
        image = samples.get("image", image_id)
        walked = walker(image, labels.get("labels", image_id))
        painted = overlay(image, walked.labels, palette, unpainted=samples.meta["background"])
        output.append(image_id, {"tiles": np.stack([boundary_map(walked), painted, weight_map(walked)])})
        advance(1, image_id)
    output.meta["captions"] = ["Boundaries", "Propagated labels", "Weights"]
    output.meta["titles"] = dict.fromkeys(ids, "Boundaries: black stops walks. Weights: red is 1, blue is 0")


def boundary_map(found: HittingLabels) -> NDArray[np.uint8]:
    """exp(-B), the probability that a walk passes, as grey levels, uint8 (H,W,3)."""
    height, width = found.labels.shape
    shades = np.rint(255 * np.exp(-found.boundary.astype(np.float64))).astype(np.uint8)
    stride = -(-height // shades.shape[0])
    whole = np.repeat(np.repeat(shades, stride, 0), stride, 1)[:height, :width]
    return np.repeat(whole[..., None], 3, axis=2)


def weight_map(found: HittingLabels) -> NDArray[np.uint8]:
    """Weights as colours, uint8 (H,W,3): blue is 0, red is 1."""
    painted = cv2.applyColorMap(np.rint(255 * found.weights).astype(np.uint8), cv2.COLORMAP_JET)
    return np.ascontiguousarray(painted[..., ::-1], np.uint8)


STAGE = Stage(
    "walk-pictures",
    1,
    WalkPicturesParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "model": Input(MODEL)},
    PICTURES,
    run,
    check=check_split,
    reports=True,
)
