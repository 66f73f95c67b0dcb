"""Stage ``pseudo-labels``: predictions as training labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.metrics import certainty_levels
from wss.params import LATER, Params
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, PREDICTIONS, Store, StoreWriter


class PseudoLabelsParams(Params):
    """Parameters of the stage ``pseudo-labels``."""

    keep: bool = True
    """Labelled pixels keep their labels. False: predictions replace them."""
    restrict: bool = True
    """Allow only the classes that the image's tags name, if the image has tags."""
    entropy_below: float | None = Field(default=None, gt=0, le=1, json_schema_extra=LATER)
    """Label only pixels whose entropy is below this fraction of the maximum, log K. Larger: more pixels are labelled. None
    labels all. DMSPS uses 0.1. Needs predictions with probabilities."""
    largest: bool = Field(default=False, json_schema_extra=LATER)
    """Keep only the largest connected part of each predicted class. Use it if each object is in the image once, as organs in
    scans are."""


def run(params: PseudoLabelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every image that is in both inputs with its prediction. Tags are kept.

    If predictions were stored with probabilities, the doubt is 1 - the probability of the label. Pixels that ``entropy_below``
    or ``largest`` removes are unlabelled, with a doubt of 1.

    Raises:
        DataError: Labels and predictions have no image in common.
        UsageError: ``entropy_below`` is set, and predictions have no probabilities.

    Source: Ke, Hwang, Yu 2021, appendix A.4, algorithm 2, lines 4, 6 and 7; Han et al. 2024, "DMSPS", and the authors' code, for
        ``entropy_below`` and ``largest``.
    Differs: SPML's paper does not say that tags restrict the classes. In the authors' code they do so in line 6; in lines 4
        and 7 they only give tagged classes more weight. DMSPS computes the entropy from the mean of both decoders; here
        predictions come from the first decoder.
    """
    labels, predictions = inputs["labels"], inputs["predictions"]
    ids = [i for i in predictions.ids if i in labels]
    if not ids:
        raise DataError(
            f"pseudo-labels: none of the images of {predictions.path} is among the labels; predict the split of the labels"
        )
    if params.entropy_below is not None:
        require_probabilities(predictions, ids, "pseudo-labels with entropy_below")
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
    predicted = predictions.get("labels", image_id)
    probs = probabilities(predictions, image_id) if predictions.has("probs", image_id) else None
    tags = labels.get("tags", image_id) if labels.has("tags", image_id) else None
    if params.restrict and tags is not None:
        predicted, probs = among(predicted, probs, tags.astype(bool))
    sure = predicted != UNLABELLED
    if params.entropy_below is not None and probs is not None:
        sure &= entropy_share(probs) < params.entropy_below
    if params.largest:
        sure = largest_parts(np.where(sure, predicted, UNLABELLED).astype(np.uint8)) != UNLABELLED
    predicted = np.where(sure, predicted, UNLABELLED).astype(np.uint8)
    given = labels.get("labels", image_id) if params.keep else np.full_like(predicted, UNLABELLED)
    arrays = {"labels": np.where(given == UNLABELLED, predicted, given)}
    if probs is not None:
        doubt = np.where(sure, 1 - probs.max(0).astype(np.float64), 1)
        arrays["certainty"] = certainty_levels(np.where(given == UNLABELLED, doubt, 0))
    if tags is not None:
        arrays["tags"] = tags
    return arrays


def among(
    found: NDArray[np.uint8], probs: NDArray[np.floating] | None, tags: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Restrict the predictions of one image to the tagged classes.

    Args:
        found: Predicted classes, uint8 (H,W).
        probs: Class probabilities, float (K,H,W), or None.
        tags: bool (K,), True for classes in the image.

    Returns:
        The most probable tagged class, uint8 (H,W), and the probabilities, float32 (K,H,W), normalised to a sum of 1 over the
        tagged classes. Pixels at which every tagged class has probability 0 are unlabelled (255) and have probabilities of 0.
        Without ``probs``, pixels of an untagged class are unlabelled, and None is returned for the probabilities.
    """
    if probs is None:
        return np.where(np.isin(found, np.flatnonzero(tags)), found, UNLABELLED).astype(np.uint8), None
    shares = np.where(tags[:, None, None], probs, 0).astype(np.float32)
    total = shares.sum(0)
    shares /= np.maximum(total, np.finfo(np.float32).tiny)
    return np.where(total > 0, shares.argmax(0), UNLABELLED).astype(np.uint8), shares


def entropy_share(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of probabilities (K,H,W) divided by its maximum, log K, float64 (H,W) in 0..1; 0 if there is only one class."""
    wide = probs.astype(np.float64)
    entropy = -(wide * np.log(np.maximum(wide, np.finfo(np.float64).tiny))).sum(0)
    return np.asarray(entropy / math.log(len(probs)) if len(probs) > 1 else np.zeros_like(entropy))


def largest_parts(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest 4-connected part of each class in labels (H,W); 255 elsewhere. Of equal parts, the first is kept."""
    kept = np.full_like(labels, UNLABELLED)
    for k in np.unique(labels[labels != UNLABELLED]):
        parts, count = ndimage.label(labels == k)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        kept[parts == 1 + sizes.argmax()] = k
    return kept


STAGE = Stage(
    "pseudo-labels",
    2,
    PseudoLabelsParams,
    {
        "labels": Input(LABELS),
        "predictions": Input(PREDICTIONS, probs="used", probs_needed=lambda params: params.entropy_below is not None),
    },
    LABELS,
    run,
)
