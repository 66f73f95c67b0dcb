from __future__ import annotations

import json

import numpy as np
import pytest

from wss.errors import UsageError
from wss.metrics import metrics_record

HAND = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
SETTINGS = {
    "split": "val",
    "num_images": 2,
    "crf": True,
    "scales": (1, 0.5),
    "flip": False,
    "backbone": "unet",
    "initialisation": "none",
    "method": "pce",
    "store_key": "abc",
}


def test_record_by_hand():
    record = metrics_record(HAND, ("background", "cat", "dog"), **SETTINGS)
    assert record == {
        "split": "val",
        "num_images": 2,
        "num_classes": 3,
        "classes": ["background", "cat", "dog"],
        "miou": pytest.approx((3 / 4 + 2 / 3) / 2),
        "iou_per_class": {"background": 3 / 4, "cat": pytest.approx(2 / 3), "dog": None},
        "pixel_accuracy": pytest.approx(5 / 6),
        "mean_accuracy": pytest.approx((3 / 4 + 1) / 2),
        "frequency_weighted_iou": pytest.approx(4 / 6 * 3 / 4 + 2 / 6 * 2 / 3),
        "crf": True,
        "scales": [1.0, 0.5],
        "flip": False,
        "backbone": "unet",
        "initialisation": "none",
        "method": "pce",
        "store_key": "abc",
    }


def test_a_walk_at_test_time_adds_its_settings():
    settings = {"stride": 8, "scale": 5.0, "alpha": 0.5}
    assert metrics_record(HAND, ("a", "b", "c"), **SETTINGS, walk=settings)["walk"] == settings
    assert "walk" not in metrics_record(HAND, ("a", "b", "c"), **SETTINGS)


def test_bands_along_boundaries_add_two_entries():
    record = metrics_record(HAND, ("a", "b", "c"), **SETTINGS, trimap={2: HAND, 4: np.zeros((3, 3), np.int64)})
    assert record["trimap_miou"] == {"2": record["miou"], "4": None}
    assert record["trimap_accuracy"] == {"2": record["pixel_accuracy"], "4": None}


def test_record_is_strict_json_even_with_numpy_values_and_undefined_scores():
    record = metrics_record(
        np.zeros((2, 2), np.int64),
        ("a", "b"),
        **{**SETTINGS, "num_images": np.int64(0), "crf": np.bool_(False), "scales": np.array([1.0])},
        dice_per_class={"b": np.float64("nan")},
        hd95_per_class={"b": float("inf")},
    )
    again = json.loads(json.dumps(record, allow_nan=False))
    assert again == record
    assert again["miou"] is None
    assert again["dice_per_class"] == again["hd95_per_class"] == {"b": None}


def test_names_must_fit_the_matrix():
    with pytest.raises(UsageError, match="3 different class names"):
        metrics_record(HAND, ("a", "b"), **SETTINGS)
    with pytest.raises(UsageError, match="3 different class names"):
        metrics_record(HAND, ("a", "b", "b"), **SETTINGS)
