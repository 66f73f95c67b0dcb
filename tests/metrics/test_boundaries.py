import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from skimage.morphology import thin

from wss.errors import DataError
from wss.metrics.boundaries import BoundaryCounts, boundary_counts, boundary_scores, boundary_thresholds

SIZE = (120, 160)  # diagonal 200: the tolerance is 1.5 pixels
THRESHOLDS = boundary_thresholds(9)


def line(column, rows=slice(10, 110), strength=1.0):
    edges = np.zeros(SIZE, np.float32)
    edges[rows, column] = strength
    return edges


def score(images):
    return boundary_scores([boundary_counts(e, a, THRESHOLDS) for e, a in images], THRESHOLDS)


def test_thresholds_lie_inside_the_unit_interval():
    assert np.allclose(boundary_thresholds(3), [0.25, 0.5, 0.75])


def test_the_truth_itself_is_perfect():
    scores = score([(line(50), [line(50) > 0, line(50) > 0])])
    assert scores.ods == scores.ois == 1
    assert scores.ods_precision == scores.ods_recall == 1


@pytest.mark.parametrize(("shift", "f"), [(0, 1.0), (1, 1.0), (2, 0.0)])
def test_partners_lie_within_the_tolerance(shift, f):
    assert score([(line(50 + shift), [line(50) > 0])]).ods == f


def test_a_pixel_is_matched_once():
    either_side = line(49) + line(51)
    counts = boundary_counts(either_side, [line(50) > 0], THRESHOLDS[:1])
    assert counts.matched.tolist() == counts.matched_truth.tolist() == [100]
    assert counts.predicted.tolist() == [200]
    broken = boundary_counts(line(50, slice(10, 60)), [line(50) + line(51) > 0], THRESHOLDS[:1])
    assert broken.matched_truth.tolist() == [50]
    assert broken.truth.tolist() == [200]


def test_what_reaches_a_threshold_is_thinned():
    """A wide line counts once per row; its strong side alone lies elsewhere than the whole."""
    wide = line(49, strength=0.5) + line(50, strength=0.5) + line(51, strength=0.95)
    counts = boundary_counts(wide, [line(50) > 0], THRESHOLDS, tolerance=0.5 / 200)
    assert counts.predicted[:5].tolist() == counts.matched[:5].tolist() == [98] * 5
    assert counts.predicted[5:].tolist() == [100] * 4
    assert counts.matched[5:].tolist() == [0] * 4
    assert counts.truth.tolist() == [100] * 9


@pytest.mark.parametrize("seed", range(3))
def test_parity_with_the_definition(seed):
    """Thinned, matched by a dense assignment and counted at each threshold on its own."""
    generator = np.random.default_rng(seed)
    edges = cv2.GaussianBlur(generator.random((40, 50)), (0, 0), 1.5)
    edges = (edges - edges.min()) / np.ptp(edges)
    annotations = [thin(cv2.GaussianBlur(generator.random((40, 50)), (0, 0), 2) > 0.5) for _ in range(2)]
    counts = boundary_counts(edges, annotations, THRESHOLDS, tolerance=0.04)
    reach = 0.04 * np.hypot(40, 50)
    for number, threshold in enumerate(THRESHOLDS):
        predicted = np.argwhere(thin(edges >= threshold))
        found = 0
        for annotation in annotations:
            distance = np.hypot(*(predicted[:, None] - np.argwhere(annotation)).transpose(2, 0, 1))
            rows, columns = linear_sum_assignment(np.where(distance <= reach, distance, 1e5))
            found += int((distance[rows, columns] <= reach).sum())
        assert counts.predicted[number] == len(predicted)
        assert counts.matched_truth[number] == found
        assert found / 2 <= counts.matched[number] <= found


def test_the_matching_is_the_largest_one():
    edges, truth = np.zeros(SIZE, np.float32), np.zeros(SIZE, bool)
    edges[5, [5, 6]] = 1  # the nearest partner of both is column 5 or 6; only one assignment gives both a partner
    truth[5, [4, 5]] = True
    counts = boundary_counts(edges, [truth], THRESHOLDS[:1], tolerance=1 / 200)
    assert counts.matched.tolist() == [2]


def test_the_closest_pixels_are_matched():
    """Of two predicted lines each annotator's takes the one it lies on, so that both count."""
    edges = line(50, strength=0.9) + line(52, strength=0.8)
    counts = boundary_counts(edges, [line(50) > 0, line(52) > 0], THRESHOLDS[:1], tolerance=2.5 / 200)
    assert counts.matched.tolist() == counts.matched_truth.tolist() == [200]


def test_precision_counts_any_annotator_and_recall_sums_over_all():
    counts = boundary_counts(line(50) + line(80), [line(50) > 0, line(80) > 0, line(120) > 0], THRESHOLDS[:1])
    assert counts.predicted.tolist() == counts.matched.tolist() == [200]
    assert counts.matched_truth.tolist() == [200]
    assert counts.truth.tolist() == [300]


def test_every_threshold_is_matched_anew():
    edges = line(50, strength=0.8) + line(100, strength=0.35)
    counts = boundary_counts(edges, [line(50) > 0], THRESHOLDS)
    assert counts.predicted.tolist() == [200] * 3 + [100] * 5 + [0]
    assert counts.matched_truth.tolist() == [100] * 8 + [0]
    assert score([(edges, [line(50) > 0])]).ods == 1


def test_ois_chooses_per_image_and_ods_once():
    strong = line(50, strength=0.9) + line(100, strength=0.6)
    weak = line(50, strength=0.5) + line(100, strength=0.3)
    scores = score([(strong, [line(50) > 0]), (weak, [line(50) > 0])])
    assert scores.ois == 1
    assert scores.ods < 0.9


def test_scores_by_hand():
    """Half the truth found at every threshold, with as many false pixels: P = R = F = 0.5; one recall has no area."""
    edges = line(50, slice(10, 60)) + line(100, slice(10, 60))
    scores = score([(edges, [line(50) > 0])])
    assert scores.ods == pytest.approx(0.5)
    assert scores.ods_precision == pytest.approx(0.5)
    assert scores.ap == 0


def test_scoring_as_published():
    """Two thresholds: F is largest between them, precision without any prediction is 0, AP sums over recall 0, .01, ..., 1."""
    counts = [BoundaryCounts(*(np.array(c) for c in ([60, 30], [100, 100], [40, 30], [80, 30])))]
    between = [(0.5 + d / 2, 0.6 - 0.3 * d) for d in np.linspace(0, 1, 100)]  # precision, recall
    scores = boundary_scores(counts, THRESHOLDS[:2])
    assert scores.ods == pytest.approx(max(2 * p * r / (p + r) for p, r in between), abs=1e-12)
    assert scores.ois == pytest.approx(2 * 0.5 * 0.6 / 1.1)
    assert scores.ap == pytest.approx(sum(1 - (r - 30) / 60 for r in range(30, 61)) / 100)
    empty = [BoundaryCounts(*(np.array(c) for c in ([60, 0], [100, 100], [40, 0], [80, 0])))]
    assert boundary_scores(empty, THRESHOLDS[:2]).precision == (0.5, 0.0)


def test_nothing_predicted_scores_zero():
    scores = score([(np.zeros(SIZE, np.float32), [line(50) > 0])])
    assert scores.ods == scores.ois == scores.ap == 0


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="size"):
        boundary_counts(line(50), [np.zeros((3, 3), bool)], THRESHOLDS)
    with pytest.raises(DataError, match="none"):
        boundary_counts(line(50), [], THRESHOLDS)
    with pytest.raises(DataError, match="no image"):
        boundary_scores([], THRESHOLDS)
