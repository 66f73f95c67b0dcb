"""The Berkeley benchmark of boundaries: precision and recall of edge maps against several annotators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.metrics.assignment import assigned_until

TOLERANCE = 0.0075
"""Largest distance of matched pixels, as a share of the image's diagonal."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryCounts:
    """Matched and all boundary pixels of one image, int64 (T,) per threshold.

    Attributes:
        matched_truth: Annotated pixels that found a partner, summed over annotators.
        truth: Annotated pixels, summed over annotators.
        matched: Predicted pixels that found a partner among those of at least one annotator.
        predicted: Predicted pixels.
    """

    matched_truth: Counts
    truth: Counts
    matched: Counts
    predicted: Counts


@dataclass(frozen=True)
class BoundaryScores:
    """Scores of a data set, fractions.

    Attributes:
        ods: F at the one threshold that is best for the whole set.
        ods_threshold: That threshold.
        ods_precision: Precision there.
        ods_recall: Recall there.
        ois: F with the best threshold of each image.
        ap: Average precision over recall.
        precision: Per threshold.
        recall: Per threshold.
    """

    ods: float
    ods_threshold: float
    ods_precision: float
    ods_recall: float
    ois: float
    ap: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]


def boundary_thresholds(count: int) -> NDArray[np.float64]:
    """The benchmark's thresholds, evenly spread inside (0, 1)."""
    return np.arange(1, count + 1) / (count + 1)


def boundary_counts(
    edges: NDArray[Any],
    annotations: Sequence[NDArray[np.bool_]],
    thresholds: NDArray[np.float64],
    tolerance: float = TOLERANCE,
) -> BoundaryCounts:
    """Match an edge map's pixels with each annotator's, one to one, at every threshold.

    Args:
        edges: Thin edge map, float (H,W) in [0,1]; a pixel is predicted where it reaches the threshold.
        annotations: Boundaries of each annotator, bool (H,W), at least one.
        thresholds: Ascending, above 0.
        tolerance: Largest distance of partners as a share of the diagonal.

    Raises:
        DataError: Sizes differ, or there is no annotator.

    Source: Martin, Fowlkes and Malik 2004, section 3.2: a predicted pixel is a hit if any annotator's matching uses it;
        recall is summed over annotators.
    Differs: the assignment, the most pairs and of those the closest, is exact; the published one has the same aim, but leaves out
        some candidates at random for the sake of speed.
    """
    if not annotations or any(a.shape != edges.shape for a in annotations):
        raise DataError(
            f"expected annotations of the edge map's size {edges.shape}, got {[a.shape for a in annotations] or 'none'}"
        )
    reach = tolerance * math.hypot(*edges.shape)
    rows, columns = np.nonzero(edges >= thresholds[0])
    strength = edges[rows, columns]
    order = np.argsort(-strength, kind="stable")
    rows, columns, strength = rows[order], columns[order], strength[order]
    predicted: Counts = np.searchsorted(-strength, -thresholds.astype(strength.dtype), side="right").astype(np.int64)
    until = [assigned_until(*_partners(rows, columns, annotation, reach)) for annotation in annotations]
    return BoundaryCounts(
        np.sum([_lasting(one, predicted) for one in until], axis=0),
        np.full(len(thresholds), sum(int(a.sum()) for a in annotations), np.int64),
        _lasting(np.max(until, axis=0), predicted),
        predicted,
    )


def _lasting(until: NDArray[np.int64], predicted: Counts) -> Counts:
    """How many of the first so many pixels have a partner, for each number of them, see ``assigned_until``."""
    numbers = np.arange(len(until) + 2)
    change = np.bincount(numbers[1:-1], minlength=len(numbers)) - np.bincount(until + 1, minlength=len(numbers))
    sums: Counts = np.cumsum(change)[predicted]
    return sums


def _partners(
    rows: NDArray[np.int64], columns: NDArray[np.int64], annotation: NDArray[np.bool_], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], int]:
    """Annotated pixels that each predicted one may match, as ``assigned_until`` takes them.

    Costs are distances in thousandths of a pixel.
    """
    radius = int(reach)
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(dy, dx)
    near = distance <= reach
    dy, dx, cost = dy[near], dx[near], np.rint(1000 * distance[near]).astype(np.int64)
    numbers = np.full(annotation.shape, -1, np.int32)
    count = int(annotation.sum())
    numbers[annotation] = np.arange(count, dtype=np.int32)
    partners = np.pad(numbers, radius, constant_values=-1)[rows[:, None] + radius + dy, columns[:, None] + radius + dx]
    found = partners >= 0
    begin = np.concatenate([[0], np.cumsum(found.sum(1))])
    return begin, partners[found], np.broadcast_to(cost, found.shape)[found], count


def boundary_scores(counts: Sequence[BoundaryCounts], thresholds: NDArray[np.float64]) -> BoundaryScores:
    """ODS, OIS and AP of a data set.

    Args:
        counts: One per image.
        thresholds: Those that the counts were made with.

    Raises:
        DataError: No image.

    Source: the published benchmark's scoring: F is interpolated linearly in precision and recall between neighbouring
        thresholds; AP is the mean over recall 0, .01, ..., 1 of the interpolated precision, 0 outside the recall reached.
    """
    if not counts:
        raise DataError("no image to score")
    table = np.array([[c.matched_truth, c.truth, c.matched, c.predicted] for c in counts], np.float64)  # (N,4,T)
    precision, recall = _rates(table.sum(0))
    f, threshold, p, r = _best(precision, recall, thresholds)
    own = [_best(*_rates(image), thresholds)[1] for image in table]
    places = [int(np.abs(thresholds - t).argmin()) for t in own]
    at_best = sum(image[:, place] for image, place in zip(table, places, strict=True))
    best_precision, best_recall = _rates(at_best[:, None])
    return BoundaryScores(
        f,
        threshold,
        p,
        r,
        float(_f(best_precision, best_recall)[0]),
        _average_precision(precision, recall),
        tuple(precision.tolist()),
        tuple(recall.tolist()),
    )


def _rates(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall (T,) of counts (4,T); precision without any prediction is 1, recall without truth too."""
    matched_truth, truth, matched, predicted = table
    precision = np.where(predicted > 0, matched / np.maximum(predicted, 1), 1.0)
    recall = np.where(truth > 0, matched_truth / np.maximum(truth, 1), 1.0)
    return precision, recall


def _f(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)


def _best(
    precision: NDArray[np.float64], recall: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Largest F with its threshold, precision and recall, on straight lines between neighbouring thresholds."""
    place = np.linspace(0, len(thresholds) - 1, 100 * (len(thresholds) - 1) + 1)
    numbers = np.arange(len(thresholds))
    p, r, t = (np.interp(place, numbers, values) for values in (precision, recall, thresholds))
    f = _f(p, r)
    best = int(f.argmax())
    return float(f[best]), float(t[best]), float(p[best]), float(r[best])


def _average_precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    levels, first = np.unique(recall, return_index=True)
    if len(levels) < 2:
        return float(precision[first[0]] * levels[0])
    grid = np.arange(101) / 100
    values = np.interp(grid, levels, precision[first], left=0.0, right=0.0)
    return float(values.sum() / 100)
