import pytest
import torch

from wss.methods import METHODS
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}
STUDIES = {  # levels of their factors that are tried here
    "study-bpg": {"parts": ["plain", "BPG"]},
    "study-crf": {"training": ["pce", "crf-rnn"]},
    "study-drop": {"drop": [0, 0.5]},
    "study-full-supervision": {"weight": [0, 0.5]},
    "study-lengths": {"length": [1, 0], "loss": ["pce", "ncut"]},
    "study-proposals": {"fine": ["crf-adm"]},
    "study-losses": {"loss": ["pce", "densecrf"]},
    "study-rawks": {"bound": ["spcon"]},
    "study-rw-ss": {"parts": ["baseline", "walk", "flip-before", "random-transition-entropy"]},
    "study-shrink": {"shrink": [0, 1], "parts": ["baseline", "self-supervision"]},
    "study-semi-supervision": {"labelled": [1, 0.5]},
    "study-spml": {"relations": ["annotation", "with-affinity"]},
    "study-spml-sparsity": {"length": [1, 0]},
    "study-tags": {"constraint": ["none", "constrain-no-backprop"]},
}


def _shortened(path):
    """The pipeline with every phase cut to one epoch, and studies with few levels."""
    levels = {"factors": STUDIES[path.stem]} if path.stem in STUDIES else {}
    pipeline = load_pipeline(path, levels, {"dataset": DATASET})
    changes = levels | {
        node.id: {
            "phases": [{**p.model_dump(mode="json"), "epochs": 1, "steps": None} for p in node.params.phases],
            "augment": {"crop": 32},
        }
        for node in pipeline.nodes.values()
        if node.stage.name == "train"
    }
    return load_pipeline(path, changes, {"dataset": DATASET})


@pytest.mark.parametrize("name", shipped_pipelines())
def test_runs_end_to_end_and_a_second_run_skips_everything(name, tmp_path):
    torch.set_num_threads(1)
    pipeline = _shortened(shipped_pipelines()[name])
    first = run_pipeline(pipeline, Workspace(tmp_path), Context())
    assert not any(outcome.skipped for outcome in first.values() if outcome.node.id != "samples")
    assert (tmp_path / "metrics.json").exists()
    page = (tmp_path / "report.html").read_text()
    assert "mIoU" in page
    second = run_pipeline(pipeline, Workspace(tmp_path), Context())
    assert all(outcome.skipped for outcome in second.values())
    assert {n: o.store.key for n, o in first.items()} == {n: o.store.key for n, o in second.items()}
    assert (tmp_path / "report.html").read_text() == page
    assert all(outcome.store.verify() for outcome in second.values())


@pytest.mark.parametrize("name", shipped_pipelines())
def test_says_what_it_is_for(name):
    pipeline = load_pipeline(shipped_pipelines()[name])
    assert 10 < len(pipeline.title) < 80
    assert len(pipeline.description) > 80


METHOD_PIPELINES = sorted(n for n in shipped_pipelines() if "train" in load_pipeline(shipped_pipelines()[n]).nodes)


@pytest.mark.parametrize("name", METHOD_PIPELINES)
def test_methods_have_the_stages_that_commands_look_for(name):
    nodes = load_pipeline(shipped_pipelines()[name]).nodes
    assert {"samples", "train", "predict", "evaluate", "crf", "evaluate-crf", "report"} <= set(nodes)
    if name != "semi-supervised":
        method = nodes["train"].params.method.name
        assert name == method or name.startswith(f"{method}-")  # one for each kind of annotation


def test_every_method_has_a_pipeline():
    trained = {load_pipeline(shipped_pipelines()[n]).nodes["train"].params.method.name for n in METHOD_PIPELINES}
    assert {method.model_fields["name"].default for method in METHODS} <= trained


@pytest.mark.parametrize("name", sorted(set(shipped_pipelines()) - set(METHOD_PIPELINES) - {"quickstart"}))
def test_studies_compare_what_they_vary(name):
    pipeline = load_pipeline(shipped_pipelines()[name])
    report = pipeline.nodes["report"]
    for study in report.params.studies:
        varied = [pipeline.nodes[i].params.factors for i in report.inputs["metrics"]]
        assert all(study.rows in factors for factors in varied)
        assert len({factors[study.rows] for factors in varied}) > 1 or study.columns
        assert all(study.columns in factors for factors in varied if study.columns)
    assert report.params.studies
    assert name in STUDIES
