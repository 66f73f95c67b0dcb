"""Stage ``pseudo-labels``: predictions as labels to train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.metrics import certainty_levels
from wss.params import Params
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, PREDICTIONS, Store, StoreWriter


class PseudoLabelsParams(Params):
    """What is kept of the labels."""

    keep: bool = True
    """Labelled pixels keep their labels."""
    restrict: bool = True
    """Only give classes that the image's tags name, where it has tags."""


def run(params: PseudoLabelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every predicted image that is among the labels, with its prediction; its tags are kept.

    The doubt is 1 less the probability of the label, where predictions were stored with probabilities.

    Raises:
        DataError: Labels and predictions have no image in common.

    Source: Ke, Hwang, Yu 2021, appendix A.4, algorithm 2, lines 4, 6 and 7.
    Differs: the paper does not say that tags restrict the classes. In the authors' code they do in line 6, and in lines 4 and 7
        they only lend more weight to the classes that are tagged.
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
    probs = probabilities(predictions, image_id) if predictions.has("probs", image_id) else None
    tags = labels.get("tags", image_id) if labels.has("tags", image_id) else None
    if params.restrict and tags is not None:
        found, probs = among(found, probs, tags.astype(bool))
    given = labels.get("labels", image_id) if params.keep else np.full_like(found, 255)
    arrays = {"labels": np.where(given == 255, found, given)}
    if probs is not None:
        doubt = 1 - probs.max(0).astype(np.float64)
        arrays["certainty"] = certainty_levels(np.where(given == 255, doubt, 0))
    if tags is not None:
        arrays["tags"] = tags
    return arrays


def among(
    found: NDArray[np.uint8], probs: NDArray[np.floating] | None, tags: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Predictions of one image, of the tagged classes alone.

    Args:
        found: Predicted classes, uint8 (H,W).
        probs: Their probabilities, float (K,H,W), if known.
        tags: bool (K,), the classes in the image.

    Returns:
        The likeliest of the tagged classes, uint8 (H,W), and the probabilities, float32 (K,H,W), brought to a sum of 1 over the
        tagged classes. A pixel at which no tagged class is likely at all is unlabelled, 255, and has probabilities of 0; so is,
        where no probabilities are known, one of a class that is not tagged.
    """
    if probs is None:
        return np.where(np.isin(found, np.flatnonzero(tags)), found, 255).astype(np.uint8), None
    shares = np.where(tags[:, None, None], probs, 0).astype(np.float32)
    total = shares.sum(0)
    shares /= np.maximum(total, np.finfo(np.float32).tiny)
    return np.where(total > 0, shares.argmax(0), 255).astype(np.uint8), shares


STAGE = Stage(
    "pseudo-labels",
    2,
    PseudoLabelsParams,
    {"labels": Input(LABELS), "predictions": Input(PREDICTIONS, probs="used")},
    LABELS,
    run,
)
