import pytest

from tests.small_backbone import small_backbone
from wss.methods import METHODS
from wss.pipeline.changes import parse_overrides
from wss.pipeline.document import read_pipeline
from wss.pipeline.factors import read_factors
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.shipped import shipped
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
    "study-spml-densepose": {"training": ["kernelcut", "full"]},
    "study-spml-sparsity": {"length": [1, 0]},
    "study-tags": {"constraint": ["none", "constrain-no-backprop"]},
}


def _shortened(path):
    """The pipeline with every phase cut to one epoch, and studies with few levels."""
    levels = {"factors": STUDIES[path.stem]} if path.stem in STUDIES else small_backbone(path.stem)
    pipeline = load_pipeline(path, levels, {"dataset": DATASET})
    changes = levels | {
        node.id: {
            **levels.get(node.id, {}),
            "phases": [{**p.model_dump(mode="json"), "epochs": 1, "steps": None} for p in node.params.phases],
            "augment": {"crop": 32},
        }
        for node in pipeline.nodes.values()
        if node.stage.name == "train"
    }
    return load_pipeline(path, changes, {"dataset": DATASET})


@pytest.mark.parametrize("name", shipped_pipelines())
def test_runs_end_to_end_and_a_second_run_skips_everything(name, tmp_path):
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
    if name not in ("semi-supervised", "dmsps"):  # which is dmpls with soft labels, twice
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
        known = [pipeline.nodes[i].params.factors for i in report.inputs["metrics"]]
        varied = [factors for factors in known if study.rows in factors]
        assert varied
        assert all(set(factors) < set(varied[0]) for factors in known if factors not in varied)  # full supervision
        assert len({factors[study.rows] for factors in varied}) > 1 or study.columns
        assert all(study.columns in factors for factors in varied if study.columns)
    assert report.params.studies
    assert name in STUDIES


FILES = sorted(shipped("pipelines").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(shipped("pipelines")).as_posix())
def test_lines_are_short(path):
    long = [number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) >= 130]
    assert not long, f"{path}: lines {long}"


PICTURED = {("study-rw-ss", "parts"): "random-transition-entropy"}
"""Levels of which a study makes pictures, and which must stay for that, by study and factor. Elsewhere it is the first one."""


def _choices():
    """For each study and factor, two of its levels; one of them is the level of which there are pictures."""
    for name in STUDIES:
        for factor, choices in read_factors(read_pipeline(shipped_pipelines()[name])["factors"], {}, name).items():
            levels = [choice.level for choice in choices]
            pictured = PICTURED.get((name, factor), levels[0])
            yield from ((name, factor, (pictured, level)) for level in levels if level != pictured)


@pytest.mark.parametrize(("name", "factor", "levels"), list(_choices()))
def test_studies_take_fewer_levels(name, factor, levels):
    setting = f"factors.{factor}=[{levels[0]}, {levels[1]}]"
    fewer = load_pipeline(shipped_pipelines()[name], parse_overrides([setting])).nodes
    whole = load_pipeline(shipped_pipelines()[name]).nodes
    assert set(fewer) <= set(whole)
    assert any(node.stage.name == "evaluate" for node in fewer.values())
    report = fewer["report"]
    assert set(report.inputs["metrics"]) == {node.id for node in fewer.values() if node.stage.name == "evaluate"}


def test_a_study_of_two_networks_trains_both_and_names_both(tmp_path):
    one, two = "small: {spec: {name: unet}}", "large: {spec: {name: deeplab-v2, backbone: resnet18}}"

    def run(networks):
        settings = [f"factors.network={{{networks}}}", "factors.loss=[pce]", "train*.phases.*.epochs=1"]
        settings += ["train*.augment.crop=32", "crf*.iterations=1"]
        path = shipped_pipelines()["study-losses"]
        pipeline = load_pipeline(path, parse_overrides(settings), {"dataset": DATASET})
        return run_pipeline(pipeline, Workspace(tmp_path), Context())

    first = run(one)
    second = run(f"{one}, {two}")
    trained = {name: outcome for name, outcome in second.items() if name.startswith("train-")}
    assert {name for name, outcome in trained.items() if outcome.skipped} == {
        n for n in first if n.startswith("train-")
    }
    assert {name for name, outcome in trained.items() if not outcome.skipped} == {
        "train-first-large-0",
        "train-pce-large-0",
        "train-dense-large-0",
    }
    (study,) = load_pipeline(shipped_pipelines()["study-losses"]).nodes["report"].params.studies
    assert study.rows == "network"
    page = (tmp_path / "report.html").read_text()
    assert ">small<" in page
    assert ">large<" in page
