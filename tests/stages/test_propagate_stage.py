"""Superpixels and proposals as stages: what they store, how they resume, and what they refuse."""

import shutil

import numpy as np
import pytest

import wss.stages.propagate
import wss.stages.superpixels
from wss.errors import DataError, UsageError
from wss.metrics import confusion_matrix, miou
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.propagation import PROPAGATIONS, GraphCut
from wss.stages.propagate import proposal_scores
from wss.stages.stage import Context
from wss.superpixels import Felzenszwalb, Ucm

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 40}}

HEAD = """
title: propagation
stages:
  - stage: samples
  - {stage: prepare, inputs: {samples: samples}}
  - {stage: superpixels, inputs: {samples: samples}}
"""


def _run(folder, stages, target="propagate", changes=None):
    path = folder / "pipe.yaml"
    folder.mkdir(exist_ok=True)
    path.write_text(HEAD + stages)
    pipeline = load_pipeline(path, changes or {}, {"dataset": DATASET})
    return run_pipeline(pipeline.up_to(*target.split()), Workspace(folder), Context())


def _propagate(method, inputs="", params=""):
    return (
        f"  - {{stage: propagate, inputs: {{samples: samples, labels: prepare{inputs}}}, "
        f"params: {{method: {{name: {method}}}{params}}}}}\n"
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    return folder, _run(folder, _propagate("graph-cut", ", superpixels: superpixels"))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("node", "module", "function", "images"),
    [("superpixels", wss.stages.superpixels, "_segment", 6), ("propagate", wss.stages.propagate, "_propagate", 4)],
)
def test_resumes_with_the_remaining_images(done, tmp_path, monkeypatch, node, module, function, images):
    folder, outcomes = done
    shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    expected = outcomes[node].store
    (tmp_path / expected.path.relative_to(folder)).unlink()
    real, calls = getattr(module, function), []

    def stopping(*arguments):
        if len(calls) == 2 and not again:
            raise Interrupted
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, function, stopping)
    again = False
    with pytest.raises(Interrupted):
        _run(tmp_path, _propagate("graph-cut", ", superpixels: superpixels"), node)
    again = True
    store = _run(tmp_path, _propagate("graph-cut", ", superpixels: superpixels"), node)[node].store
    assert len(calls) == images
    assert store.digest == expected.digest


def test_superpixels_are_those_of_the_algorithm_for_every_image(done):
    samples, store = done[1]["samples"].store, done[1]["superpixels"].store
    assert store.ids == samples.ids
    assert store.meta["method"] == "felzenszwalb"
    for image_id in store.ids:
        expected = Felzenszwalb().segment(samples.get("image", image_id))
        assert (store.get("superpixels", image_id) == expected).all()
        assert store.get("superpixels", image_id).dtype == np.int32


def test_proposals_are_those_of_the_algorithm_for_the_split(done):
    samples, labels, cut, store = (done[1][n].store for n in ("samples", "prepare", "superpixels", "propagate"))
    assert store.ids == samples.meta["splits"]["train"]
    assert store.meta == {**labels.meta, "proposals": "graph-cut"}
    for image_id in store.ids:
        arguments = samples.get("image", image_id), labels.get("labels", image_id), 7
        expected = GraphCut().propagate(*arguments, superpixels=cut.get("superpixels", image_id))
        assert (store.get("labels", image_id) == expected.labels).all()
        assert not store.has("certainty", image_id)


@pytest.mark.parametrize("method", [m.model_fields["name"].default for m in PROPAGATIONS if "features" not in m.needs])
def test_every_algorithm_runs_and_says_more_than_the_scribbles(tmp_path, method):
    inputs = ", superpixels: superpixels" if method in ("graph-cut", "superpixel") else ""
    outcomes = _run(tmp_path, _propagate(method, inputs, ", split: val"))
    samples, labels, store = (outcomes[n].store for n in ("samples", "prepare", "propagate"))
    assert store.ids == samples.meta["splits"]["val"]
    for image_id in store.ids:
        scribble, found = labels.get("labels", image_id), store.get("labels", image_id)
        assert (found == scribble)[scribble != 255].all()
        assert (found != 255).all()
        assert store.has("certainty", image_id) == (method in ("grabcut", "densecrf", "random-walk"))


def test_scores_are_those_of_the_summed_confusion_matrix(done, tmp_path):
    samples, store = done[1]["samples"].store, done[1]["propagate"].store
    total = sum(confusion_matrix(samples.get("mask", i), store.get("labels", i), 7) for i in store.ids)
    scores = proposal_scores(samples, store)
    assert scores == {"images": 4, "coverage": 1.0, "scored": 4, "miou": pytest.approx(miou(total))}
    outcomes = _run(
        tmp_path, _propagate("superpixel", ", superpixels: superpixels"), changes={"prepare": {"fraction": 0.5}}
    )
    assert proposal_scores(outcomes["samples"].store, outcomes["propagate"].store)["coverage"] == 0.5


def test_a_network_changes_the_graph_cut(tmp_path):
    first = ", superpixels: superpixels"
    stages = _propagate("graph-cut", first) + (
        "  - {stage: train, inputs: {samples: samples, labels: propagate}, params: {method: {name: scribblesup}, "
        "batch_size: 2, validation_split: null, phases: [{epochs: 1, terms: {ce: 1}}]}}\n"
        "  - {stage: predict, inputs: {samples: samples, model: train}, params: {split: train}}\n"
    )
    again = _propagate("graph-cut", first + ", predictions: predict").replace("{stage:", "{id: again, stage:", 1)
    outcomes = _run(tmp_path, stages + again, "again")
    before, after, predictions = (outcomes[n].store for n in ("propagate", "again", "predict"))
    assert any((before.get("labels", i) != after.get("labels", i)).any() for i in before.ids)
    assert after.ids == predictions.ids
    with pytest.raises(
        DataError, match=r"4 of the 4 images of split 'train' are not among the predictions.*split: train"
    ):
        _run(tmp_path, stages + again, "again", {"predict": {"split": "val"}})
    with pytest.raises(UsageError, match="probs: true"):
        _run(tmp_path, stages + again, "again", {"predict": {"probs": False}})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (_propagate("graph-cut"), "'graph-cut' needs the input 'superpixels'"),
        (_propagate("grabcut", ", superpixels: superpixels"), "'grabcut' reads no superpixels"),
        (_propagate("grabcutt"), "did you mean 'grabcut'"),
        (_propagate("graph-cut", "", ", split: trian"), "did you mean 'train'"),
    ],
    ids=["needs", "reads no", "method", "split"],
)
def test_what_does_not_fit_is_refused(tmp_path, stage, message):
    with pytest.raises(UsageError, match=message):
        _run(tmp_path, stage)


EDGES = "  - {stage: edges, inputs: {samples: samples}, params: {detector: gradient}}\n"


def _along(inputs="samples: samples, edges: edges", method="{name: ucm, segments: 6}"):
    return f"  - {{id: along, stage: superpixels, inputs: {{{inputs}}}, params: {{method: {method}}}}}\n"


def test_ucm_superpixels_are_those_of_the_edges(tmp_path):
    outcomes = _run(tmp_path, EDGES + _along(), "along")
    samples, edges, store = (outcomes[n].store for n in ("samples", "edges", "along"))
    assert store.ids == samples.ids
    for image_id in store.ids:
        found = store.get("superpixels", image_id)
        values = edges.get("edges", image_id).astype(np.float32) / 255
        assert (found == Ucm(segments=6).segment(samples.get("image", image_id), values)).all()
        assert found.max() == 5
    with pytest.raises(UsageError, match="'ucm' needs the input 'edges'; add a stage `edges`"):
        _run(tmp_path, _along("samples: samples"), "along")


def test_edges_that_superpixels_do_not_read_are_not_made(tmp_path):
    outcomes = _run(tmp_path, EDGES + _along(method="{name: felzenszwalb}"), "along superpixels")
    assert list(outcomes) == ["samples", "superpixels", "along"]
    assert outcomes["along"].store.key == outcomes["superpixels"].store.key
    shared = EDGES + _along(method="{name: slic}") + _along().replace("id: along", "id: other")
    assert "edges" in _run(tmp_path, shared, "along other")


def test_rounds_of_scribblesup_go_on_from_each_other():
    nodes = load_pipeline(shipped_pipelines()["scribblesup"]).nodes
    rounds = [("propagate", "train-1"), ("propagate-2", "train-2"), ("propagate-3", "train")]
    networks = {nodes[train].params.network for _, train in rounds}
    assert len(networks) == 1
    for number, (propagate, train) in enumerate(rounds):
        assert nodes[train].inputs["labels"] == (propagate,)
        assert nodes[propagate].inputs["labels"] == ("prepare",)
        if number:
            assert nodes[train].inputs["initial"] == (rounds[number - 1][1],)
            (predict,) = nodes[propagate].inputs["predictions"]
            assert nodes[predict].inputs["model"] == (rounds[number - 1][1],)
            assert nodes[predict].params.split == "train"
