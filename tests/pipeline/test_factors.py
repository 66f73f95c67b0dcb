"""Factors and ``each``: one entry of a pipeline file for many stages."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import parse_overrides
from wss.pipeline.factors import expand, read_factors
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
        ("seed: [0, 1]", "seed: [[0], 1]", r"levels must be text or numbers, got \[0\]"),
        ("0.5: {shrink: 0.5}", "0.5: 3", "level 0.5 must have names with values, got 3"),
        ("id: prepare-${length}", "id: prepare", "two stages with this name"),
    ],
)
def test_refuses(load, old, new, message):
    with pytest.raises(UsageError, match=message):
        load(STUDY.replace(old, new))


def test_factors_must_be_a_mapping(load):
    with pytest.raises(UsageError, match="'factors' must be names with their values"):
        load("factors: [a]\nstages: [{stage: samples}]")


LEVELS = """
    factors:
      loss: {pce: {terms: {pce: 1}}, densecrf: {terms: {pce: 1, densecrf: 0.5}}}
      seed: [0, 1]
      trained: ["${loss}", dense]
      run: {product: {loss: trained, seed: seed}}
    stages:
      - stage: samples
      - id: prepare-${run}
        stage: prepare
        each: run
        inputs: {samples: samples}
        params: {seed: "${run.factors.seed}", annotation: scribble}
      - id: train-${loss}
        each: loss
        stage: train
        inputs: {samples: samples, labels: "prepare-${loss}-0"}
        params: {method: {name: "${loss}"}, phases: [{epochs: 1, terms: "${loss.terms}"}]}
"""


def _read(factors, **changes):
    return read_factors(factors, changes, "here")


def test_a_level_may_be_all_levels_of_another_factor():
    found = _read({"a": {"x": {"v": 1}, "y": {"v": 2}}, "b": ["first", "${a}", "x", "last"]})
    assert [(choice.level, choice.values) for choice in found["b"]] == [
        ("first", {}),
        ("x", {"v": 1}),
        ("y", {"v": 2}),
        ("last", {}),
    ]
    assert [choice.level for choice in _read({"a": ["x"], "b": "${a}"})["b"]] == ["x"]


def test_levels_chosen_for_a_factor_hold_where_it_is_taken_over():
    factors = {"a": {"x": {"v": 1}, "y": {"v": 2}}, "b": ["${a}", "z"], "c": {"product": {"one": "b"}}}
    assert [choice.level for choice in _read(factors, a=["y"])["c"]] == ["y", "z"]
    assert [choice.level for choice in _read(factors, a={"w": {}})["c"]] == ["w", "z"]
    assert [choice.level for choice in _read(factors, b=["z", "x"])["c"]] == ["z", "x"]
    assert [choice.level for choice in _read(factors, c=["x"])["c"]] == ["x"]
    assert [choice.values for choice in _read(factors, b=["x"])["b"]] == [{"v": 1}]


def test_a_product_has_a_level_for_each_combination():
    found = _read({"a": {"x": {"v": {"w": 1}}, "y": {}}, "n": [0, 0.5], "run": {"product": {"A": "a", "N n": "n"}}})[
        "run"
    ]
    assert [choice.level for choice in found] == ["x-0", "x-0.5", "y-0", "y-0.5"]
    assert found[1].values == {"A": {"v": {"w": 1}}, "N n": {}, "factors": {"A": "x", "N n": 0.5}}


def test_levels_carry_their_presets_into_products_and_other_factors():
    factors = {
        "a": {"x": {"preset": "one"}, "y": {}},
        "b": {"z": {"preset": "two"}},
        "c": ["${a}", "plain"],
        "run": {"product": {"c": "c", "b": "b"}},
    }
    found = _read(factors)
    assert [choice.presets for choice in found["a"]] == [("one",), ()]
    assert [choice.presets for choice in found["c"]] == [("one",), (), ()]
    assert [choice.presets for choice in found["run"]] == [("one", "two"), ("two",), ("two",)]


def test_products_and_taken_over_levels_name_stages(load):
    nodes = load(LEVELS).nodes
    prepared = [name for name in nodes if name.startswith("prepare")]
    assert prepared == [f"prepare-{loss}-{seed}" for loss in ("pce", "densecrf", "dense") for seed in (0, 1)]
    assert [nodes[name].params.seed for name in prepared] == [0, 1] * 3
    fewer = load(LEVELS, "factors.loss=[densecrf]", "factors.seed=[0]").nodes
    assert [name for name in fewer if name.startswith("prepare")] == ["prepare-densecrf-0", "prepare-dense-0"]


@pytest.mark.parametrize(
    ("factors", "changes", "message"),
    [
        ({"b": ["${a}"]}, {}, "here: factor 'b': no factor 'a' before it"),
        ({"b": ["${a}"], "a": [1]}, {}, "factor 'b': no factor 'a' before it; known: none"),
        ({"aa": [1], "b": ["${a}"]}, {}, "factor 'b': no factor 'a' before it; did you mean 'aa'"),
        (
            {"a": [1], "b": ["x-${a}"]},
            {},
            r"a placeholder in a list of levels must be a whole level, for example \$\{a\}; got 'x-\$\{a\}'",
        ),
        (
            {"a": [1], "b": ["${a.x}"]},
            {},
            r"a placeholder in a list of levels must be a whole level, .* got '\$\{a.x\}'",
        ),
        ({"a": [1], "b": {"product": {"x": "aa"}}}, {}, "factor 'b': no factor 'aa' before it; did you mean 'a'"),
        ({"a": [1], "b": {"product": {"x": ["a"]}}}, {}, r"factor 'b': no factor \['a'\] before it"),
        ({"a": [1], "b": {"product": ["a"]}}, {}, r"'product' must map names of columns to factors, got \['a'\]"),
        ({"a": [1], "b": {"product": {}}}, {}, "'product' must map names of columns to factors"),
        ({"a": [1], "b": {"product": {"factors": "a"}}}, {}, "a column cannot be named 'factors'"),
        (
            {"a": ["x", "x-y"], "b": ["y-z", "z"], "c": {"product": {"a": "a", "b": "b"}}},
            {},
            "two combinations of levels are named 'x-y-z'",
        ),
        ({"a": ["x", "y"], "b": ["${a}"]}, {"b": ["z"]}, "factor 'b': no level 'z'"),
        ({"a": ["x", "y"], "b": {"product": {"a": "a"}}}, {"b": ["z"]}, "factor 'b': no level 'z'"),
        ({"a": {"x": {}}}, {"a": []}, "factor 'a': has no levels"),
        ({"a": {"x": {}}}, {"a": ["x", "x"]}, "factor 'a': a level is named twice"),
        ({"a": {"x": {}}}, {"a": [["x"]]}, r"levels must be text or numbers, got \['x'\]"),
        ({"a": {True: {}}}, {}, "levels must be text or numbers, got True"),
        ({"a": None}, {}, "levels must be text or numbers, got None"),
        ({"a": {}}, {}, "factor 'a': has no levels"),
        ({"a": ["x"]}, {"c": ["x"]}, "no factor 'c' to change"),
    ],
)
def test_refuses_factors(factors, changes, message):
    with pytest.raises(UsageError, match=message):
        _read(factors, **changes)


def test_what_factors_decide_is_known_by_its_path():
    factors = _read({"a": {"x": {"terms": {"pce": 1}}}, "s": [4]})
    entry = {
        "id": "t-${a}",
        "each": ["a", "s"],
        "params": {"name": "${a} ${s}", "seed": "${s}", "phases": [{"terms": "${a.terms}", "lr": 1}], "rest": 2},
    }
    (single,) = expand(entry, factors, "here", set())
    assert single.decided == {("name",): "x 4", ("seed",): 4, ("phases", 0, "terms"): {"pce": 1}}
    assert single.entry["params"] == {"name": "x 4", "seed": 4, "phases": [{"terms": {"pce": 1}, "lr": 1}], "rest": 2}
