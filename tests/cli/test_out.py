"""Results are not written among the files of the data set."""

import hashlib

import pytest

COMMANDS = {
    "edges": ["edges", "--detector", "gradient"],
    "superpixels": ["superpixels", "--method", "slic"],
    "propagate": ["propagate", "--method", "superpixel"],
    "predict": ["predict"],
    "cam": ["cam"],
    "predict images": ["predict", "../cells/images"],
}


def _contents(root):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", ["masks", "scribbles", "images"])
@pytest.mark.parametrize("command", COMMANDS)
def test_folders_of_the_data_set_are_refused_at_once(cells, wss, tmp_path, command, folder):
    before = _contents(tmp_path / "cells")
    result = wss(*COMMANDS[command], "--out", f"../cells/{folder}")
    assert result.code == 2
    assert f"cells/{folder}" in result.said
    assert "give --out another folder" in result.said
    assert _contents(tmp_path / "cells") == before
    assert not (cells / "artifacts" / "train").exists()


def test_the_mask_of_one_image_is_not_put_among_them(cells, wss, tmp_path):
    before = _contents(tmp_path / "cells")
    image, scribbles = tmp_path / "cells" / "images" / "c0.png", tmp_path / "cells" / "scribbles" / "c0.png"
    result = wss("propagate", image, "--scribbles", scribbles, "--out", tmp_path / "cells" / "masks" / "c0.png")
    assert result.code == 2
    assert "holds files of the data set" in result.said
    assert _contents(tmp_path / "cells") == before


def test_a_folder_beside_them_is_free(cells, wss, tmp_path):
    assert wss("edges", "--detector", "gradient", "--out", "../cells/edges").code == 0
    assert len(list((tmp_path / "cells" / "edges").glob("*.png"))) == 6
