import numpy as np
import pytest
from PIL import Image

from wss.datasets import open_source
from wss.datasets.check import check
from wss.errors import DataError


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "classes.txt").write_text("background\nleaf\n")
    (tmp_path / "scribbles").mkdir()
    scribble = np.full((8, 9), 255, np.uint8)
    scribble[2], scribble[5] = 0, 1
    Image.fromarray(scribble).save(tmp_path / "scribbles/a.png")
    return tmp_path


def test_images_may_lie_in_the_root(root):
    source = open_source("folder", root)
    assert source.catalogue.splits["train"] == ("a", "b")
    assert source.read("a").scribble is not None
    assert [f.message for f in check(source, jobs=1) if f.severity == "error"] == []


def test_a_folder_of_images_wins(root):
    (root / "images").mkdir()
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / "images/c.png")
    assert open_source("folder", root).catalogue.splits["train"] == ("c",)


def test_a_folder_that_is_named_must_be_there(root):
    with pytest.raises(DataError, match="photos"):
        open_source("folder", root, images="photos")


def test_without_any_image_the_usual_folder_is_named(tmp_path):
    (tmp_path / "classes.txt").write_text("background\n")
    with pytest.raises(DataError, match="images: no image files"):
        open_source("folder", tmp_path)
