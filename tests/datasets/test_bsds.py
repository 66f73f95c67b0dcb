import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.datasets.bsds_files import lines, write_bsds, write_ground_truth
from wss.datasets.bsds import list_bsds, read_ground_truth
from wss.errors import DataError


def test_images_and_annotations(tmp_path):
    root = write_bsds(tmp_path / "BSDS500" / "data", {"train": 2, "val": 1})
    found = list_bsds(tmp_path, "train", "val")
    assert [item.image_id for item in found] == ["train0", "train1", "val0"]
    assert list_bsds(root, "val")[0].image_id == "val0"
    image, boundaries, segments = found[0].read()
    assert image.shape == (48, 64, 3)
    assert [b.dtype for b in boundaries] == [bool, bool]
    assert len(segments) == 2
    assert np.array_equal(boundaries[0], lines(segments[0]))
    assert [int(s.max()) for s in segments] == [3, 1]
    assert segments[0].min() == 0


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="images/ and groundTruth/"):
        list_bsds(tmp_path, "train")
    write_bsds(tmp_path, {"train": 1})
    with pytest.raises(DataError, match="no images of split 'test'; splits here: train"):
        list_bsds(tmp_path, "test")
    (tmp_path / "groundTruth" / "train" / "train0.mat").unlink()
    with pytest.raises(DataError, match="no annotations of train0"):
        list_bsds(tmp_path, "train")


def test_damaged_annotations_are_named(tmp_path):
    write_bsds(tmp_path, {"train": 1})
    (item,) = list_bsds(tmp_path, "train")
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(item.image)
    with pytest.raises(DataError, match=r"differ from the image's size \(5, 5\)"):
        item.read()
    savemat(item.truth, {"other": 1})
    with pytest.raises(DataError, match="expected groundTruth"):
        read_ground_truth(item.truth)
    write_ground_truth(item.truth, [np.zeros((4, 4), int), np.zeros((4, 5), int)])
    with pytest.raises(DataError, match="shapes"):
        read_ground_truth(item.truth)
