"""The Berkeley benchmark of regions: how segmentations agree with those of several annotators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from wss.errors import DataError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RegionAgreement:
    """Agreement of one image's segmentations, finer and coarser ones, with its annotators.

    Attributes:
        covering: float64 (T,), fractions; how well the annotators' regions are covered.
        rand_index: float64 (T,), fractions.
        variation: float64 (T,), bits.
        best_covering: The covering when each annotated region is covered from whichever segmentation covers it best.
        pixels: Pixels of all annotators, the weight of the image's covering.
    """

    covering: Values
    rand_index: Values
    variation: Values
    best_covering: float
    pixels: int


@dataclass(frozen=True)
class RegionScore:
    """One measure over a data set.

    Attributes:
        ods: At the one level that is best for the whole set.
        ods_level: Which, from 0.
        ois: With the best level of each image.
    """

    ods: float
    ods_level: int
    ois: float


@dataclass(frozen=True)
class RegionScores:
    """The benchmark of a data set.

    Attributes:
        covering: Fractions, better when high.
        rand_index: Fractions, better when high.
        variation: Bits, better when low.
        best_covering: The covering with the best level for each annotated region.
    """

    covering: RegionScore
    rand_index: RegionScore
    variation: RegionScore
    best_covering: float


def contingency(regions: NDArray[Any], truth: NDArray[Any]) -> csr_matrix:
    """How many pixels each region shares with each of the truth's: int64 (N,G), sparse.

    Args:
        regions: Integers (H,W) from 0.
        truth: Integers (H,W) from 0.

    Raises:
        DataError: Sizes differ, or there is no pixel.
    """
    if regions.shape != truth.shape or not regions.size:
        raise DataError(f"expected annotated regions of the segmentation's size {regions.shape}, got {truth.shape}")
    columns = int(truth.max()) + 1
    codes, counts = np.unique(regions.ravel().astype(np.int64) * columns + truth.ravel(), return_counts=True)
    places = np.divmod(codes, columns)
    return csr_matrix((counts.astype(np.int64), places), shape=(int(regions.max()) + 1, columns))


def merged(table: csr_matrix, ids: NDArray[Any]) -> csr_matrix:
    """The table of a coarser segmentation.

    Args:
        table: (N,G), of regions 0..N-1.
        ids: Integers (N,), the coarser region that each of them is part of, from 0.
    """
    parts = np.arange(len(ids))
    return csr_matrix((np.ones(len(ids), np.int64), (ids, parts)), shape=(int(ids.max()) + 1, len(ids))) @ table


def overlaps(table: csr_matrix) -> Values:
    """Per region of the truth, the largest intersection over union with any region of the segmentation, float64 (G,)."""
    cells = table.tocoo()
    rows, columns = (np.asarray(table.sum(axis)).ravel() for axis in (1, 0))
    share = cells.data / (rows[cells.row] + columns[cells.col] - cells.data)
    largest = np.zeros(table.shape[1])
    np.maximum.at(largest, cells.col, share)
    return largest


def covering(table: csr_matrix) -> float:
    """The truth's regions' overlaps, averaged by their sizes.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, equation 11.
    """
    sizes = np.asarray(table.sum(0)).ravel()
    return float(sizes @ overlaps(table) / sizes.sum())


def rand_index(table: csr_matrix) -> float:
    """The share of pairs of pixels that both segmentations join, or both part; 1 for a single pixel.

    Source: Rand 1971.
    """
    count = int(table.sum())
    pairs = count * (count - 1) // 2
    both, own, theirs = (
        int((values.astype(np.int64) ** 2).sum()) for values in (table.data, table.sum(1).A1, table.sum(0).A1)
    )
    return 1 - ((own + theirs) / 2 - both) / pairs if pairs else 1.0


def variation_of_information(table: csr_matrix) -> float:
    """The entropy of each segmentation given the other, added up, in bits.

    Source: Meila 2005.
    """
    count = table.sum()
    joint, own, theirs = (_entropy(values / count) for values in (table.data, table.sum(1).A1, table.sum(0).A1))
    return 2 * joint - own - theirs


def _entropy(shares: Values) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())


def region_agreement(levels: Iterable[Sequence[csr_matrix]]) -> RegionAgreement:
    """Agreement of one image's segmentations with its annotators; Rand index and variation are means over annotators.

    Args:
        levels: For each segmentation its contingency tables with the annotators, always in the same order.

    Raises:
        DataError: No segmentation or no annotator.

    Source: the published benchmark's scoring; the mean of Rand indices is the probabilistic Rand index of Unnikrishnan,
        Pantofaru and Hebert 2007.
    """
    covers, rands, variations = [], [], []
    best: list[Values] = []
    sizes: list[Values] = []
    for tables in levels:
        if not tables:
            raise DataError("expected at least one annotator's regions")
        sizes = sizes or [np.asarray(table.sum(0)).ravel() for table in tables]
        found = [overlaps(table) for table in tables]
        covers.append(_mean(found, sizes))
        best = [np.maximum(a, b) for a, b in zip(best or found, found, strict=True)]
        rands.append(float(np.mean([rand_index(table) for table in tables])))
        variations.append(float(np.mean([variation_of_information(table) for table in tables])))
    if not covers:
        raise DataError("expected at least one segmentation")
    pixels = int(sum(size.sum() for size in sizes))
    return RegionAgreement(np.array(covers), np.array(rands), np.array(variations), _mean(best, sizes), pixels)


def _mean(values: Sequence[Values], weights: Sequence[Values]) -> float:
    return float(np.average(np.concatenate(values), weights=np.concatenate(weights)))


def region_scores(images: Sequence[RegionAgreement]) -> RegionScores:
    """ODS and OIS of a data set.

    Args:
        images: With segmentations at the same levels.

    Raises:
        DataError: No image.

    Source: the published benchmark's scoring: images count by their annotators' pixels for the covering, alike for the others.
    """
    if not images:
        raise DataError("no image to score")
    weights = np.array([image.pixels for image in images], np.float64)
    ones = np.ones(len(images))
    return RegionScores(
        _score(np.array([image.covering for image in images]), weights),
        _score(np.array([image.rand_index for image in images]), ones),
        _score(np.array([image.variation for image in images]), ones, sign=-1),
        float(np.average([image.best_covering for image in images], weights=weights)),
    )


def _score(values: Values, weights: Values, sign: int = 1) -> RegionScore:
    """The best level of (N,T) for all images, and for each."""
    mean = np.average(values, axis=0, weights=weights)
    level = int((sign * mean).argmax())
    own = sign * (sign * values).max(1)
    return RegionScore(float(mean[level]), level, float(np.average(own, weights=weights)))
