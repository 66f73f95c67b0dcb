"""Factors and ``each``: one entry of a pipeline file for many stages."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import parse_overrides
from wss.pipeline.spec import load_pipeline

STUDY = """
    title: A study
    factors:
      loss: {pce: {terms: {pce: 1}}, densecrf: {terms: {pce: 1, densecrf: 0.5}}}
      length: {1: {shrink: 0}, 0.5: {shrink: 0.5}, 0: {shrink: 1}}
      seed: [0, 1]
    stages:
      - stage: samples
      - id: prepare-${length}
        stage: prepare
        each: length
        inputs: {samples: samples}
        params: {shrink: "${length.shrink}"}
      - id: train-${loss}-${length}-${seed}
        each: [loss, length, seed]
        stage: train
        inputs: {samples: samples, labels: "prepare-${length}"}
        params: {method: {name: "${loss}"}, seed: "${seed}", phases: [{epochs: 1, terms: "${loss.terms}"}]}
      - id: predict-${loss}
        each: [loss]
        stage: predict
        inputs: {samples: samples, model: "train-${loss}-1-0"}
      - id: evaluate-${loss}
        each: loss
        stage: evaluate
        inputs: {samples: samples, predictions: "predict-${loss}"}
      - stage: report
        inputs: {samples: samples, models: train-*-1-0, predictions: [predict-*], metrics: ["evaluate-p*", evaluate-densecrf]}
"""


@pytest.fixture
def load(tmp_path):
    def load(text, *settings):
        path = tmp_path / "study.yaml"
        path.write_text(textwrap.dedent(text))
        return load_pipeline(path, parse_overrides(settings))

    return load


def test_an_entry_is_repeated_for_every_combination(load):
    nodes = load(STUDY).nodes
    trained = [name for name in nodes if name.startswith("train")]
    assert trained[:4] == ["train-pce-1-0", "train-pce-1-1", "train-pce-0_5-0", "train-pce-0_5-1"]
    assert len(trained) == 2 * 3 * 2
    node = nodes["train-densecrf-0_5-1"]
    assert node.inputs["labels"] == ("prepare-0_5",)
    assert node.params.method.name == "densecrf"
    assert node.params.phases[0].terms == {"pce": 1.0, "densecrf": 0.5}
    assert node.params.seed == 1
    assert [nodes[f"prepare-{n}"].params.shrink for n in ("1", "0_5", "0")] == [0, 0.5, 1]


def test_lists_of_inputs_take_patterns_in_the_order_of_the_file(load):
    inputs = load(STUDY).nodes["report"].inputs
    assert inputs["models"] == ("train-pce-1-0", "train-densecrf-1-0")
    assert inputs["predictions"] == ("predict-pce", "predict-densecrf")
    assert inputs["metrics"] == ("evaluate-pce", "evaluate-densecrf")
    with pytest.raises(UsageError, match=r"no stage 'tarin-\*' before it"):
        load(STUDY.replace("train-*-1-0", "tarin-*"))


def test_settings_choose_levels(load):
    nodes = load(STUDY, "factors.length=[1, 0.5]", "factors.seed=[0, 5]").nodes
    assert [name for name in nodes if name.startswith("prepare")] == ["prepare-1", "prepare-0_5"]
    assert nodes["train-pce-1-5"].params.seed == 5
    assert len(load(STUDY, "factors.length=1").nodes) < len(nodes)
    with pytest.raises(UsageError, match=r"factor 'length': no level 2\.7; known: 0, 0\.5, 1"):
        load(STUDY, "factors.length=[2.7]")
    with pytest.raises(UsageError, match="no factor 'lenght' to change; did you mean 'length'"):
        load(STUDY, "factors.lenght=[1]")


def test_settings_reach_all_stages_of_a_pattern_and_an_id_counts_more(load):
    nodes = load(STUDY, "train-pce-1-0.batch_size=3", "train-pce-*.batch_size=2").nodes
    assert nodes["train-pce-1-0"].params.batch_size == 3
    assert nodes["train-pce-1-1"].params.batch_size == 2
    assert nodes["train-densecrf-1-1"].params.batch_size == 8
    with pytest.raises(UsageError, match=r"no stage 'tain-\*'"):
        load(STUDY, "tain-*.batch_size=2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("each: length", "each: lenth", r"stage 2: each: no factor 'lenth'; did you mean 'length'"),
        ("${length.shrink}", "${length.shrnk}", r"\$\{length.shrnk\}: level 1 of 'length' has no 'shrnk'"),
        ("${length.shrink}", "${loss}", r"\$\{loss\}: 'each' does not name the factor 'loss'"),
        ("seed: [0, 1]", "seed: []", "factor 'seed': has no levels"),
        ("seed: [0, 1]", "seed: [0, 0]", "a level is named twice"),
        ("seed: [0, 1]", "seed: [[0], 1]", r"levels are words or numbers, got \[0\]"),
        ("0.5: {shrink: 0.5}", "0.5: 3", "level 0.5 must have names with values, got 3"),
        ("id: prepare-${length}", "id: prepare", "two stages of this name"),
    ],
)
def test_refuses(load, old, new, message):
    with pytest.raises(UsageError, match=message):
        load(STUDY.replace(old, new))


def test_factors_must_be_a_mapping(load):
    with pytest.raises(UsageError, match="'factors' must be names with their values"):
        load("factors: [a]\nstages: [{stage: samples}]")
