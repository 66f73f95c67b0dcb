from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.reference import metrics_from_definitions as reference
from wss.errors import DataError, UsageError
from wss.metrics import (
    confusion_matrix,
    dice,
    frequency_weighted_iou,
    iou,
    mean_accuracy,
    miou,
    pixel_accuracy,
)

# truth in rows: 4 pixels of class 0 (3 found), 2 of class 1 (1 found), class 2 only predicted, class 3 nowhere
HAND = np.array([[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def random_pair(seed: int, classes: int = 4, shape: tuple[int, ...] = (3, 11, 7)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    return truth, prediction


def test_confusion_by_hand():
    truth = np.array([[0, 0, 0], [0, 1, 1], [255, 255, 255]], np.uint8)
    prediction = np.array([[0, 0, 0], [1, 1, 2], [3, 0, 255]], np.uint8)
    result = confusion_matrix(truth, prediction, 4)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, HAND)


def test_scores_by_hand():
    np.testing.assert_allclose(iou(HAND), [3 / 4, 1 / 3, 0, np.nan])
    np.testing.assert_allclose(dice(HAND), [6 / 7, 2 / 4, 0, np.nan])
    assert miou(HAND) == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)
    assert pixel_accuracy(HAND) == pytest.approx(4 / 6)
    assert mean_accuracy(HAND) == pytest.approx((3 / 4 + 1 / 2) / 2)  # class 2 is not in truth
    assert frequency_weighted_iou(HAND) == pytest.approx(4 / 6 * 3 / 4 + 2 / 6 * 1 / 3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_confusion_matches_the_definition(data):
    classes = data.draw(st.integers(1, 6))
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, max_side=6))
    dtype = data.draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    truth = data.draw(arrays(dtype, shape, elements=st.sampled_from([*range(classes), 255])))
    prediction = data.draw(arrays(dtype, shape, elements=st.integers(0, classes - 1)))
    result = confusion_matrix(truth, prediction, classes)
    np.testing.assert_array_equal(result, reference.confusion(truth, prediction, classes))
    expected = [reference.iou_of_sets(truth, prediction, k) for k in range(classes)]
    np.testing.assert_allclose(iou(result), expected)


def test_many_classes_do_not_overflow_the_dtype_of_the_labels():
    truth = np.full((4, 4), 199, np.uint8)
    prediction = np.full((4, 4), 198, np.uint8)
    assert confusion_matrix(truth, prediction, 200)[199, 198] == 16


def test_matrices_of_images_add_up_to_the_matrix_of_the_set():
    truth, prediction = random_pair(0)
    parts = sum(confusion_matrix(t, p, 4) for t, p in zip(truth, prediction, strict=True))
    np.testing.assert_array_equal(parts, confusion_matrix(truth, prediction, 4))


def test_relabelling_the_classes_permutes_the_scores():
    truth, prediction = random_pair(1)
    order = np.array([2, 0, 3, 1])
    relabel = np.full(256, 255, np.uint8)
    relabel[:4] = order
    before = confusion_matrix(truth, prediction, 4)
    after = confusion_matrix(relabel[truth], relabel[prediction], 4)
    np.testing.assert_array_equal(after[np.ix_(order, order)], before)
    np.testing.assert_allclose(iou(after)[order], iou(before))
    for score in (miou, pixel_accuracy, mean_accuracy, frequency_weighted_iou):
        assert score(after) == pytest.approx(score(before))


def test_a_perfect_prediction_scores_one():
    truth, _ = random_pair(2)
    confusion = confusion_matrix(truth, truth, 4)  # 255 is predicted where the truth is void: not looked at
    assert (iou(confusion) == 1).all()
    assert miou(confusion) == pixel_accuracy(confusion) == mean_accuracy(confusion) == 1
    assert frequency_weighted_iou(confusion) == pytest.approx(1)


def test_nothing_to_score_is_nan_without_warnings():
    void = np.full((2, 2), 255, np.uint8)
    confusion = confusion_matrix(void, np.zeros((2, 2), np.uint8), 3)
    assert confusion.sum() == 0
    with np.errstate(all="raise"):
        assert np.isnan(iou(confusion)).all()
        for score in (miou, pixel_accuracy, mean_accuracy, frequency_weighted_iou):
            assert np.isnan(score(confusion))


def test_ignore_index_can_be_another_value():
    truth = np.array([-1, 0, 1])
    np.testing.assert_array_equal(
        confusion_matrix(truth, np.array([0, 0, 1]), 2, ignore_index=-1), np.eye(2, dtype=np.int64)
    )


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([0, 1], [0, 255], "prediction has 1 pixels outside the classes 0..1, for example 255"),
        ([0, 1], [0, -1], "for example -1"),
        ([0, 2], [0, 0], "truth has 1 pixels outside"),
        ([0, 1, 1], [0, 1], "shape"),
    ],
)
def test_what_is_no_class_is_refused(truth, prediction, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(np.array(truth), np.array(prediction), 2)


def test_labels_with_holes_are_scored_where_they_are_labelled():
    truth, prediction = np.array([0, 0, 1]), np.array([0, 255, 0])
    confusion = confusion_matrix(np.where(prediction == 255, 255, truth), prediction, 2)
    np.testing.assert_array_equal(confusion, [[1, 0], [1, 0]])


def test_wrong_requests_are_refused():
    with pytest.raises(UsageError, match="argmax"):
        confusion_matrix(np.zeros(3, np.int64), np.zeros(3, np.float32), 2)
    with pytest.raises(UsageError, match="num_classes=0"):
        confusion_matrix(np.zeros(3, np.int64), np.zeros(3, np.int64), 0)
    with pytest.raises(UsageError, match=r"\(2, 3\)"):
        iou(np.zeros((2, 3)))
