import pytest

from wss.methods import METHODS
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.stages import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_every_parameter_of_a_stage_is_explained(wss, name):
    row = wss("stages", name, "--json").json
    assert row["name"] == name
    assert [p["name"] for p in row["parameters"] if not p["text"]] == []
    assert {p["name"].split(".")[0] for p in row["parameters"]} == set(STAGES[name].params.model_fields) - {"name"}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.model_fields["name"].default)
def test_every_parameter_of_a_method_is_explained(wss, method):
    row = wss("methods", method.model_fields["name"].default, "--json").json
    assert [p["name"] for p in row["parameters"] if not p["text"]] == []
    assert {p["name"] for p in row["parameters"]} == set(method.model_fields) - {"name"}


def test_subclasses_explain_anew_or_inherit(wss):
    found = {p["name"]: p for p in wss("methods", "ncut", "--json").json["parameters"]}
    assert found["sigma_xy"]["default"] == 40
    assert "not published" in found["sigma_xy"]["text"]
    assert found["sigma_rgb"]["text"].startswith("Standard deviation")
    assert found["variant"]["type"] == "Literal['plain', 'clamped']"


def test_parameters_inside_lists_and_models_are_named_as_set_takes_them(wss):
    found = {p["name"]: p for p in wss("stages", "train", "--json").json["parameters"]}
    assert found["phases"]["required"]
    assert found["phases.*.terms"]["required"]
    assert found["phases.*.epochs"]["default"] is found["phases.*.steps"]["default"] is None
    assert found["phases.*.lr"]["default"] == 0.01
    assert found["augment.scale"]["default"] == [1.0, 1.0]


def test_stages_are_listed_with_inputs_and_output(wss):
    rows = {row["name"]: row for row in wss("stages", "--json").json}
    assert rows["crf"]["inputs"] == {
        "samples": {"store": "samples", "many": False, "optional": False},
        "predictions": {"store": "predictions", "many": False, "optional": False},
        "model": {"store": "model", "many": False, "optional": True},
        "labels": {"store": "labels", "many": False, "optional": True},
    }
    assert rows["crf"]["output"] == "predictions"
    assert all(row["summary"] for row in rows.values())
    for name in rows:
        assert name in wss("stages").out


@pytest.mark.parametrize("name", ["densecrf", "study-losses"])
def test_a_pipeline_lists_its_stages(wss, name):
    row = wss("pipelines", name, "--json").json
    nodes = load_pipeline(shipped_pipelines()[name]).nodes
    assert [s["id"] for s in row["stages"]] == list(nodes)
    trained = next(s for s in row["stages"] if s["stage"] == "train")
    assert trained["params"]["method"]["name"]
    assert all(phase["epochs"] or phase["steps"] for phase in trained["params"]["phases"])
    assert row["title"] in wss("pipelines", name).out


@pytest.mark.parametrize(("command", "hint"), [("stages", "train"), ("methods", "pce"), ("pipelines", "quickstart")])
def test_unknown_names_get_the_nearest(wss, command, hint):
    result = wss(command, hint[:-1] + "x")
    assert result.code == 2
    assert hint in result.err


@pytest.mark.parametrize(("name", "methods"), [("dmsps", ["dmpls", "pce"]), ("spml-tag", ["classifier", "spml"])])
def test_a_pipeline_that_is_no_method_is_named_as_one(wss, name, methods):
    refused = wss("methods", name)
    assert refused.code == 2
    assert f"{name} is a pipeline: `wss pipelines {name}`" in refused.said
    assert any(f"`wss methods {method}`" in refused.said for method in methods)
    assert wss("methods", "pce").code == 0  # a method and a pipeline
