"""Stage ``pseudo-labels``: predictions as labels to train on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from wss.errors import DataError
from wss.metrics import certainty_levels
from wss.params import LATER, Params
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, PREDICTIONS, Store, StoreWriter


class PseudoLabelsParams(Params):
    """What is kept of the labels."""

    keep: bool = True
    """Labelled pixels keep their labels."""
    restrict: bool = True
    """Only give classes that the image's tags name, where it has tags."""
    entropy_below: float | None = Field(default=None, gt=0, le=1, json_schema_extra=LATER)
    """Only label pixels of whose class the network is sure: the entropy of the probabilities is below this share of the largest
    possible, log K. None labels all. DMSPS has 0.1. Needs predictions with probabilities."""
    largest: bool = Field(default=False, json_schema_extra=LATER)
    """Of the pixels that predictions label, only keep the largest connected part of each class: for images that show each thing
    once, as scans of organs do."""


def run(params: PseudoLabelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every predicted image that is among the labels, with its prediction; its tags are kept.

    The doubt is 1 less the probability of the label, where predictions were stored with probabilities. Pixels that
    ``entropy_below`` or ``largest`` leave out are unlabelled, with a doubt of 1.

    Raises:
        DataError: Labels and predictions have no image in common.
        UsageError: ``entropy_below`` is set, and predictions have no probabilities.

    Source: Ke, Hwang, Yu 2021, appendix A.4, algorithm 2, lines 4, 6 and 7; Han et al. 2024, "DMSPS", and the authors' code, for
        ``entropy_below`` and ``largest``.
    Differs: SPML's paper does not say that tags restrict the classes. In the authors' code they do in line 6, and in lines 4
        and 7 they only lend more weight to the classes that are tagged. DMSPS asks the mean of both decoders how sure they are;
        here predictions are those of the first.
    """
    labels, predictions = inputs["labels"], inputs["predictions"]
    ids = [i for i in predictions.ids if i in labels]
    if not ids:
        raise DataError(
            f"pseudo-labels: none of the images of {predictions.path} is among the labels; predict the split that they are of"
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
    found = predictions.get("labels", image_id)
    probs = probabilities(predictions, image_id) if predictions.has("probs", image_id) else None
    tags = labels.get("tags", image_id) if labels.has("tags", image_id) else None
    if params.restrict and tags is not None:
        found, probs = among(found, probs, tags.astype(bool))
    sure = found != 255
    if params.entropy_below is not None and probs is not None:
        sure &= entropy_share(probs) < params.entropy_below
    if params.largest:
        sure = largest_parts(np.where(sure, found, 255).astype(np.uint8)) != 255
    found = np.where(sure, found, 255).astype(np.uint8)
    given = labels.get("labels", image_id) if params.keep else np.full_like(found, 255)
    arrays = {"labels": np.where(given == 255, found, given)}
    if probs is not None:
        doubt = np.where(sure, 1 - probs.max(0).astype(np.float64), 1)
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


def entropy_share(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of probabilities (K,H,W) as a share of log K, float64 (H,W) in 0..1; 0 where there is one class."""
    wide = probs.astype(np.float64)
    entropy = -(wide * np.log(np.maximum(wide, np.finfo(np.float64).tiny))).sum(0)
    return np.asarray(entropy / math.log(len(probs)) if len(probs) > 1 else np.zeros_like(entropy))


def largest_parts(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels (H,W) with only the largest 4-connected part of each class, the first of equal ones; 255 elsewhere."""
    kept = np.full_like(labels, 255)
    for k in np.unique(labels[labels != 255]):
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
