import numpy as np
import pytest

from tests.reference import metrics_from_definitions as slow
from wss.errors import DataError
from wss.metrics.regions import (
    RegionAgreement,
    contingency,
    covering,
    overlaps,
    rand_index,
    region_agreement,
    region_scores,
    variation_of_information,
)

HALVES = np.repeat([[0, 0, 1, 1]], 2, 0)
THIRD = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])


def _maps(count, size=(7, 9), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, n, size) for n in rng.integers(1, 7, count)]


def test_worked_by_hand():
    """Truth: two halves of four pixels; found: six pixels and two. Shared: 4, 2 and 2."""
    table = contingency(THIRD, HALVES)
    assert (table.regions.tolist(), table.truths.tolist(), table.counts.tolist()) == ([0, 0, 1], [0, 1, 1], [4, 2, 2])
    np.testing.assert_allclose(overlaps(table), [4 / 6, 2 / 4])
    assert covering(table) == pytest.approx((4 * 4 / 6 + 4 * 2 / 4) / 8)
    # 28 pairs; joined in the truth 6 + 6, found 15 + 1, in both 6 + 1 + 1
    assert rand_index(table) == pytest.approx((28 - (12 - 8) - (16 - 8)) / 28)
    entropy = 3 / 4 * np.log2(4 / 3) + 1 / 4 * np.log2(4)
    joint = 1 / 2 * np.log2(2) + 2 * (1 / 4 * np.log2(4))
    assert variation_of_information(table) == pytest.approx(2 * joint - 1 - entropy)


@pytest.mark.parametrize("seed", range(6))
def test_as_defined(seed):
    truth, regions = _maps(2, seed=seed)
    table = contingency(regions, truth)
    assert covering(table) == pytest.approx(slow.covering(truth, regions))
    assert rand_index(table) == pytest.approx(slow.rand_index(truth, regions))
    assert variation_of_information(table) == pytest.approx(slow.variation_of_information(truth, regions), abs=1e-12)


def test_properties():
    a, b = _maps(2, seed=9)
    for one, other in ((a, b), (b, a)):
        table = contingency(one, other)
        relabelled = contingency(10 - one, other)
        assert covering(table) == pytest.approx(covering(relabelled))
        assert rand_index(table) == pytest.approx(rand_index(contingency(other, one)))
        assert variation_of_information(table) == pytest.approx(variation_of_information(contingency(other, one)))
        same = contingency(one, one)
        assert (covering(same), rand_index(same)) == (1, 1)
        assert variation_of_information(same) == pytest.approx(0, abs=1e-12)
    single = contingency(np.zeros((1, 1), int), np.zeros((1, 1), int))
    assert (covering(single), rand_index(single), variation_of_information(single)) == (1, 1, 0)


def test_large_counts_stay_exact():
    """Pairs of a 1000x1000 image are more than 2**32."""
    whole = np.zeros((1000, 1000), np.int32)
    assert rand_index(contingency(whole, np.arange(10**6).reshape(1000, 1000))) == 0
    assert rand_index(contingency(whole, whole)) == 1


def test_merged_tables_are_those_of_merged_regions():
    fine, truth = np.random.default_rng(3).integers(0, 12, (8, 8)), _maps(1, (8, 8))[0]
    ids = np.random.default_rng(4).permutation(np.arange(12) % 5)
    expected, found = contingency(ids[fine], truth), contingency(fine, truth).merged(ids)
    assert (found.regions == expected.regions).all()
    assert (found.truths == expected.truths).all()
    assert (found.counts == expected.counts).all()
    assert [sizes.sum() for sizes in found.sizes()] == [64, 64]


def test_agreement_of_one_image():
    """Two annotators; one level finds the first one's regions, the other the second one's."""
    annotators = [HALVES, np.zeros_like(HALVES)]
    found = region_agreement([[contingency(level, a) for a in annotators] for level in (HALVES, np.zeros_like(HALVES))])
    np.testing.assert_allclose(found.covering, [(1 + 1 / 2) / 2, (1 / 2 + 1) / 2])
    np.testing.assert_allclose(found.rand_index, [(1 + 12 / 28) / 2] * 2)
    np.testing.assert_allclose(found.variation, [1 / 2, 1 / 2])
    assert found.best_covering == 1
    assert found.pixels == 16


def test_scores_of_a_set():
    def image(cover, rand, variation, best, pixels):
        return RegionAgreement(*(np.array(v, float) for v in (cover, rand, variation)), best, pixels)

    images = [
        image([0.2, 0.6, 0.5], [0.9, 0.8, 0.1], [3, 1, 2], 0.8, 100),
        image([0.8, 0.2, 0.4], [0.5, 0.7, 0.9], [2, 3, 1], 0.9, 300),
    ]
    scores = region_scores(images)
    assert scores.covering.ods == pytest.approx((0.2 * 100 + 0.8 * 300) / 400)
    assert scores.covering.ods_level == 0
    assert scores.covering.ois == pytest.approx((0.6 * 100 + 0.8 * 300) / 400)
    assert scores.best_covering == pytest.approx((0.8 * 100 + 0.9 * 300) / 400)
    assert (scores.rand_index.ods, scores.rand_index.ods_level) == (pytest.approx(0.75), 1)
    assert scores.rand_index.ois == pytest.approx(0.9)
    assert (scores.variation.ods, scores.variation.ods_level, scores.variation.ois) == (1.5, 2, 1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"size \(2, 4\), got \(2, 3\)"):
        contingency(HALVES, HALVES[:, :3])
    with pytest.raises(DataError, match="at least one segmentation"):
        region_agreement([])
    with pytest.raises(DataError, match="at least one annotator"):
        region_agreement([[]])
    with pytest.raises(DataError, match="no image"):
        region_scores([])
