"""Predictions keep probabilities where another stage reads them, and nowhere else."""

import numpy as np
import pytest
import yaml

from wss.datasets import DatasetSpec
from wss.errors import UsageError
from wss.pipeline.catalogues import catalogues, check_pipeline
from wss.pipeline.protocol import lines, protocols
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages import STAGES
from wss.stages.stage import Context

READERS = {"crf", "gradients", "propagate", "pseudo-labels"}
SAMPLE = DatasetSpec(kind="sample", options={"train": 4, "val": 2, "height": 32, "width": 40})
STEP = {
    "method": {"name": "pce"},
    "network": {"name": "unet"},
    "batch_size": 2,
    "phases": [{"steps": 1, "terms": {"pce": 1}}],
}
HEAD = [
    {"stage": "samples"},
    {"stage": "prepare", "inputs": {"samples": "samples"}},
    {"stage": "train", "inputs": {"samples": "samples", "labels": "prepare"}, "params": STEP},
    {"stage": "predict", "inputs": {"samples": "samples", "model": "train"}},
    {"stage": "evaluate", "inputs": {"samples": "samples", "predictions": "predict"}},
]
CRF = {"stage": "crf", "inputs": {"samples": "samples", "predictions": "predict"}}


def _load(tmp_path, *more, changes=None):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"title": "p", "stages": [*HEAD, *more]}))
    return load_pipeline(path, changes, {"dataset": SAMPLE.model_dump()})


def _probs(pipeline):
    return pipeline.nodes["predict"].params.probs


def test_the_readers_are_these():
    assert {s.name for s in STAGES.values() if any(i.probs for i in s.inputs.values())} == READERS


def test_who_reads_decides(tmp_path):
    assert _probs(_load(tmp_path)) is False
    assert _probs(_load(tmp_path, CRF)) is True
    labels = {"stage": "pseudo-labels", "inputs": {"labels": "prepare", "predictions": "predict"}}
    assert _probs(_load(tmp_path, labels)) is True
    report = {
        "stage": "report",
        "inputs": {"samples": "samples", "models": ["train"], "predictions": ["predict"], "metrics": ["evaluate"]},
    }
    assert _probs(_load(tmp_path, report)) is False


@pytest.mark.parametrize("given", [True, False])
def test_what_is_given_wins(tmp_path, given):
    assert _probs(_load(tmp_path, changes={"predict": {"probs": given}})) is given


def test_a_part_of_a_pipeline_keeps_what_the_rest_reads(tmp_path):
    """`wss evaluate` keeps what a later `wss evaluate --crf` reads."""
    assert _probs(_load(tmp_path, CRF).up_to("evaluate")) is True


@pytest.mark.parametrize("name", sorted(shipped_pipelines()))
def test_every_shipped_pipeline(name):
    nodes = load_pipeline(find_pipeline(name)).nodes
    for node in nodes.values():
        if node.stage.name in ("predict", "retrieve"):
            readers = [
                n for n in nodes.values() if n.stage.name in READERS and node.id in n.inputs.get("predictions", ())
            ]
            assert node.params.probs is bool(readers), node.id


def test_a_reader_without_probabilities_is_refused_before_anything_runs(tmp_path):
    pipeline = _load(tmp_path, CRF, changes={"predict": {"probs": False}})
    with pytest.raises(
        UsageError, match=r"stage 'crf': crf needs probabilities, but 'predict' stores none.*`probs: true`"
    ):
        check_pipeline(pipeline, catalogues(pipeline))
    again = {"id": "again", "stage": "crf", "inputs": {"samples": "samples", "predictions": "crf"}}
    pipeline = _load(tmp_path, CRF, again)
    with pytest.raises(UsageError, match="'crf' gives labels only"):
        check_pipeline(pipeline, catalogues(pipeline))


@pytest.mark.parametrize("limit", [None, 0.1])
def test_parameters_can_make_probabilities_needed(tmp_path, limit):
    """The stage `pseudo-labels` needs probabilities to tell how sure the network is."""
    labels = {
        "stage": "pseudo-labels",
        "inputs": {"labels": "prepare", "predictions": "predict"},
        "params": {"entropy_below": limit},
    }
    pipeline = _load(tmp_path, labels, changes={"predict": {"probs": False}})
    if limit is None:
        check_pipeline(pipeline, catalogues(pipeline))
        return
    with pytest.raises(UsageError, match="pseudo-labels needs probabilities, but 'predict' stores none"):
        check_pipeline(pipeline, catalogues(pipeline))


def test_the_protocol_tells(tmp_path):
    for more, word in (((), "no"), ((CRF,), "yes")):
        pipeline = _load(tmp_path, *more)
        found = protocols(pipeline, catalogues(pipeline))
        assert found["predict"]["probs"] is bool(more)
        assert any(f"probs {word}" in line for line in lines(found))


def test_labels_and_scores_are_the_same_either_way(tmp_path):
    context = Context()
    stores = [
        {n: o.store for n, o in run_pipeline(_load(tmp_path, *more), Workspace(tmp_path), context).items()}
        for more in ((), (CRF,))
    ]
    bare, full = stores
    assert bare["train"].key == full["train"].key
    assert bare["predict"].key != full["predict"].key
    for image_id in bare["predict"].ids:
        assert not bare["predict"].has("probs", image_id)
        assert full["predict"].has("probs", image_id)
        np.testing.assert_array_equal(bare["predict"].get("labels", image_id), full["predict"].get("labels", image_id))
    records = [dict(s["evaluate"].meta["record"]) for s in stores]
    for record in records:
        del record["store_key"]
    assert records[0] == records[1]
