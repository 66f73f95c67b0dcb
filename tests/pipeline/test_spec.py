"""Pipelines as YAML: what is understood, what is refused, and with which words."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import merge, parse_overrides
from wss.pipeline.spec import find_pipeline, load_pipeline, reference, shipped_pipelines

GOOD = """
    title: One
    description: Some words.
    x-shared: &phases [{epochs: 2, terms: {pce: 1}}]
    stages:
      - stage: samples
      - id: labels
        stage: prepare
        inputs: {samples: samples}
        params: {shrink: 0.5}
      - stage: train
        inputs: {samples: samples, labels: labels}
        params: {method: {name: pce}, phases: *phases}
      - stage: predict
        inputs: {samples: [samples], model: train}
"""


@pytest.fixture
def load(tmp_path):
    def load(text, *arguments, **options):
        path = tmp_path / "mine.yaml"
        path.write_text(textwrap.dedent(text))
        return load_pipeline(path, *arguments, **options)

    return load


def _stages(*entries):
    return "stages:\n" + "".join(f"  - {entry}\n" for entry in entries)


SAMPLES, PREPARE = "{stage: samples}", "{stage: prepare, inputs: {samples: samples}}"
TRAIN = "{stage: train, inputs: {samples: samples, labels: prepare}, params: {method: {name: pce}, phases: [%s]}}"


def test_reads_titles_stages_parameters_and_inputs(load):
    pipeline = load(GOOD)
    assert (pipeline.name, pipeline.title, pipeline.description) == ("mine", "One", "Some words.")
    assert list(pipeline.nodes) == ["samples", "labels", "train", "predict"]
    assert pipeline.nodes["labels"].stage.name == "prepare"
    assert pipeline.nodes["labels"].params.shrink == 0.5
    assert pipeline.nodes["train"].params.phases[0].epochs == 2
    assert pipeline.nodes["predict"].inputs == {"samples": ("samples",), "model": ("train",)}


def test_up_to_keeps_what_is_needed_in_order(load):
    pipeline = load(GOOD)
    assert list(pipeline.up_to("labels").nodes) == ["samples", "labels"]
    assert list(pipeline.up_to("train").nodes) == ["samples", "labels", "train"]
    with pytest.raises(UsageError, match="no stage 'labls'; did you mean 'labels'"):
        pipeline.up_to("labls")


def test_changes_are_nested_and_leave_the_rest(load):
    changes = parse_overrides(["labels.shrink=1", "train.network.name=deeplab-v2", "train.network.backbone=resnet18"])
    pipeline = load(GOOD, changes, {"seed": 7, "dataset": {"kind": "sample"}, "nothing": 1})
    assert pipeline.nodes["labels"].params.shrink == 1
    assert pipeline.nodes["labels"].params.seed == 7
    assert pipeline.nodes["train"].params.seed == 7
    assert pipeline.nodes["train"].params.network.backbone == "resnet18"
    assert pipeline.nodes["train"].params.method.name == "pce"


def test_a_method_of_another_name_takes_no_settings_over():
    old = {"method": {"name": "slic", "segments": 5}, "network": {"name": "unet", "width": 8}}
    assert merge(old, {"method": {"segments": 6}})["method"] == {"name": "slic", "segments": 6}
    assert merge(old, {"method": {"name": "slic"}})["method"] == {"name": "slic", "segments": 5}
    assert merge(old, {"method": {"name": "ucm"}})["method"] == {"name": "ucm"}
    assert merge({"method": {"segments": 5}}, {"method": {"name": "ucm"}})["method"] == {"name": "ucm", "segments": 5}
    assert merge(old, {"network": {"name": "other"}})["network"] == {"name": "other"}
    assert merge(old, {"network": {"width": 9}})["network"] == {"name": "unet", "width": 9}
    assert merge(old, {"augment": {"name": "b"}} | {"augment": {"width": 9}})["augment"] == {"width": 9}


def test_a_change_ranks_before_what_holds_everywhere(load):
    pipeline = load(GOOD, {"labels": {"seed": 1}}, {"seed": 7})
    assert pipeline.nodes["labels"].params.seed == 1
    assert pipeline.nodes["train"].params.seed == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected named entries"),
        ("[1]", "expected named entries"),
        ("stages: [", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\0", "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("{1: 2}", "unknown entry 1"),
        ("stage: []", "unknown entry 'stage'; did you mean 'stages'"),
        ("title: T", "'stages' must be a list"),
        ("stages: []", "'stages' must be a list"),
        ("stages: {stage: samples}", "'stages' must be a list"),
        ("stages: &x [*x]", "a value contains itself: an alias"),
        (_stages("samples"), "stage 1: expected an entry with 'stage'"),
        (_stages("{id: samples}"), "stage 1: expected an entry with 'stage'"),
        (_stages("{stage: sample}"), "no stage 'sample'; did you mean 'samples'"),
        (_stages("{stage: 5}"), "no stage 5; known: "),
        (_stages("{stage: [samples]}"), r"no stage \['samples'\]"),
        (_stages("{stage: samples, param: {}}"), "unknown entry 'param'; did you mean 'params'"),
        (_stages("{stage: samples, 5: {}}"), "unknown entry 5"),
        (_stages("{stage: samples, params: 5}"), "'params' must be names with values, got 5"),
        (_stages("{stage: samples, params: [1]}"), "'params' must be names with values"),
        (_stages("{stage: samples, params: {5: 1}}"), "5"),
        (_stages("{stage: samples, inputs: 5}"), "'inputs' must name"),
        (_stages("{stage: samples, id: [1]}"), "an id must consist of"),
        (_stages("{stage: samples, id: a.b}"), "an id must consist of"),
        (_stages("{stage: samples, id: ''}"), "an id must consist of"),
        (_stages(SAMPLES, SAMPLES), "two stages with this name; give one an 'id'"),
        (_stages(SAMPLES, "{stage: prepare}"), "input 'samples' .samples. is missing"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: }}"), "input 'samples' .samples. is missing"),
        (
            _stages(SAMPLES, "{stage: prepare, inputs: {sample: samples}}"),
            "unknown input 'sample'; did you mean 'samples'",
        ),
        (_stages(SAMPLES, "{stage: prepare, inputs: {5: samples}}"), "unknown input 5"),
        (
            _stages(SAMPLES, "{stage: prepare, inputs: {samples: smples}}"),
            "no stage 'smples' before it; did you mean 'samples'",
        ),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: 5}}"), "no stage 5 before it"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: [[5]]}}"), "before it"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: {a: 1}}}"), "before it"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: [samples, samples]}}"), "takes one stage, got 2"),
        (_stages(PREPARE, SAMPLES), "no stage 'samples' before it"),
        (
            _stages(SAMPLES, PREPARE, "{id: again, stage: prepare, inputs: {samples: prepare}}"),
            "stage 'again': input 'samples' must be samples, but 'prepare' makes labels",
        ),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: samples}, params: {shrnk: 1}}"), "did you mean 'shrink'"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: samples}, params: {shrink: 2}}"), "shrink: .*got 2"),
        (_stages(SAMPLES, "{stage: prepare, inputs: {samples: samples}, params: {fraction: .nan}}"), "fraction"),
        (
            _stages(SAMPLES, PREPARE, TRAIN % "{epochs: 0, terms: {pce: 1}}"),
            "phases.0.epochs: .*greater than or equal to 1",
        ),
        (_stages(SAMPLES, PREPARE, TRAIN % "{epoch: 1, terms: {pce: 1}}"), "'phases.0.epoch'; did you mean 'epochs'"),
        (_stages(SAMPLES, PREPARE, TRAIN % "{epochs: 1, terms: {pec: 1}}"), "no loss term 'pec'; did you mean 'pce'"),
        (_stages(SAMPLES, PREPARE, TRAIN % "{epochs: 1, terms: {pce: .inf}}"), "finite"),
        (_stages(SAMPLES, PREPARE, TRAIN % "{epochs: 1, lr: .nan, terms: {pce: 1}}"), "lr"),
    ],
)
def test_refuses(load, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        load(text)
    assert "mine.yaml" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_refuses_changes_of_stages_that_are_not_there(load):
    with pytest.raises(UsageError, match="'mine' has no stage 'labls'; did you mean 'labels'"):
        load(GOOD, {"labls": {"shrink": 1}})


def test_refuses_what_is_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="cannot be read"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("a.b=1", {"a": {"b": 1}}),
        ("a.b=1.5", {"a": {"b": 1.5}}),
        ("a.b=true", {"a": {"b": True}}),
        ("a.b=null", {"a": {"b": None}}),
        ("a.b=", {"a": {"b": None}}),
        ("a.b=x=y", {"a": {"b": "x=y"}}),
        ("a.b=[1, 2]", {"a": {"b": [1, 2]}}),
        ("a.b={c: 1}", {"a": {"b": {"c": 1}}}),
        ("a.b.c.d=word", {"a": {"b": {"c": {"d": "word"}}}}),
        (" a.b =1", {"a": {"b": 1}}),
    ],
)
def test_settings_become_nested_values(setting, expected):
    assert parse_overrides([setting]) == expected


def test_settings_add_up_and_the_last_one_counts():
    assert parse_overrides(["a.b.c=1", "a.b.d=2", "e.f=3", "a.b.c=4"]) == {"a": {"b": {"c": 4, "d": 2}}, "e": {"f": 3}}


@pytest.mark.parametrize(
    "setting", ["", "a", "a=1", "=1", "a.=1", ".a=1", "a..b=1", "a.b", "a.b=[", "a.b=!!python/name:x y"]
)
def test_settings_of_another_form_are_refused_by_name(setting):
    with pytest.raises(UsageError, match="--set"):
        parse_overrides([setting])


def test_merge_replaces_lists_whole_and_does_not_touch_its_arguments():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(old, {"a": {"c": [3]}, "d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert old == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_pipelines_are_found_by_name_or_file(tmp_path, monkeypatch):
    assert find_pipeline("pce") == shipped_pipelines()["pce"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    assert find_pipeline("mine.yaml").samefile(tmp_path / "mine.yaml")
    assert reference("mine.yaml") == str(tmp_path / "mine.yaml")
    assert reference("pce") == "pce"
    with pytest.raises(UsageError, match="no such pipeline file"):
        find_pipeline("yours.yaml")
    with pytest.raises(UsageError, match="no pipeline 'pcee'; did you mean 'pce'"):
        find_pipeline("pcee")
