"""Presets: settings for many pipelines, and changes of single elements of lists."""

from pathlib import Path

import pytest

import wss
from wss.errors import UsageError
from wss.pipeline.changes import merge, parse_overrides
from wss.pipeline.presets import load_preset, shipped_presets
from wss.pipeline.spec import find_pipeline, load_pipeline

STUDY = """
factors:
  network: {small: {spec: {name: unet}}, large: {spec: {name: unet, dropout: 0}}}
stages:
  - stage: samples
  - stage: prepare
    inputs: {samples: samples}
  - id: train-${network}
    each: network
    stage: train
    inputs: {samples: samples, labels: prepare}
    params:
      method: {name: densecrf}
      network: "${network.spec}"
      phases: [{epochs: 3, terms: {pce: 1}}, {epochs: 4, terms: {pce: 2}}]
"""


def test_lists_change_by_position_or_whole():
    old = {"phases": [{"epochs": 1, "lr": 3}, {"epochs": 2}]}
    assert merge(old, {"phases": {"1": {"epochs": 5}}}) == {"phases": [{"epochs": 1, "lr": 3}, {"epochs": 5}]}
    assert merge(old, {"phases": {"*": {"epochs": 5}, 0: {"lr": 1}}}) == {
        "phases": [{"epochs": 5, "lr": 1}, {"epochs": 5}]
    }
    assert merge(old, {"phases": []}) == {"phases": []}
    assert old["phases"][1] == {"epochs": 2}
    with pytest.raises(UsageError, match="a list of 2 has no position '2'"):
        merge(old, {"phases": {2: {"epochs": 5}}})


def test_settings_reach_into_phases():
    phases = (
        load_pipeline(find_pipeline("densecrf"), parse_overrides(["train.phases.1.terms.densecrf=7"]))
        .nodes["train"]
        .params.phases
    )
    assert phases[1].terms == {"pce": 1, "densecrf": 7}
    assert phases[0].terms == {"pce": 1}


def test_a_preset_counts_more_than_the_file_and_less_than_settings(tmp_path):
    study, preset = tmp_path / "study.yaml", tmp_path / "mine.yaml"
    study.write_text(STUDY)
    preset.write_text(
        "stages:\n  train*: {batch_size: 3, amp: true, phases: {'*': {lr: 0.5}}}\n  crf*: {preset: vgg16}\n"
        "methods: {densecrf: {sigma_xy: 9}, ncut: {sigma_xy: 1}}\n"
        "factors: {network: {mine: {spec: {name: unet, dropout: 0.1}}}, loss: [1]}\n"
    )
    nodes = load_pipeline(study, parse_overrides(["train-mine.batch_size=2"]), preset=load_preset(str(preset))).nodes
    assert list(nodes) == ["samples", "prepare", "train-mine"]
    params = nodes["train-mine"].params
    assert (params.batch_size, params.amp, params.network.dropout) == (2, True, 0.1)
    assert params.method.sigma_xy == 9
    assert [(p.epochs, p.lr) for p in params.phases] == [(3, 0.5), (4, 0.5)]


@pytest.mark.parametrize("name", shipped_presets())
def test_shipped_presets_fit_the_methods(name):
    preset = load_preset(name)
    assert 10 < len(preset.title) < 80
    for pipeline in ("pce", "densecrf", "dense"):
        changed = load_pipeline(find_pipeline(pipeline), preset=preset).nodes["train"].params
        assert changed != load_pipeline(find_pipeline(pipeline)).nodes["train"].params


PRESETS = [*shipped_presets().values(), *sorted((Path(wss.__file__).parents[1] / "benchmarks/presets").glob("*.yaml"))]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_train_all_losses_of_a_study_alike(path):
    nodes = load_pipeline(find_pipeline("study-losses"), preset=load_preset(str(path))).nodes.values()
    phases = {n.params.method.name: n.params.phases for n in nodes if n.inputs.get("initial")}
    assert set(phases) == {"pce", "ncut", "densecrf", "kernelcut"}
    schedules = [[phase.model_dump(exclude={"terms"}) for phase in each] for each in phases.values()]
    assert all(schedule == schedules[0] for schedule in schedules)
    (dense,) = [n.params.phases for n in nodes if n.stage.name == "train" and n.params.method.name == "dense"]
    assert [phase.model_dump(exclude={"terms"}) for phase in dense[1:]] == schedules[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: {}", "unknown entry 'stage'; did you mean 'stages'"),
        ("stages: {train: 3}", "'stages' must hold names, and for each its settings"),
        ("factors: [a]", "'factors' must hold names"),
    ],
)
def test_refuses_malformed_presets(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_preset(str(path))


def test_a_bad_value_of_a_preset_names_the_preset(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("stages: {train: {batch_size: none}, absent: {batch_size: none}}\n")
    with pytest.raises(
        UsageError, match=r"pce.yaml: stage 'train' with preset .*mine.yaml: batch_size: Input should be"
    ):
        load_pipeline(find_pipeline("pce"), preset=load_preset(str(preset)))
    preset.write_text("stages: {train: {batch_size: 3}}\n")
    with pytest.raises(UsageError, match=r"pce.yaml: stage 'crf': unknown parameter 'x'"):
        load_pipeline(find_pipeline("pce"), {"crf": {"x": 1}}, preset=load_preset(str(preset)))


def test_names_the_nearest_preset():
    with pytest.raises(UsageError, match="no preset 'voc2012-resnet'; did you mean 'voc2012-resnet101'"):
        load_preset("voc2012-resnet")


@pytest.mark.parametrize(
    ("preset", "network", "crf"),
    [
        ("voc2012-largefov", "deeplab-largefov", "largefov"),
        ("voc2012-msc-largefov", "deeplab-msc-largefov", "msc"),
        ("voc2012-vgg16", "deeplab-vgg16", "vgg16"),
    ],
)
def test_vgg_presets_agree_with_the_paper(preset, network, crf):
    nodes = load_pipeline(find_pipeline("study-losses"), preset=load_preset(preset)).nodes.values()
    trained = [node.params for node in nodes if node.stage.name == "train"]
    assert {(params.network.name, params.network.backbone) for params in trained} == {(network, "vgg16")}
    assert {params.method.sigma_rgb for params in trained if params.method.name == "densecrf"} == {15}
    assert {params.method.sigma_xy for params in trained if params.method.name == "kernelcut"} == {100}
    assert {node.params.preset for node in nodes if node.stage.name == "crf"} == {crf}
    assert all(network.removeprefix("deeplab-") in node.id for node in nodes if node.stage.name == "train")
