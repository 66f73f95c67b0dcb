"""The Berkeley region benchmark: agreement of segmentations with those of several annotators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RegionAgreement:
    """Agreement of T segmentations of one image, from fine to coarse, with its annotators.

    Attributes:
        covering: float64 (T,), covering of the annotators' regions, as fractions.
        rand_index: float64 (T,), probabilistic Rand index, as fractions.
        variation: float64 (T,), variation of information, in bits.
        best_covering: Covering if for each annotated region the segmentation that covers it best is used.
        pixels: Number of pixels, summed over annotators: the weight of the image's covering.
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
        ods: Value at the level that is best for the whole set.
        ods_level: Number of this level, from 0.
        ois: Value with the best level of each image.
    """

    ods: float
    ods_level: int
    ois: float


@dataclass(frozen=True)
class RegionScores:
    """Scores of a data set.

    Attributes:
        covering: Fractions; higher is better.
        rand_index: Fractions; higher is better.
        variation: Bits; lower is better.
        best_covering: Covering with the best level for each annotated region.
    """

    covering: RegionScore
    rand_index: RegionScore
    variation: RegionScore
    best_covering: float


@dataclass(frozen=True)
class Contingency:
    """Contingency table: numbers of common pixels of pairs of regions, one of a segmentation and one of the truth.

    Pairs without common pixels are left out.

    Attributes:
        regions: int64 (P,), the region of the segmentation.
        truths: int64 (P,), the region of the truth.
        counts: int64 (P,), the number of pixels in both, above 0.
    """

    regions: NDArray[np.int64]
    truths: NDArray[np.int64]
    counts: NDArray[np.int64]

    def merged(self, ids: NDArray[Any]) -> Contingency:
        """Table of a coarser segmentation: ``ids[n]``, an integer from 0, is its region that contains region n."""
        return _table(ids[self.regions], self.truths, self.counts)

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels of each region of the segmentation, (N,), and of the truth, (G,); 0 for ids that do not occur."""
        own, theirs = (np.bincount(ids, self.counts).astype(np.int64) for ids in (self.regions, self.truths))
        return own, theirs


def contingency(regions: NDArray[Any], truth: NDArray[Any]) -> Contingency:
    """Compare a segmentation with that of an annotator.

    Args:
        regions: Region ids of the segmentation, integers (H,W) from 0.
        truth: Region ids of the annotator, integers (H,W) from 0.

    Raises:
        DataError: Sizes differ, or there is no pixel.
    """
    if regions.shape != truth.shape or not regions.size:
        raise DataError(f"expected annotated regions of the segmentation's size {regions.shape}, got {truth.shape}")
    return _table(regions.ravel(), truth.ravel(), np.ones(regions.size, np.int64))


def _table(regions: NDArray[Any], truths: NDArray[Any], counts: NDArray[np.int64]) -> Contingency:
    """Sum the counts of equal pairs. The sums are in float64, which is exact for the number of pixels of any image."""
    columns = int(truths.max()) + 1
    codes = regions.astype(np.int64) * columns + truths
    pairs, inverse = np.unique(codes, return_inverse=True)
    own, theirs = np.divmod(pairs, columns)
    return Contingency(own, theirs, np.bincount(inverse, counts).astype(np.int64))


def overlaps(table: Contingency) -> Values:
    """For each region of the truth, the largest IoU with a region of the segmentation, float64 (G,)."""
    own, theirs = table.sizes()
    share = table.counts / (own[table.regions] + theirs[table.truths] - table.counts)
    largest = np.zeros(len(theirs))
    np.maximum.at(largest, table.truths, share)
    return largest


def covering(table: Contingency) -> float:
    """Mean of ``overlaps`` over the regions of the truth, weighted by their sizes.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, equation 11.
    """
    return float(np.average(overlaps(table), weights=table.sizes()[1]))


def rand_index(table: Contingency) -> float:
    """Share of the pairs of pixels that both segmentations join or both separate; 1 for a single pixel.

    Source: Rand 1971.
    """
    count = int(table.counts.sum())
    pairs = count * (count - 1) // 2
    both, own, theirs = (int((values**2).sum()) for values in (table.counts, *table.sizes()))
    return 1 - ((own + theirs) / 2 - both) / pairs if pairs else 1.0


def variation_of_information(table: Contingency) -> float:
    """Sum of the conditional entropies of each segmentation given the other, in bits.

    Source: Meila 2005.
    """
    count = int(table.counts.sum())
    joint, own, theirs = (_entropy(values / count) for values in (table.counts, *table.sizes()))
    return 2 * joint - own - theirs


def _entropy(shares: Values) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())


def region_agreement(levels: Iterable[Sequence[Contingency]]) -> RegionAgreement:
    """Agreement of one image's segmentations with its annotators. Rand index and variation are means over annotators.

    Args:
        levels: For each segmentation its contingency tables with all annotators, in the same order.

    Raises:
        DataError: There is no segmentation or no annotator.

    Source: the published benchmark's scoring; the mean of Rand indices is the probabilistic Rand index of Unnikrishnan,
        Pantofaru and Hebert 2007.
    """
    covers, rands, variations = [], [], []
    best: list[Values] = []
    sizes: list[NDArray[np.int64]] = []
    for tables in levels:
        if not tables:
            raise DataError("expected at least one annotator's regions")
        sizes = sizes or [table.sizes()[1] for table in tables]
        level_overlaps = [overlaps(table) for table in tables]
        covers.append(_mean(level_overlaps, sizes))
        best = [np.maximum(a, b) for a, b in zip(best or level_overlaps, level_overlaps, strict=True)]
        rands.append(float(np.mean([rand_index(table) for table in tables])))
        variations.append(float(np.mean([variation_of_information(table) for table in tables])))
    if not covers:
        raise DataError("expected at least one segmentation")
    pixels = int(sum(size.sum() for size in sizes))
    return RegionAgreement(np.array(covers), np.array(rands), np.array(variations), _mean(best, sizes), pixels)


def _mean(values: Sequence[Values], weights: Sequence[NDArray[np.int64]]) -> float:
    return float(np.average(np.concatenate(values), weights=np.concatenate(weights)))


def region_scores(images: Sequence[RegionAgreement]) -> RegionScores:
    """ODS and OIS of a data set.

    Args:
        images: Agreement of each image, with segmentations at the same levels.

    Raises:
        DataError: There is no image.

    Source: the published benchmark's scoring. For the covering, images are weighted by their annotators' pixels; for
        the other measures all images have equal weight.
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
    """Best level of values (N,T) for all images together, and for each image."""
    mean = np.average(values, axis=0, weights=weights)
    level = int((sign * mean).argmax())
    own = sign * (sign * values).max(1)
    return RegionScore(float(mean[level]), level, float(np.average(own, weights=weights)))
