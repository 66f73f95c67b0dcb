"""Stage ``propagate``: proposals, which are scribbles spread over their images without a trained network, as training labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.edges import edge_strengths
from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.metrics import certainty_levels, confusion_matrix, miou
from wss.params import Params
from wss.propagation import AnyPropagation, Proposal
from wss.stages.features import stored_map
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import EDGES, FEATURES, LABELS, PREDICTIONS, SAMPLES, SUPERPIXELS, Store, StoreWriter


class PropagateParams(Params):
    """Parameters of the stage ``propagate``."""

    method: AnyPropagation
    """Propagation algorithm and its settings, chosen by ``name``."""
    split: str = "train"
    """Split whose labels are propagated. The result holds only images of this split."""


def run(params: PropagateParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Propagate the labels of each image of the split. Images without labelled pixels stay unlabelled.

    Raises:
        UsageError: An input that the algorithm needs is missing, an input that it does not read is given, or predictions were
            stored without probabilities.
        DataError: Labels, superpixels or predictions lack an image of the split.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    ids = split_ids(samples, params.split)
    extras = _extras(params, inputs, ids)
    _covered(labels, "labels", ids, params.split)
    todo = pending(ids, output)
    advance = context.progress.task(f"propagating by {params.method.name}", len(ids), len(ids) - len(todo))
    calls = ((params, samples, labels, extras, image_id) for image_id in todo)
    for image_id, proposal in zip(todo, each(_propagate, calls, context.jobs), strict=True):
        arrays = {"labels": proposal.labels}
        if proposal.doubt is not None:
            arrays["certainty"] = certainty_levels(proposal.doubt)
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(labels.meta)
    output.meta["proposals"] = params.method.name


def proposal_scores(samples: Store, proposals: Store) -> dict[str, Any]:
    """Quality of proposals, from one confusion matrix over all images with masks.

    Returns:
        ``images``: number of images. ``coverage``: labelled fraction of their pixels. ``scored``: number of images with a mask.
        ``miou``: mean IoU (0..1) of the labelled pixels; only present if labelled pixels with known truth exist.
    """
    classes = len(samples.meta["classes"])
    total = np.zeros((classes, classes), np.int64)
    labelled = pixels = scored = 0
    for image_id in proposals.ids:
        labels = proposals.get("labels", image_id)
        known = labels != UNLABELLED
        labelled, pixels = labelled + int(known.sum()), pixels + labels.size
        if samples.has("mask", image_id):
            scored += 1
            truth = np.where(known, samples.get("mask", image_id), UNLABELLED)
            total += confusion_matrix(truth, np.where(known, labels, 0), classes)
    scores: dict[str, Any] = {"images": len(proposals), "coverage": labelled / max(pixels, 1), "scored": scored}
    return {**scores, "miou": miou(total)} if total.any() else scores


def _extras(params: PropagateParams, inputs: Inputs, ids: list[str]) -> dict[str, tuple[Store, str]]:
    """Further stores that the algorithm reads: a pair of store and item to read, by the algorithm's name for it."""
    roles = {
        "superpixels": ("superpixels", "superpixels"),
        "probs": ("predictions", "probs"),
        "edges": ("edges", "edges"),
        "features": ("features", "features"),
    }
    name = params.method.name
    extras: dict[str, tuple[Store, str]] = {}
    for extra, (role, item) in roles.items():
        store = inputs.maybe(role)
        if store is None and extra in params.method.needs:
            raise UsageError(
                f"propagate: method {name!r} needs the input {role!r}; add a stage `{role}` to the pipeline and name it there"
            )
        if store is None:
            continue
        if extra not in params.method.needs | params.method.accepts:
            raise UsageError(f"propagate: method {name!r} reads no {role}; remove the input {role!r} from the pipeline")
        _covered(store, role, ids, params.split)
        if extra == "probs":
            require_probabilities(store, ids, "propagate")
        extras[extra] = (store, item)
    return extras


def _covered(store: Store, role: str, ids: list[str], split: str) -> None:
    missing = [i for i in ids if i not in store]
    if missing:
        remedy = f"; predict that split (`split: {split}`)" if role == "predictions" else ""
        raise DataError(
            f"propagate: {len(missing)} of the {len(ids)} images of split {split!r} are not among the {role} in {store.path}, "
            f"{missing[0]!r} first{remedy}"
        )


def _propagate(
    params: PropagateParams, samples: Store, labels: Store, extras: dict[str, tuple[Store, str]], image_id: str
) -> Proposal:
    given: dict[str, NDArray[Any]] = {
        name: _read(store, item, image_id, samples) for name, (store, item) in extras.items()
    }
    if "edges" in given:
        given["edges"] = edge_strengths(given["edges"])
    valid = samples.get("valid", image_id) > 0 if samples.has("valid", image_id) else None
    known = labels.get("labels", image_id)
    if valid is not None:
        known = np.where(valid, known, np.uint8(UNLABELLED))
    try:
        proposal = params.method.propagate(samples.get("image", image_id), known, len(samples.meta["classes"]), **given)
    except DataError as error:
        raise DataError(f"image {image_id!r}: {error}") from error
    return (
        proposal if valid is None else replace(proposal, labels=np.where(valid, proposal.labels, np.uint8(UNLABELLED)))
    )


def _read(store: Store, item: str, image_id: str, samples: Store) -> NDArray[Any]:
    if item == "probs":
        return probabilities(store, image_id)
    if item == "features":
        return stored_map(store, image_id, samples.get("image", image_id).shape[:2])
    return store.get(item, image_id)


STAGE = Stage(
    "propagate",
    2,
    PropagateParams,
    {
        "samples": Input(SAMPLES),
        "labels": Input(LABELS),
        "superpixels": Input(SUPERPIXELS, optional=True),
        "predictions": Input(PREDICTIONS, optional=True, probs="needed"),
        "edges": Input(EDGES, optional=True),
        "features": Input(FEATURES, optional=True),
    },
    LABELS,
    run,
    check=check_split,
)
