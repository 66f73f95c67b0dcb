"""A person follows the remedies of `wss data check`: in wss.yaml, with commands, and before a training."""

import re
import shlex

import numpy as np
import pytest
from commands import QUICK
from PIL import Image

from wss.yaml_text import parse


def repaint(folder, table):
    for path in folder.iterdir():
        labels = np.array(Image.open(path))
        values = np.arange(256, dtype=np.uint8)
        values[list(table)] = list(table.values())
        Image.fromarray(values[labels]).save(path)


def follow(cells, remedy):
    """Put the first option that a remedy names below dataset in wss.yaml."""
    option = re.search(r"set (\w+: \{.*?\}) below dataset in wss.yaml", remedy)[1]
    (cells / "wss.yaml").write_text(f"dataset:\n  kind: folder\n  root: ../cells\n  {option}\n")
    return parse(option)


@pytest.mark.parametrize(
    ("part", "table", "code", "told"),
    [
        ("masks", {1: 255, 2: 0}, "binary-masks", "255 is void"),
        ("masks", {1: 85, 2: 170}, "stretched-labels", "holds label"),
        ("scribbles", {255: 0}, "unlabelled-as-class", "painted as 0"),
        ("scribbles", {255: 0, 0: 1, 1: 2, 2: 3}, "unlabelled-as-class", "holds label 3"),
    ],
)
def test_labels_that_mean_something_else_are_refused_until_the_remedy_is_followed(cells, wss, part, table, code, told):
    root = cells.parent / "cells"
    if code == "binary-masks":
        (root / "classes.txt").write_text("background\ncell\n")
        repaint(root / "scribbles", {2: 255})
    repaint(root / part, table)
    for command in (("train", *QUICK), ("run", "pce", *QUICK), ("prepare",)):  # without a check before
        refused = wss(*command)
        assert refused.code == 1, command
        assert told in refused.err
        assert "_values" in refused.err
    checked = wss("data", "check", "--json")
    assert checked.code == 1
    (finding,) = [f for f in checked.json if f["severity"] == "error"]
    assert finding["code"] == code
    follow(cells, finding["remedy"])
    assert wss("data", "check").code == 0
    assert wss("train", *QUICK).code == 0


def test_init_takes_the_same_option(cells, wss, tmp_path):
    repaint(cells.parent / "cells" / "masks", {1: 85, 2: 170})
    option = "mask_values={0: 0, 85: 1, 170: 2}"
    done = wss("init", "-k", "folder", "-r", cells.parent / "cells", "-w", tmp_path / "w", "-o", option)
    assert done.code == 0, done.err
    assert wss("data", "check", "-w", tmp_path / "w").code == 0
    assert wss("data", "info", "-w", tmp_path / "w", "--json").json["mask_images"] == {
        "background": 6,
        "cell": 6,
        "wall": 6,
    }


def test_scribbles_are_simulated_by_the_command_that_the_note_names(cells, wss):
    for path in (cells.parent / "cells" / "scribbles").iterdir():
        path.unlink()
    (note,) = wss("data", "check", "--json").json
    assert note["code"] == "no-scribbles"
    command = re.search(r"`wss (data simulate .*?)`", note["remedy"])[1]
    assert wss(*shlex.split(command)).code == 0
    assert wss("data", "check", "--json").json == []


def test_without_masks_no_command_is_named_that_needs_them(cells, wss):
    for part in ("scribbles", "masks"):
        for path in (cells.parent / "cells" / part).iterdir():
            path.unlink()
    found = {f["code"]: f for f in wss("data", "check", "--json").json}
    assert found["no-scribbles"]["severity"] == "warning"
    assert "simulate" not in found["no-scribbles"]["remedy"]
    assert "a mask, boxes or tags" in found["no-scribbles"]["message"]


def test_predict_leaves_hidden_files_out_and_says_so(work, wss, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pictures = tmp_path / ".pictures"
    for name in ("a.png", ".ipynb_checkpoints/a-checkpoint.png", "deep/b.png", "deep/.trash/c.png"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(pictures / name)
    (pictures / "._a.png").write_bytes(b"\0\5\x16\7")
    (pictures / "c.heic").write_bytes(b"\0")
    (pictures / "folder.png").mkdir()
    result = wss("predict", pictures, "--out", "masks", "--no-overlays", "--json")
    assert result.code == 0, result.err
    assert sorted(result.json["files"]) == ["masks/a.png", "masks/deep/b.png"]
    assert "3 hidden files left out, such as ._a.png" in result.err
    assert "1 files in other formats left out, such as c.heic" in result.err
    for name in ("a.png", "deep/b.png"):
        (pictures / name).unlink()
    assert "no images in this folder" in wss("predict", pictures, "--out", "masks").err
