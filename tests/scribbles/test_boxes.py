from __future__ import annotations

import numpy as np
import pytest

from wss.errors import UsageError
from wss.scribbles import box_labels, boxes_of


def test_boxes_of_a_mask_by_hand() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 3:9] = 2
    mask[10:20, 0:4] = 1
    mask[12, 25:28] = 1
    mask[0, 29] = 255
    assert boxes_of(mask, background=0).tolist() == [[1, 0, 10, 3, 19], [1, 25, 12, 27, 12], [2, 3, 2, 8, 4]]
    assert boxes_of(mask, background=0, min_area=4).tolist() == [[1, 0, 10, 3, 19], [2, 3, 2, 8, 4]]
    assert boxes_of(mask, background=None)[0].tolist() == [0, 0, 0, 29, 19]
    nothing = boxes_of(np.full((4, 4), 255, np.uint8), background=0)
    assert nothing.shape == (0, 5) and nothing.dtype == np.int32
    with pytest.raises(UsageError, match="dense mask"):
        boxes_of(mask.astype(np.int64), background=0)


def test_every_object_pixel_is_in_a_box_of_its_class_and_each_box_is_tight() -> None:
    mask = (np.random.default_rng(0).random((40, 50)) > 0.8).astype(np.uint8) * 2
    inside = np.zeros(mask.shape, bool)
    for label, x0, y0, x1, y1 in boxes_of(mask, background=0, min_area=0):
        part = mask[y0 : y1 + 1, x0 : x1 + 1] == label
        assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    assert inside[mask == 2].all()


def test_outside_of_boxes_is_background() -> None:
    boxes = np.array([[1, -3, 1, 2, 2], [2, 2, 2, 3, 9], [1, 50, 0, 60, 3], [1, 5, -7, 5, -1]], np.int32)
    labels = box_labels(boxes, (4, 6), background=0)
    assert labels.tolist() == [
        [0, 0, 0, 0, 0, 0],
        [255, 255, 255, 0, 0, 0],
        [255, 255, 255, 255, 0, 0],
        [0, 0, 255, 255, 0, 0],
    ]
    assert (box_labels(boxes, (4, 6), background=None) == 255).all()
    assert (box_labels(boxes[:0], (4, 6), background=0) == 0).all()
