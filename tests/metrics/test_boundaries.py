import numpy as np
import pytest

from wss.errors import DataError
from wss.metrics.boundaries import boundary_counts, boundary_scores, boundary_thresholds

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
    thick = line(50) + line(51)
    counts = boundary_counts(thick, [line(50) > 0], THRESHOLDS[:1])
    assert counts.matched.tolist() == counts.matched_truth.tolist() == [100]
    assert counts.predicted.tolist() == [200]
    broken = boundary_counts(line(50, slice(10, 60)), [line(50) + line(51) > 0], THRESHOLDS[:1])
    assert broken.matched_truth.tolist() == [50]
    assert broken.truth.tolist() == [200]


def test_the_matching_is_the_largest_one():
    edges, truth = np.zeros(SIZE, np.float32), np.zeros(SIZE, bool)
    edges[5, [5, 6]] = 1  # the nearest partner of both is column 5 or 6; only one assignment gives both a partner
    truth[5, [4, 5]] = True
    counts = boundary_counts(edges, [truth], THRESHOLDS[:1], tolerance=1 / 200)
    assert counts.matched.tolist() == [2]


def test_the_closest_pixels_are_matched():
    """Of two predicted lines each annotator's takes the one it lies on, so that both count."""
    edges = line(50, strength=0.9) + line(51, strength=0.8)
    counts = boundary_counts(edges, [line(50) > 0, line(51) > 0], THRESHOLDS[:1])
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
    """Half the truth found at every threshold, with as many false pixels: P = R = F = 0.5, AP a single precision."""
    edges = line(50, slice(10, 60)) + line(100, slice(10, 60))
    scores = score([(edges, [line(50) > 0])])
    assert scores.ods == pytest.approx(0.5)
    assert scores.ods_precision == pytest.approx(0.5)
    assert scores.ap == pytest.approx(0.25)


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
