"""A data set that was moved or deleted: what was read of it and trained on it still serves; its new folder is known again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import QUICK, call, write_cells
from PIL import Image


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with a trained network beside its data set; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    write_cells(folder / "cells")
    assert call("init", "-k", "folder", "-r", folder / "cells", "-w", folder / "w").code == 0
    result = call("train", "-w", folder / "w", "--jobs", 1, *QUICK)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def moved(trained, tmp_path):
    """A copy of it whose data set was moved to ``elsewhere`` after training: workspace and new folder."""
    shutil.copytree(trained, tmp_path / "here")
    config = tmp_path / "here/w/wss.yaml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path / "here")))
    state = tmp_path / "here/w/state.yaml"
    state.write_text(state.read_text().replace(str(trained), str(tmp_path / "here")))
    (tmp_path / "here/cells").rename(tmp_path / "elsewhere")
    return tmp_path / "here/w", tmp_path / "elsewhere"


def test_new_images_are_predicted_as_with_the_data_set(trained, moved, tmp_path):
    workspace, elsewhere = moved
    for place, out in ((workspace, "a"), (trained / "w", "b")):
        result = call("predict", elsewhere / "images", "-w", place, "--out", tmp_path / out, "--jobs", 1)
        assert result.code == 0, result.err
        assert ("no such folder; using the images that were read before" in result.said) == (place == workspace)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 12
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("command", "made"),
    [
        (("predict", "--out", "OUT", "--split", "val"), "OUT/c4.png"),
        (("export", "-f", "torch", "--out", "OUT/net.pt"), "OUT/net.pt"),
        (("report",), "W/report.html"),
        (("evaluate",), "W/metrics.json"),
    ],
    ids=["predict", "export", "report", "evaluate"],
)
def test_stores_serve_without_the_data_set(moved, tmp_path, command, made):
    workspace, _ = moved
    (tmp_path / "out").mkdir()
    result = call(*(part.replace("OUT", str(tmp_path / "out")) for part in command), "-w", workspace)
    assert result.code == 0, result.err
    path = made.replace("OUT", str(tmp_path / "out")).replace("W/", f"{workspace}/")
    assert Path(path).exists()
    assert "train: done already" in result.said


def test_what_says_a_run_would_do_is_known_too(moved):
    workspace, _ = moved
    result = call("run", "pce", "-w", workspace, "--dry-run", "--json", *QUICK)
    assert result.code == 0, result.err
    states = {row["id"]: row["state"] for row in result.json["stages"]}
    assert states["samples"] == states["train"] == "done"
    assert states["predict"] == "missing"


def test_the_new_folder_is_the_same_data_and_nothing_runs_again(moved):
    workspace, elsewhere = moved
    result = call("init", "-k", "folder", "-r", elsewhere, "-w", workspace)
    assert result.code == 0, result.err
    assert "was moved from" in result.said
    result = call("train", "-w", workspace, "--jobs", 1, *QUICK)
    assert result.code == 0, result.err
    for stage in ("samples", "prepare", "train"):
        assert f"{stage}: done already" in result.said
    assert "no such folder" not in result.said


def test_other_data_do_not_take_its_place(moved, tmp_path):
    workspace, elsewhere = moved
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(elsewhere / "images/more.png")
    (elsewhere / "val.txt").write_text("c4\nc5\nmore\n")
    result = call("init", "-k", "folder", "-r", elsewhere, "-w", workspace)
    assert result.code == 2
    assert "holds other images, splits or classes; --force replaces it" in result.said
    assert call("init", "-k", "folder", "-r", elsewhere, "-w", workspace, "--force").code == 0  # the remedy


def test_a_data_set_that_is_there_is_replaced_by_force_only(trained, tmp_path):
    shutil.copytree(trained / "cells", tmp_path / "copy")
    result = call("init", "-k", "folder", "-r", tmp_path / "copy", "-w", trained / "w")
    assert result.code == 2
    assert "exists; --force replaces it" in result.said


def test_a_data_set_that_was_never_read_is_missed(tmp_path):
    write_cells(tmp_path / "cells")
    assert call("init", "-k", "folder", "-r", tmp_path / "cells", "-w", tmp_path / "w").code == 0
    (tmp_path / "cells").rename(tmp_path / "elsewhere")
    result = call("train", "-w", tmp_path / "w", *QUICK)
    assert result.code == 1
    assert "no such folder, and this data set was never read" in result.said
    assert call("init", "-k", "folder", "-r", tmp_path / "elsewhere", "-w", tmp_path / "w").code == 0  # the remedy


def test_workspaces_from_before_choices_were_recorded_find_their_only_store(moved):
    workspace, _ = moved
    state = workspace / "state.yaml"
    choices = yaml.safe_load(state.read_text())
    del choices["samples"]
    state.write_text(yaml.safe_dump(choices))
    result = call("export", "-f", "torch", "--out", workspace / "net.pt", "-w", workspace)
    assert result.code == 0, result.err


def test_options_are_kept_by_the_command_that_is_named(moved, tmp_path):
    workspace, elsewhere = moved
    config = workspace / "wss.yaml"
    config.write_text(config.read_text() + "  scribble_width: 5\n")
    told = call("predict", elsewhere / "images", "-w", workspace, "--out", tmp_path / "out").said
    assert f"wss init --kind folder --root DIR --workspace {workspace}" in told
    result = call("init", "-k", "folder", "-r", elsewhere, "-w", workspace)
    assert result.code == 0, result.err
    assert "its options are kept: scribble_width=5" in result.said
    assert yaml.safe_load(config.read_text())["dataset"]["scribble_width"] == 5


@pytest.mark.parametrize("text", ["{0:0,255:1}", "0:0,255:1", "{0: 0, 255: 1}"])
def test_a_table_of_values_may_be_short(moved, tmp_path, text):
    _, elsewhere = moved
    result = call("init", "-k", "folder", "-r", elsewhere, "-w", tmp_path / "short", "-o", f"mask_values={text}")
    assert result.code == 0, result.err
    assert yaml.safe_load((tmp_path / "short/wss.yaml").read_text())["dataset"]["mask_values"] == {0: 0, 255: 1}


def test_a_misspelt_pattern_is_named(moved, tmp_path):
    _, elsewhere = moved
    result = call(
        "init", "-k", "folder", "-r", elsewhere, "-w", tmp_path / "short", "-o", "mask_patern={name}_mask.png"
    )
    assert result.code == 2
    assert "mask_pattern" in result.said


def test_kinds_of_annotation_are_told_from_kinds_of_data_set(tmp_path):
    result = call("init", "-k", "cvat", "-r", tmp_path, "-w", tmp_path / "w")
    assert result.code == 2
    assert "wss data convert FILE --from cvat" in result.said
