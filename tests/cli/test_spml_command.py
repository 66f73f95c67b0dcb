"""The method that has a pipeline for each kind of annotation: which one `wss train --method spml` takes, and that it trains."""

import json

import pytest

from wss.cli.console import Terminal
from wss.cli.session import Session
from wss.datasets import DatasetSpec
from wss.pipeline.workspace import Workspace

QUICK = ["--epochs", "1", "--set", "train*.batch_size=2", "--set", "train*.method.grid=2"]


def test_the_pipeline_is_that_of_the_prepared_annotation(tmp_path):
    session = Session(tmp_path, Terminal(quiet=True))
    assert session.named("spml") == "spml-scribble"
    for annotation in ("scribble", "point", "box", "tag"):
        Workspace(tmp_path).remember("prepare", {"annotation": annotation})
        assert session.named("spml") == f"spml-{annotation}"
    assert session.named("spml-scribble") == "spml-scribble"
    Workspace(tmp_path).remember("prepare", {"annotation": "mask"})
    assert session.named("spml") == "spml"  # which is no pipeline, and said to be none
    assert session.named("pce") == "pce"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, the current one, where the embedded data set is a tiny one."""
    monkeypatch.chdir(tmp_path)
    tiny = DatasetSpec(kind="sample", options={"train": 4, "val": 2, "height": 32, "width": 32})
    monkeypatch.setattr(Workspace, "dataset", lambda self: tiny)
    return tmp_path


def test_three_commands_in_an_empty_folder(empty, wss):
    assert wss("prepare", "--annotation", "point").code == 0
    result = wss("train", "--method", "spml", *QUICK, "--json")
    assert result.code == 0, result.err
    for stage in ("edges", "superpixels", "train-embedding (train)", "similarity-walk"):
        assert f"{stage}: running" in result.err
    assert "annotation point" in result.err
    result = wss("evaluate", "--crf", "--json")
    assert result.code == 0, result.err
    record = json.loads((empty / "metrics.json").read_text())
    assert (record["method"], record["crf"]) == ("spml", True)
    wss("prepare", "--annotation", "mask")
    result = wss("train", "--method", "spml")
    assert result.code == 2
    assert "no pipeline 'spml'; did you mean 'spml-" in result.err
