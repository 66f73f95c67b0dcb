"""The Berkeley boundary benchmark: precision and recall of edge maps against several annotators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.metrics.assignment import Backend, Candidates, assigned
from wss.metrics.thinning import thin

TOLERANCE = 0.0075
"""Largest distance between matched pixels, as a share of the image's diagonal."""

COST_PER_PIXEL = 100
"""The cost of a pair is its distance in pixels times this, rounded, as published."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryCounts:
    """Numbers of matched and of all boundary pixels of one image, int64 (T,), one per threshold.

    Attributes:
        matched_truth: Annotated pixels with a partner, summed over annotators.
        truth: Annotated pixels, summed over annotators.
        matched: Predicted pixels with a partner of at least one annotator.
        predicted: Predicted pixels.
    """

    matched_truth: Counts
    truth: Counts
    matched: Counts
    predicted: Counts


@dataclass(frozen=True)
class BoundaryScores:
    """Scores of a data set, as fractions.

    Attributes:
        ods: F-measure at the threshold that is best for the whole set (optimal dataset scale).
        ods_threshold: This threshold.
        ods_precision: Precision at this threshold.
        ods_recall: Recall at this threshold.
        ois: F-measure with the best threshold of each image (optimal image scale).
        ap: Average precision over recall.
        precision: Precision at each threshold.
        recall: Recall at each threshold.
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
    """The benchmark's thresholds: ``count`` values, evenly spread in (0, 1)."""
    return np.arange(1, count + 1) / (count + 1)


def boundary_counts(
    edges: NDArray[Any],
    annotations: Sequence[NDArray[np.bool_]],
    thresholds: NDArray[np.float64],
    tolerance: float = TOLERANCE,
    backend: Backend = "auto",
) -> BoundaryCounts:
    """Match the pixels of an edge map one to one with those of each annotator, at every threshold.

    Args:
        edges: Edge map, float (H,W) in [0,1]. The pixels that reach a threshold are thinned (``wss.metrics.thinning``).
            The remaining pixels are the predicted ones.
        annotations: Boundaries of each annotator, bool (H,W), at least one.
        thresholds: Thresholds, ascending, above 0.
        tolerance: Largest distance between partners, as a share of the diagonal.
        backend: See ``wss.metrics.assignment.assigned``.

    Raises:
        DataError: Sizes differ, or there is no annotator.

    Source: Martin, Fowlkes and Malik 2004, section 3.2: a predicted pixel is a hit if the matching with any annotator
        uses it; recall is summed over annotators. Thinning at each threshold is that of the benchmark of BSDS500
        (Arbelaez, Maire, Fowlkes and Malik 2011).
    Differs: the assignment (most pairs, then least distance) is exact. The published one has the same aim, but for
        speed it joins pixels without partner to six random others.
    """
    if not annotations or any(a.shape != edges.shape for a in annotations):
        raise DataError(
            f"expected annotations of the edge map's size {edges.shape}, got {[a.shape for a in annotations] or 'none'}"
        )
    reach = tolerance * math.hypot(*edges.shape)
    masks = _predicted(np.asarray(edges, np.float64), thresholds)
    rows, columns = np.nonzero(masks.any(0))
    present = masks[::-1, rows, columns]  # in order of growing numbers of pixels, so pixels are mostly added
    matched = [
        assigned(_candidates(rows, columns, annotation, reach), present, backend)[::-1] for annotation in annotations
    ]
    return BoundaryCounts(
        np.sum([one.sum(1, dtype=np.int64) for one in matched], axis=0),
        np.full(len(thresholds), sum(int(a.sum()) for a in annotations), np.int64),
        np.any(matched, axis=0).sum(1, dtype=np.int64),
        present[::-1].sum(1, dtype=np.int64),
    )


def _predicted(edges: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Thinned edge pixels at every threshold, bool (T,H,W)."""
    masks = np.empty((len(thresholds), *edges.shape), bool)
    last = None
    for number, threshold in enumerate(thresholds):
        reached = edges >= threshold
        if last is not None and np.array_equal(reached, last):
            masks[number] = masks[number - 1]
        else:
            masks[number] = thin(reached)
        last = reached
    return masks


def _candidates(
    rows: NDArray[np.int64], columns: NDArray[np.int64], annotation: NDArray[np.bool_], reach: float
) -> Candidates:
    """Annotated pixels that each predicted pixel may match."""
    radius = int(reach)
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(dy, dx)
    near = distance <= reach
    dy, dx, cost = dy[near], dx[near], np.rint(COST_PER_PIXEL * distance[near]).astype(np.int64)
    numbers = np.full(annotation.shape, -1, np.int32)
    count = int(annotation.sum())
    numbers[annotation] = np.arange(count, dtype=np.int32)
    partners = np.pad(numbers, radius, constant_values=-1)[rows[:, None] + radius + dy, columns[:, None] + radius + dx]
    has_partner = partners >= 0
    begin = np.concatenate([[0], np.cumsum(has_partner.sum(1))])
    return Candidates(begin, partners[has_partner], np.broadcast_to(cost, has_partner.shape)[has_partner], count)


def boundary_scores(counts: Sequence[BoundaryCounts], thresholds: NDArray[np.float64]) -> BoundaryScores:
    """ODS, OIS and AP of a data set.

    Args:
        counts: Counts of each image.
        thresholds: The thresholds of the counts.

    Raises:
        DataError: There is no image.

    Source: the published benchmark's scoring. ODS: precision and recall are interpolated linearly between neighbouring
        thresholds, at 100 positions. OIS: each image's counts at the threshold of its largest F, the first if there are
        several. AP: 1/100 of the sum of the interpolated precision at recall 0, .01, ..., 1; precision is 0 outside the
        range of recall. AP is 0 if all thresholds have the same recall. A rate without any pixel to count is 0.
    """
    if not counts:
        raise DataError("no image to score")
    table = np.array([[c.matched_truth, c.truth, c.matched, c.predicted] for c in counts], np.float64)  # (N,4,T)
    precision, recall = _rates(table.sum(0))
    f, threshold, p, r = _best(precision, recall, thresholds)
    places = [int(_f(*_rates(image)).argmax()) for image in table]
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
    """Precision and recall (T,) of counts (4,T); 0 where nothing is predicted or annotated."""
    matched_truth, truth, matched, predicted = table
    return matched / np.maximum(predicted, 1), matched_truth / np.maximum(truth, 1)


def _f(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)


def _best(
    precision: NDArray[np.float64], recall: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Largest F with its threshold, precision and recall, interpolated linearly between neighbouring thresholds."""
    place = np.linspace(0, len(thresholds) - 1, 99 * (len(thresholds) - 1) + 1)
    numbers = np.arange(len(thresholds))
    p, r, t = (np.interp(place, numbers, values) for values in (precision, recall, thresholds))
    f = _f(p, r)
    best = int(f.argmax())
    return float(f[best]), float(t[best]), float(p[best]), float(r[best])


def _average_precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    levels, first = np.unique(recall, return_index=True)
    if len(levels) < 2:
        return 0.0
    grid = np.arange(101) / 100
    values = np.interp(grid, levels, precision[first], left=0.0, right=0.0)
    return float(values.sum() / 100)
