from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wss.datasets import DatasetSpec
from wss.datasets.guard import keep_apart
from wss.errors import UsageError


@pytest.fixture
def data(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "set" / part / "a.png")
    (tmp_path / "set" / "classes.txt").write_text("background\ncell\n")
    return DatasetSpec(kind="folder", root=tmp_path / "set")


def _refused(data, out, names=None):
    with pytest.raises(UsageError) as caught:
        keep_apart(data, out, names)
    return str(caught.value)


def test_the_folders_of_the_data_set_are_refused(data, tmp_path, monkeypatch):
    said = _refused(data, data.root / "masks")
    assert f"{data.root / 'masks'} holds files of the data set" in said
    assert "another folder" in said
    _refused(data, data.root / "images")
    (tmp_path / "link").symlink_to(data.root / "masks")
    _refused(data, tmp_path / "link")
    monkeypatch.chdir(data.root / "masks")
    _refused(data, Path())


def test_folders_in_names_count(data):
    _refused(data, data.root, ["masks/x"])
    keep_apart(data, data.root / "masks", ["day/x"])


def test_other_folders_are_free(data, tmp_path):
    keep_apart(data, tmp_path / "new")
    keep_apart(data, data.root)
    keep_apart(data, data.root / "scribbles")  # there are none yet
    keep_apart(DatasetSpec(kind="sample"), tmp_path)
    keep_apart(DatasetSpec(kind="folder", root=tmp_path / "away"), tmp_path / "away" / "masks")
