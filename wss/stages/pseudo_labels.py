"""Stage ``pseudo-labels``: predictions as labels to train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.metrics import certainty_levels
from wss.params import Params
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, PREDICTIONS, Store, StoreWriter


class PseudoLabelsParams(Params):
    """What is kept of the labels."""

    keep: bool = True
    """Labelled pixels keep their labels."""


def run(params: PseudoLabelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every predicted image that is among the labels, with its prediction; its tags are kept.

    The doubt is 1 less the probability of the label, where predictions were stored with probabilities.

    Raises:
        DataError: Labels and predictions have no image in common.
    """
    labels, predictions = inputs["labels"], inputs["predictions"]
    ids = [i for i in predictions.ids if i in labels]
    if not ids:
        raise DataError(
            f"pseudo-labels: none of the images of {predictions.path} is among the labels; predict the split that they are of"
        )
    todo = pending(ids, output)
    advance = context.progress.task("labelling by predictions", len(ids), len(ids) - len(todo))
    made = each(_arrays, ((params, labels, predictions, i) for i in todo), context.jobs, 8 if len(todo) > 100 else 1)
    for image_id, arrays in zip(todo, made, strict=True):
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(labels.meta)
    output.meta["proposals"] = predictions.meta["method"]


def _arrays(
    params: PseudoLabelsParams, labels: Store, predictions: Store, image_id: str
) -> dict[str, NDArray[np.uint8]]:
    found = predictions.get("labels", image_id)
    given = labels.get("labels", image_id) if params.keep else np.full_like(found, 255)
    arrays = {"labels": np.where(given == 255, found, given)}
    if predictions.has("probs", image_id):
        doubt = 1 - predictions.get("probs", image_id).max(0).astype(np.float64)
        arrays["certainty"] = certainty_levels(np.where(given == 255, doubt, 0))
    if labels.has("tags", image_id):
        arrays["tags"] = labels.get("tags", image_id)
    return arrays


STAGE = Stage(
    "pseudo-labels",
    1,
    PseudoLabelsParams,
    {"labels": Input(LABELS), "predictions": Input(PREDICTIONS)},
    LABELS,
    run,
)
