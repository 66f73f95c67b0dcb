"""A workspace that was named must declare its data set; only the current folder, not named, falls back to the sample."""

import numpy as np
import pytest
from commands import artifact
from PIL import Image

from wss.cli.session import SAMPLE_PIPELINE
from wss.pipeline.spec import shipped_pipelines

COMMANDS = [
    ("data", "check"),
    ("data", "info"),
    ("data", "simulate", "--out", "drawn"),
    ("data", "convert", "--to", "xml", "--out", "drawn"),
    ("prepare",),
    ("superpixels",),
    ("edges",),
    ("propagate", "--out", "masks"),
    ("train",),
    ("cam",),
    ("predict",),
    ("evaluate",),
    ("export", "--out", "network.onnx"),
    ("report",),
    ("run", "pce"),
    ("run", "pce", "--dry-run"),
    ("run", "study-shrink", "--dry-run"),
    ("status",),
    ("verify",),
    ("gc",),
]


def _settled(folder):
    """Names of everything in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("named", ["option", "environment", "dot"])
def test_a_named_workspace_without_data_set_is_refused(command, named, wss, tmp_path, monkeypatch):
    place = tmp_path / "my work"
    place.mkdir()
    monkeypatch.chdir(place if named == "dot" else tmp_path)
    if named == "environment":
        monkeypatch.setenv("WSS_WORKSPACE", "my work")
    option = {"option": ("-w", "my work"), "environment": (), "dot": ("-w", ".")}[named]
    before = _settled(tmp_path)
    result = wss(*command, *option)
    assert result.code == 2
    wanted = f"'{place}'" if named == "dot" else "'my work'"
    assert f"wss init --kind folder --root DIR --workspace {wanted}" in result.err
    assert "using the embedded" not in result.err
    assert _settled(tmp_path) == before


def test_after_a_failed_init_nothing_uses_the_sample_and_the_remedy_works(wss, tmp_path, monkeypatch, cells):
    monkeypatch.chdir(tmp_path)
    assert wss("init", "-k", "folder", "-r", "nowhere", "-w", "w").code == 1
    refused = wss("data", "check", "-w", "w")
    assert refused.code == 2
    assert "wss init --kind folder --root DIR --workspace w" in refused.err
    assert wss("init", "--kind", "folder", "--root", "cells", "--workspace", "w").code == 0
    assert "6 images checked" in wss("data", "check", "-w", "w").out


def test_the_sample_can_be_declared_as_the_message_says(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "wss init --kind sample --workspace w" in wss("run", "pce", "-w", "w", "--dry-run").err
    assert wss("init", "--kind", "sample", "--workspace", "w").code == 0
    assert wss("run", "pce", "-w", "w", "--dry-run").code == 0


def test_the_current_folder_falls_back_to_the_sample_and_says_so(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (("run", "pce", "--dry-run"), ("data", "info", "--json")):
        result = wss(*command)
        assert result.code == 0
        assert "no wss.yaml in .: using the embedded sample data set" in result.err
    assert not (tmp_path / "wss.yaml").exists()


def test_quickstart_declares_the_sample_in_a_named_workspace(wss, tmp_path, monkeypatch):
    quick = tmp_path / "shipped" / "quickstart.yaml"
    quick.parent.mkdir()
    quick.write_text("title: quick\nstages:\n  - {stage: samples}\n")
    monkeypatch.setattr("wss.cli.session.find_pipeline", lambda name: quick)
    monkeypatch.chdir(tmp_path)
    assert wss("run", "quickstart", "-w", "demo", "--dry-run").code == 0
    assert not (tmp_path / "demo" / "wss.yaml").exists()
    result = wss("run", "quickstart", "-w", "demo")
    assert result.code == 0, result.err
    assert "using the embedded sample" in result.err
    assert wss("status", "-w", "demo", "--json").json["dataset"]["kind"] == "sample"
    assert wss("run", "other", "-w", "other").code == 2


def test_the_pipeline_that_declares_the_sample_is_shipped():
    assert SAMPLE_PIPELINE in shipped_pipelines()


def test_what_needs_no_data_set_runs_in_a_container_whose_workspace_is_empty(wss, tmp_path, monkeypatch, cells):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSS_WORKSPACE", str(tmp_path / "empty"))
    image, scribble = (tmp_path / "cells" / part / "c0.png" for part in ("images", "scribbles"))
    result = wss("propagate", image, "--scribbles", scribble, "--out", "mask.png", "--method", "superpixel")
    assert result.code == 0, result.err
    assert (tmp_path / "mask.png").is_file()


def test_a_network_by_name_predicts_images_where_no_data_set_is_declared(work, wss, tmp_path, monkeypatch):
    network = artifact(work, "train")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "one.png")
    monkeypatch.setenv("WSS_WORKSPACE", str(tmp_path / "empty"))
    result = wss("predict", tmp_path / "one.png", "--checkpoint", network, "--out", tmp_path / "out", "--no-overlays")
    assert result.code == 0, result.err
    assert wss("predict", "--checkpoint", network, "--out", tmp_path / "out").code == 2  # whose split?
