import math

import numpy as np
import pytest

from wss.metrics import abstaining, certainty_levels, confusion_by_certainty, label_record


def _case():
    """Ten pixels: eight labelled with truth known, one unlabelled, one void."""
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1, 255]])
    labels = np.array([[0, 0, 0, 1, 1, 1, 1, 0, 255, 0]])
    certainty = np.array([[255, 255, 40, 3, 255, 255, 40, 7, 0, 255]], np.uint8)
    return truth, labels, certainty


def _counts(*case):
    levels, each = confusion_by_certainty(*case, 2)
    counts = np.zeros((256, 2, 2), np.int64)
    counts[levels] += each
    return counts


def test_counts_by_hand():
    levels, counts = confusion_by_certainty(*_case(), 2)
    assert levels.tolist() == [3, 7, 40, 255]
    assert counts.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[1, 0], [0, 1]], [[2, 0], [0, 2]]]
    truth, labels, _ = _case()
    levels, counts = confusion_by_certainty(truth, labels, None, 2)
    assert levels.tolist() == [255]
    assert counts.sum() == 8
    assert confusion_by_certainty(truth, np.full_like(labels, 255), None, 2)[1].shape == (0, 2, 2)


def test_abstaining_drops_the_least_certain_first():
    counts = _counts(*_case())
    everything = abstaining(counts, 1, share=0.0)
    assert everything["abstained"] == pytest.approx(1 / 9)  # the pixel without label cannot be kept
    assert everything["miou"] == pytest.approx(3 / 5)
    one = abstaining(counts, 1, share=2.5 / 9)
    assert one["abstained"] == pytest.approx(2 / 9)
    assert one["threshold"] == pytest.approx(1 - 2 ** (-7 / 8))
    assert one["miou"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    half = abstaining(counts, 1, confidence=0.5)
    assert half["abstained"] == pytest.approx(3 / 9)
    assert half["miou"] == 1


def test_abstaining_from_a_share_works_among_labels_that_are_all_nearly_certain():
    doubt = np.geomspace(1e-8, 1e-4, 10_000)[None]
    truth = np.zeros(doubt.shape, np.int64)
    labels = (doubt > 9e-5).astype(np.int64)
    found = abstaining(_counts(truth, labels, certainty_levels(doubt)), 0, share=0.06)
    assert 0.05 < found["abstained"] <= 0.06
    assert found["threshold"] > 1 - 1e-4
    assert found["iou_per_class"][0] == 1


def test_a_record_is_plain_and_says_what_is_undefined():
    record = label_record(_counts(*_case()), 1, ["a", "b"], name="x", split="train", num_images=1)
    assert record["coverage"] == pytest.approx(8 / 9)
    assert record["abstaining"]["all"]["miou"] == record["miou"] == pytest.approx(3 / 5)
    assert record["abstaining"]["without 6 %"]["miou"] == pytest.approx(3 / 5)
    assert record["abstaining"]["confidence >= 0.5"]["miou"] == 1
    nothing = label_record(np.zeros((256, 2, 2), np.int64), 5, ["a", "b"], name="x", split="train", num_images=1)
    assert nothing["miou"] is None
    assert nothing["coverage"] == 0
    assert not any(isinstance(v, float) and math.isnan(v) for v in nothing["abstaining"]["all"].values())
