"""The method that learns from edges, from an empty folder to scores."""

import json

import numpy as np
import pytest
from commands import artifact, assert_whole

from wss.checkpoints import load_checkpoint
from wss.datasets import DatasetSpec
from wss.pipeline.workspace import Workspace
from wss.store import EDGES, MODEL, PREDICTIONS, SAMPLES, Store

QUICK = [
    "--set",
    "train.batch_size=2",
    "--set",
    "train.phases=[{epochs: 1, terms: {pce: 1, boundary: 1}, lr: 0.01, head_multiplier: 1}]",
]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, the current one, where the embedded data set is a tiny one."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny = DatasetSpec(kind="sample", options={"train": 4, "val": 2, "height": 32, "width": 32})
    monkeypatch.setattr(Workspace, "dataset", lambda self: tiny)
    return folder


def test_three_commands_in_an_empty_folder(empty, wss):
    assert wss("prepare", "--shrink", "0.5").code == 0
    result = wss("train", "--method", "bpg", *QUICK, "--json")
    assert result.code == 0, result.err
    assert "edges: running" in result.err
    assert "shrink 0.5" in result.err
    assert result.json["boundary"] > 0
    result = wss("evaluate", "--crf", "--json")
    assert result.code == 0, result.err
    record = json.loads((empty / "metrics.json").read_text())
    assert record == result.json
    assert (record["method"], record["crf"]) == ("bpg", True)
    assert 0 <= record["miou"] <= 1
    assert_whole(empty)
    again = wss("train", "--method", "bpg", *QUICK)
    assert again.err.count("done already") == 4  # samples, labels, edges, network

    model, edges = Store(artifact(empty, "train"), MODEL), Store(artifact(empty, "edges"), EDGES)
    assert model.inputs["edges"][0]["key"] == edges.key
    samples, predictions = Store(artifact(empty, "samples"), SAMPLES), Store(artifact(empty, "predict"), PREDICTIONS)
    predictor = load_checkpoint(model.path)
    assert predictor.model.refinement is not None
    assert sorted(edges.ids) == sorted(samples.ids)
    for image_id in predictions.ids:
        assert np.array_equal(predictor(samples.get("image", image_id)), predictions.get("labels", image_id))


def test_scales_and_mirror_images(empty, wss):
    assert wss("train", "--method", "bpg", *QUICK).code == 0
    record = wss("evaluate", "--scales", "0.5,0.75,1,1.25", "--flip", "--json").json
    assert (record["scales"], record["flip"]) == ([0.5, 0.75, 1, 1.25], True)


def test_settings_switch_parts_and_another_backbone(empty, wss):
    network = ("--network", "deeplab-v3plus", "--backbone", "mobilenet_v2")
    settings = [s.replace("pce: 1, boundary: 1", "pce: 1, boundary: 0.5") for s in QUICK]
    off = ("--set", "train.method.boundary=none", "--set", "train.method.refine=false")
    result = wss("train", "--method", "bpg", *network, *settings, *off, "--json")
    assert result.code == 0, result.err
    assert result.json["boundary"] == 0
    model = load_checkpoint(result.json["store"]).model
    assert model.refinement is None
    assert model.boundary is None
    wrong = wss("train", "--method", "bpg", *QUICK, "--set", "train.method.boundary=edges")
    assert wrong.code == 2
    assert "fg-bg" in wrong.said


def test_a_data_set_without_background(cells, wss):
    (cells.parent / "cells" / "classes.txt").write_text("soil\ncell\nwall\n")
    result = wss("train", "--method", "bpg", *QUICK)
    assert result.code == 2
    assert "needs a background class" in result.said
    assert wss("train", "--method", "bpg", *QUICK, "--set", "train.method.boundary=all").code == 0
