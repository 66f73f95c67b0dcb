import json

import numpy as np
from PIL import Image

from wss.datasets import open_source
from wss.datasets.coco_writer import format_coco
from wss.datasets.rle import decode_rle

CLASSES = ("background", "leaf", "stem")


def _labels(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros((20, 30), np.uint8)
    for label in (1, 2, 1, 2):
        y, x = rng.integers(0, 15), rng.integers(0, 24)
        labels[y : y + 5, x : x + 6] = label
    return labels


def test_masks_are_read_back(tmp_path):
    masks = {f"i{n}": _labels(n) for n in range(3)}
    (tmp_path / "images").mkdir()
    for name in masks:
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
    text = format_coco([(f"{name}.png", mask) for name, mask in masks.items()], CLASSES, 0)
    (tmp_path / "instances.json").write_text(text)
    source = open_source("coco", tmp_path, train="instances.json", images="images")
    assert source.catalogue.classes == CLASSES
    for image_id in source.catalogue.splits["train"]:
        sample = source.read(image_id)
        np.testing.assert_array_equal(sample.mask, masks[image_id])


def test_an_object_is_one_connected_region():
    labels = np.full((6, 8), 255, np.uint8)
    labels[0, 0], labels[1, 1], labels[5, 6:8] = 1, 1, 1
    content = json.loads(format_coco([("a.png", labels)], CLASSES, 0))
    assert [o["bbox"] for o in content["annotations"]] == [[0, 0, 2, 2], [6, 5, 2, 1]]
    assert [o["area"] for o in content["annotations"]] == [2, 2]
    both = sum(decode_rle(o["segmentation"]).astype(int) for o in content["annotations"])
    np.testing.assert_array_equal(both, labels == 1)


def test_without_background_every_class_is_a_category():
    content = json.loads(format_coco([("a.png", np.zeros((2, 2), np.uint8))], CLASSES, None))
    assert [c["id"] for c in content["categories"]] == [1, 2, 3] and len(content["annotations"]) == 1
    assert decode_rle(content["annotations"][0]["segmentation"]).all()
