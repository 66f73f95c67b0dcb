"""Stage ``evaluate``: scores of predictions against masks, at full resolution."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.datasets.source import Catalogue, Volume
from wss.distributed import map_over_processes
from wss.errors import DataError
from wss.metrics import boundary_distance, confusion_matrix, dice_volume, hd95, metrics_record, trimap
from wss.params import Params
from wss.stages.parallel import each
from wss.stages.samples import require_even
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import METRICS, PREDICTIONS, SAMPLES, Store, StoreWriter
from wss.store.atomic import write_text


class EvaluateParams(Params):
    """Parameters of the stage ``evaluate``."""

    volumes: bool = True
    """Compute Dice and HD95 per volume, if the data set has volumes."""
    trimap: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Distances in pixels. For each one, also score only the pixels within this distance of a true boundary. Such scores
    measure how well the outlines of objects are predicted."""
    factors: dict[str, str | float] = Field(default={})
    """Factor levels of this run in a study, by factor name, for example ``{loss: ncut, length: 0.5}``. They decide the place of
    the run in the report's tables."""


def run(params: EvaluateParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Sum one confusion matrix over all predicted images and one per boundary band, and score volumes.

    Images without a mask are not scored, and neither are volumes with such slices. If no image has a mask, all scores are
    None. The record's entry ``left_out`` names what is missing.
    """
    samples, predictions = inputs["samples"], inputs["predictions"]
    classes = samples.meta["classes"]
    ids = [i for i in predictions.ids if samples.has("mask", i)]
    gap = _gap(len(predictions) - len(ids), len(predictions), predictions.meta["split"])
    if gap is not None:
        context.progress.say(f"evaluate: {gap}")
    todo = pending(ids, output)
    advance = context.progress.task("evaluating", len(ids), len(ids) - len(todo))
    for image_id, arrays in map_over_processes(
        partial(_confusion, samples, predictions, len(classes), params.trimap), todo
    ):
        output.append(image_id, arrays)
        advance(1, image_id)
    total = np.zeros((len(classes), len(classes)), np.int64)
    bands = np.zeros((len(params.trimap), *total.shape), np.int64)
    for image_id in ids:
        arrays = output.read(image_id)
        total += arrays["confusion"]
        if params.trimap:
            bands += arrays["trimap"]
    unmasked = set(predictions.ids) - set(ids)
    volumes = _volume_scores(samples, predictions, context, unmasked) if params.volumes else {}
    test_time = predictions.meta["test_time"]
    network = predictions.meta["network"]
    output.meta["record"] = metrics_record(
        total,
        classes,
        split=predictions.meta["split"],
        num_images=len(ids),
        crf=predictions.meta["crf"] is not None,
        scales=test_time["scales"],
        flip=test_time["flip"],
        backbone=" ".join(part for part in (network["name"], network.get("backbone")) if part),
        initialisation=_initialisation(predictions.meta["initialisation"]),
        method=predictions.meta["method"],
        store_key=predictions.key,
        walk=test_time.get("walk"),
        trimap=dict(zip(params.trimap, bands, strict=True)) or None,
        left_out=gap,
        bfloat16=predictions.meta.get("bfloat16"),
        crf_choice=predictions.meta.get("crf_choice"),
        largest_region=predictions.meta.get("largest_region"),
        **volumes,
    )
    output.meta["predictions"] = predictions.key
    output.meta["model"] = predictions.meta["model"]
    output.meta["factors"] = dict(params.factors)
    output.meta["total"] = total.tolist()


def _gap(without: int, total: int, split: str) -> str | None:
    """Message with the number of images that have no mask and are not scored; None if all are scored."""
    if not without:
        return None
    if without == total:
        return f"no image of split {split!r} has a mask: nothing is scored"
    return f"{without} of {total} images of split {split!r} have no mask and are not scored"


def check_masks(catalogue: Catalogue, split: str, limit: int | None = None) -> None:
    """Check that predictions of a split can be evaluated, using only the data set's list of files.

    Args:
        catalogue: The data set.
        split: The split that is predicted and evaluated.
        limit: Maximum number of images, from the first of the split on; None for all.

    Raises:
        DataError: An image has no mask, or the split is empty.
    """
    ids = catalogue.splits.get(split, ())[:limit]
    if split in catalogue.splits and not ids:
        raise DataError(
            f"split {split!r} has no images to compare with masks; add images with masks to it, name another split "
            "(--split), or train and predict without scores (`wss train`, `wss predict`)"
        )
    _require_masks([i for i in ids if i in catalogue.unmasked], len(ids), split)


def _require_masks(without: Sequence[str], total: int, split: str) -> None:
    if without:
        raise DataError(
            f"{len(without)} of {total} images of split {split!r} have no mask to compare with, {without[0]!r} first; "
            "evaluate a split that has masks (--split), or train and predict without scores (`wss train`, `wss predict`)"
        )


def _confusion(
    samples: Store, predictions: Store, num_classes: int, widths: Sequence[int], image_id: str
) -> dict[str, NDArray[Any]]:
    truth, labels = samples.get("mask", image_id), predictions.get("labels", image_id)
    arrays = {"confusion": confusion_matrix(truth, labels, num_classes)}
    if widths:
        distance = boundary_distance(truth)
        bands = [confusion_matrix(trimap(truth, distance, width), labels, num_classes) for width in widths]
        arrays["trimap"] = np.stack(bands)
    return arrays


def _initialisation(record: dict[str, Any]) -> str:
    source = record.get("source")
    return f"{record['kind']} ({source})" if source and source != record["kind"] else str(record["kind"])


def _volume_scores(
    samples: Store, predictions: Store, context: Context, unmasked: Set[str] = frozenset()
) -> dict[str, dict[str, float]]:
    """Mean Dice and HD95 per class, over the volumes in which every slice is predicted and has a mask."""
    volumes = {
        name: v
        for name, v in samples.meta["volumes"].items()
        if all(i in predictions and i not in unmasked for i in v["ids"])
    }
    labels = [k for k in range(len(samples.meta["classes"])) if k != samples.meta["background"]]
    if not volumes:
        return {}
    for name, volume in volumes.items():
        require_even(name, Volume(tuple(volume["ids"])), {i: samples.shape("mask", i) for i in volume["ids"]})
    advance = context.progress.task("scoring volumes", len(volumes))
    scores: list[NDArray[np.float64]] = []
    for result in each(
        _score_volume, ((samples, predictions, volume, labels) for volume in volumes.values()), context.jobs
    ):
        scores.append(result)
        advance(1, "")
    with np.errstate(invalid="ignore"):
        table = np.stack(scores)  # (volumes, classes, 2)
        known = ~np.isnan(table)
        means = np.where(known, table, 0).sum(0) / known.sum(0)
    names = [samples.meta["classes"][k] for k in labels]
    return {
        "dice_per_class": dict(zip(names, means[:, 0].tolist(), strict=True)),
        "hd95_per_class": dict(zip(names, means[:, 1].tolist(), strict=True)),
    }


def _score_volume(samples: Store, predictions: Store, volume: dict[str, Any], labels: list[int]) -> NDArray[np.float64]:
    truth = np.stack([samples.get("mask", i) for i in volume["ids"]])
    prediction = np.stack([predictions.get("labels", i) for i in volume["ids"]])
    spacing = tuple(volume["spacing_mm"] or (1.0, 1.0, 1.0))
    return np.array(
        [(dice_volume(truth, prediction, k), hd95(truth, prediction, k, spacing_mm=spacing)) for k in labels]
    )


def _publish(store: Store, workspace: Path) -> list[Path]:
    path = workspace / "metrics.json"
    write_text(path, json.dumps(store.meta["record"], indent=1, allow_nan=False) + "\n")
    return [path]


STAGE = Stage(
    "evaluate",
    1,
    EvaluateParams,
    {"samples": Input(SAMPLES), "predictions": Input(PREDICTIONS)},
    METRICS,
    run,
    publish=_publish,
)
