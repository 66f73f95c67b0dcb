"""The Berkeley benchmark of boundaries: precision and recall of edge maps against several annotators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from wss.errors import DataError

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
    Differs: the largest one-to-one matching within the tolerance, which counts the same pairs as the published
        minimum-cost assignment would if it were exact; that one prefers close partners among equally many.
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
    hit = np.zeros((len(thresholds), len(rows)), bool)
    matched_truth = np.zeros(len(thresholds), np.int64)
    for annotation in annotations:
        graph = _neighbours(rows, columns, annotation, reach)
        mates = np.zeros(len(rows), bool)
        for index, count in enumerate(predicted):
            if index == 0 or count != predicted[index - 1]:
                mates[:] = False
                mates[:count] = _match(graph, int(count))
            hit[index] |= mates
            matched_truth[index] += int(mates.sum())
    total = sum(int(a.sum()) for a in annotations)
    return BoundaryCounts(
        matched_truth, np.full(len(thresholds), total, np.int64), hit.sum(1).astype(np.int64), predicted
    )


def _neighbours(
    rows: NDArray[np.int64], columns: NDArray[np.int64], annotation: NDArray[np.bool_], reach: float
) -> csr_matrix:
    """Which annotated pixels each predicted one may match, closest first, as a sparse matrix of ones."""
    radius = int(reach)
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(dy, dx).ravel()
    near = np.argsort(distance, kind="stable")
    near = near[distance[near] <= reach]
    dy, dx = dy.ravel()[near], dx.ravel()[near]
    numbers = np.full((annotation.shape[0] + 2 * radius, annotation.shape[1] + 2 * radius), -1, np.int32)
    inner = numbers[radius : radius + annotation.shape[0], radius : radius + annotation.shape[1]]
    count = int(annotation.sum())
    inner[annotation] = np.arange(count, dtype=np.int32)
    partners = numbers[rows[:, None] + radius + dy, columns[:, None] + radius + dx]
    found = partners >= 0
    pointer = np.concatenate([[0], np.cumsum(found.sum(1))]).astype(np.int32)
    indices = partners[found]
    return csr_matrix((np.ones(len(indices), np.int8), indices, pointer), shape=(len(rows), count))


def _match(graph: csr_matrix, count: int) -> NDArray[np.bool_]:
    """Which of the first ``count`` predicted pixels the largest matching uses."""
    end = int(graph.indptr[count])
    if end == 0:
        return np.zeros(count, bool)
    part = csr_matrix((graph.data[:end], graph.indices[:end], graph.indptr[: count + 1]), shape=(count, graph.shape[1]))
    partner: NDArray[np.int32] = maximum_bipartite_matching(part, perm_type="column")
    return partner >= 0


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
