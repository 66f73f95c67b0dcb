"""Stage ``superpixel-bound``: the best possible labels that are constant within superpixels, made from masks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.params import Params
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, SAMPLES, SUPERPIXELS, StoreWriter


class SuperpixelBoundParams(Params):
    """Parameters of the stage ``superpixel-bound``."""

    rule: Literal["spopt", "spcon"] = "spopt"
    """``spopt``: each superpixel gets the majority label of the mask. ``spcon``: superpixels with scribbles get the majority
    label of the scribbles instead."""
    split: str = "train"
    """Split whose images are labelled. Images without a mask are skipped. The result holds only images of this split."""


def run(params: SuperpixelBoundParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every superpixel of the split's images that have a mask. Images without a mask are skipped.

    Source: Vernaza, Chandraker 2017, section 4 (SPOPT and SPCON), with the superpixels of Felzenszwalb and Huttenlocher.
    """
    samples, labels, superpixels = inputs["samples"], inputs["labels"], inputs["superpixels"]
    every = split_ids(samples, params.split)
    ids = [i for i in every if samples.has("mask", i)]
    if len(ids) < len(every):
        context.progress.say(
            f"{params.rule}: {len(every) - len(ids)} of {len(every)} images of {params.split!r} have no mask and are left out"
        )
    todo = pending(ids, output)
    advance = context.progress.task(params.rule, len(ids), len(ids) - len(todo))
    for image_id in todo:
        segments, mask = superpixels.get("superpixels", image_id), samples.get("mask", image_id)
        best = majority(segments, mask)
        if params.rule == "spcon" and image_id in labels:
            scribbled = majority(segments, labels.get("labels", image_id))
            best = np.where(scribbled != UNLABELLED, scribbled, best)
        output.append(image_id, {"labels": best[segments].astype(np.uint8)})
        advance(1, image_id)
    output.meta.update(annotation="mask", simulated=False, options={"superpixels": params.rule})
    output.meta["proposals"] = params.rule.upper()


def majority(segments: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The most frequent label of each segment. Of equally frequent labels, the lowest wins. Unlabelled segments get 255.

    Args:
        segments: (H,W), ids from 0.
        labels: (H,W), 255 = unlabelled.

    Returns:
        int64, one per segment.
    """
    known = labels != UNLABELLED
    classes = int(labels[known].max()) + 1 if known.any() else 1
    number = int(segments.max()) + 1
    counts = np.bincount(segments[known].astype(np.int64) * classes + labels[known], minlength=number * classes)
    table = counts.reshape(number, classes)
    result: NDArray[np.int64] = np.where(table.any(1), table.argmax(1), UNLABELLED)
    return result


STAGE = Stage(
    "superpixel-bound",
    1,
    SuperpixelBoundParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "superpixels": Input(SUPERPIXELS)},
    LABELS,
    run,
    check=check_split,
)
