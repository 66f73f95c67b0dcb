import itertools
import math

import numpy as np
import pytest

from wss.metrics import abstaining, certainty_levels, confusion_by_certainty, confusion_matrix, iou, label_record, miou


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
    one = abstaining(counts, 1, share=2 / 9)
    assert one["abstained"] == pytest.approx(2 / 9)
    assert one["threshold"] == pytest.approx(1 - 2 ** (-7 / 8))
    assert one["miou"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    more = abstaining(counts, 1, share=2.5 / 9)  # and half of the wrong pixel of level 7
    assert more["abstained"] == pytest.approx(2.5 / 9)
    assert more["threshold"] == pytest.approx(1 - 2 ** (-7 / 8))
    assert more["miou"] == pytest.approx(3 / 3.5)
    nothing = abstaining(counts, 1, share=1.0)
    assert nothing["abstained"] == 1 and np.isnan(nothing["miou"])
    half = abstaining(counts, 1, confidence=0.5)
    assert half["abstained"] == pytest.approx(3 / 9)
    assert half["miou"] == 1


def test_abstaining_from_a_share_works_among_labels_that_are_all_nearly_certain():
    doubt = np.geomspace(1e-8, 1e-4, 10_000)[None]
    truth = np.zeros(doubt.shape, np.int64)
    labels = (doubt > 9e-5).astype(np.int64)
    found = abstaining(_counts(truth, labels, certainty_levels(doubt)), 0, share=0.06)
    assert found["abstained"] == pytest.approx(0.06)
    assert found["threshold"] > 1 - 1e-4
    assert found["iou_per_class"][0] == 1


def test_labels_of_one_certainty_are_dropped_in_the_mean_of_all_choices():
    """Four of ten labels to drop, one of which is less certain than eight equal ones."""
    truth = np.array([[0, 0, 1, 1, 1, 0, 0, 1, 1, 0]])
    labels = np.array([[1, 0, 0, 1, 1, 0, 1, 1, 1, 0]])
    certainty = np.array([[3, *[254] * 8, 255]], np.uint8)
    confusions = []
    for dropped in itertools.combinations(range(1, 9), 3):
        kept = [i for i in range(1, 10) if i not in dropped]
        confusions.append(confusion_matrix(truth[0, kept], labels[0, kept], 2))
    mean = np.mean(confusions, axis=0)
    found = abstaining(_counts(truth, labels, certainty), 0, share=0.4)
    assert found["abstained"] == pytest.approx(0.4)
    np.testing.assert_allclose(found["iou_per_class"], iou(mean))


@pytest.mark.parametrize("certain", [0.0, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("missing", [0, 20])
def test_six_percent_are_six_percent(certain, missing):
    rng = np.random.default_rng(1)
    doubt = np.where(rng.random(1000) < certain, 0, rng.random(1000) ** 4)[None]
    truth = rng.integers(0, 2, doubt.shape)
    labels = np.where(rng.random(doubt.shape) < doubt, 1 - truth, truth)
    counts = _counts(truth, labels, certainty_levels(doubt))
    record = label_record(counts, missing, ["a", "b"], name="x", split="train", num_images=1)
    assert record["abstaining"]["without 6 %"]["abstained"] == pytest.approx(0.06, abs=1e-9)
    drop = round(0.06 * (1000 + missing)) - missing
    scores = []
    for _ in range(40):
        order = np.lexsort((rng.random(1000), -doubt[0]))[drop:]
        scores.append(miou(confusion_matrix(truth[0, order], labels[0, order], 2)))
    assert record["abstaining"]["without 6 %"]["miou"] == pytest.approx(np.mean(scores), abs=4e-3)


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
