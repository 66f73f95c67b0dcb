"""Stage ``largest-region``: predictions without the foreground that lies apart from its largest region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.datasets.source import Catalogue
from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.ops.largest_region import outside_largest, regions_of
from wss.params import Params
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, PREDICTIONS, SAMPLES, Store, StoreWriter


class LargestRegionParams(Params):
    """When smaller regions become background."""

    when: Literal["auto", "always"] = "auto"
    """``auto``: where that is better on training images, as their labels tell (inputs ``trained`` and ``labels``). ``always``: do
    not look."""


class Trial(NamedTuple):
    """Mean Dice of the foreground of training volumes, in 0..1, if regions that a label touches are right and all others wrong.

    Attributes:
        without: Of the predictions as they are.
        with_it: Of their largest regions.
    """

    without: float
    with_it: float


def groups(samples: Store, ids: Sequence[str]) -> list[list[str]]:
    """Images that belong together: the slices of each volume in order, then every other image by itself.

    Of a volume that is there in part, the slices that are there are taken; slices of several sizes stay apart.

    Args:
        samples: The data set.
        ids: The images.
    """
    volumes: list[list[str]] = []
    given, seen = set(ids), set()
    for volume in samples.meta["volumes"].values():
        slices = [i for i in volume["ids"] if i in given]
        if len({tuple(samples.shape("image", i)[:2]) for i in slices}) == 1:
            volumes.append(slices)
            seen.update(slices)
    return volumes + [[i] for i in ids if i not in seen]


def run(params: LargestRegionParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Keep the largest region of each volume, or of each image that is no slice of a predicted volume.

    Pixels without data connect nothing, and keep their labels.

    Raises:
        UsageError: The data set has no background class.
    """
    samples, predictions = inputs["samples"], inputs["predictions"]
    background = samples.meta["background"]
    if background is None:
        raise UsageError("largest-region needs a background class, and this data set has none; leave the stage out")
    applied, trial = True, None
    if params.when == "auto":
        trial = _trial(samples, inputs["trained"], inputs["labels"], background)
        applied = trial is not None and trial.with_it > trial.without
        context.progress.say(f"largest-region: {_reason(trial, applied)}")
    advance = context.progress.task(
        "largest region", len(predictions), len(predictions) - len(pending(predictions.ids, output))
    )
    for ids in groups(samples, predictions.ids):
        todo = pending(ids, output)
        if not todo:
            continue
        labels_of = stacked(samples, ids, partial(predictions.get, "labels"))
        outside = outside_largest(labels_of, background) if applied else np.zeros(labels_of.shape, bool)
        for image_id, drop in zip(ids, outside, strict=True):
            if image_id in todo:
                labels = np.where(drop, np.uint8(background), predictions.get("labels", image_id))
                output.append(image_id, {"labels": labels})
                advance(1, image_id)
    output.meta.update(predictions.meta)
    output.meta["largest_region"] = {"applied": applied, **({} if trial is None else trial._asdict())}


def _reason(trial: Trial | None, applied: bool) -> str:
    if trial is None:
        return "not applied: no predicted training image has labelled foreground"
    return (
        f"{'applied' if applied else 'not applied'}: on training images, if predicted regions that a label touches are right and "
        f"others wrong, the foreground has a mean Dice of {trial.with_it:.3f} with it and {trial.without:.3f} without"
    )


def _trial(samples: Store, predictions: Store, labels: Store, background: int) -> Trial | None:
    """Compare training volumes with and without their smaller regions; None where nothing labelled is predicted."""
    scores = []
    for ids in groups(samples, predictions.ids):
        predicted = stacked(samples, ids, partial(predictions.get, "labels"))
        known = np.stack(
            [
                labels.get("labels", i) if i in labels else np.full(p.shape, UNLABELLED, np.uint8)
                for i, p in zip(ids, predicted, strict=True)
            ]
        )
        regions = regions_of(predicted, background)
        touched = np.unique(regions[(known != background) & (known != UNLABELLED)])
        right = np.isin(regions, touched[touched > 0])
        if not right.any():
            continue
        kept = (regions > 0) & ~outside_largest(predicted, background)
        scores.append((_dice(regions > 0, right), _dice(kept, right)))
    return Trial(*np.mean(scores, 0).tolist()) if scores else None


def _dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 2 * int((predicted & truth).sum()) / (int(predicted.sum()) + int(truth.sum()))


def stacked(samples: Store, ids: Sequence[str], labels_of: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Labels of images of one size, uint8 (D,H,W), 255 where they have no data: nothing is connected there.

    Args:
        samples: The data set.
        ids: The images.
        labels_of: Gives the labels of one, uint8 (H,W).
    """
    return np.stack([_with_data(samples, i, labels_of(i)) for i in ids])


def _with_data(samples: Store, image_id: str, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not samples.has("valid", image_id):
        return labels
    return np.where(samples.get("valid", image_id) > 0, labels, np.uint8(UNLABELLED))


def _check(params: LargestRegionParams, catalogue: Catalogue) -> None:
    """Raise before anything runs if the data set has no background."""
    if catalogue.background is None:
        raise UsageError("largest-region needs a background class, and this data set has none; leave the stage out")


STAGE = Stage(
    "largest-region",
    2,
    LargestRegionParams,
    {
        "samples": Input(SAMPLES),
        "predictions": Input(PREDICTIONS),
        "trained": Input(PREDICTIONS, optional=True, needed_with=("when", "auto")),
        "labels": Input(LABELS, optional=True, needed_with=("when", "auto")),
    },
    PREDICTIONS,
    run,
    check=_check,
)
