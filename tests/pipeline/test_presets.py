"""Presets: settings for many pipelines, and changes of single elements of lists."""

from pathlib import Path

import pytest
import yaml

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


COMMANDS = sorted(
    command.split(" --preset ")
    for path in (Path(__file__).parents[1] / "protocols").glob("*.yaml")
    for command in (yaml.safe_load(path.read_text()) or {}).get("commands", ())
    if " --preset " in command
)
"""The pipelines, each with a preset that is made for it."""


def test_every_preset_is_made_for_a_pipeline():
    assert {preset for _, preset in COMMANDS} == set(shipped_presets())
    assert all(10 < len(load_preset(name).title) < 80 for name in shipped_presets())


@pytest.mark.parametrize(("pipeline", "preset"), COMMANDS)
def test_shipped_presets_set_every_training_of_the_pipelines_they_are_made_for(pipeline, preset):
    loaded = load_pipeline(find_pipeline(pipeline), preset=load_preset(preset))
    assert [note for note in loaded.notes if not note.startswith(("differences of ", "  - "))] == []
    split = "trainaug" if preset.startswith("voc2012") else "train"
    for node in loaded.nodes.values():
        if node.stage.name == "train":
            assert (node.params.network.name == "unet", node.params.weights, node.params.amp) == (
                False,
                "imagenet",
                True,
            )
            assert node.params.split == split
            assert all(phase.optimiser in ("sgd", "adam") for phase in node.params.phases)
        elif "split" in type(node.params).model_fields:
            assert node.params.split in (split, "val")


@pytest.mark.parametrize(
    ("preset", "pipeline", "message"),
    [
        (
            "voc2012-bpg",
            "densecrf",
            "uses the recipe 'first', and preset voc2012-bpg has no such recipe.*its recipes are test, training, whole",
        ),
        ("voc2012-vgg16", "spml-tag", "uses the recipe 'tag-training', and preset voc2012-vgg16 has no such recipe"),
        ("densepose-spml", "spml-tag", "uses the recipe 'tag-training', and preset densepose-spml has no such recipe"),
        (
            "rawks-resnet101",
            "study-losses",
            "rawks-resnet101 sets network.name to 'deeplab-v3plus', but a factor .* 'unet'",
        ),
        (
            "voc2012-networks",
            "pce",
            "stage 'train': preset voc2012-networks sets trainings by levels of network, .* "
            "voc2012-msc-largefov, voc2012-resnet101, voc2012-vgg16",
        ),
        ("voc2012-networks", "study-crf", "stage 'train-first-0': preset voc2012-networks sets trainings by levels"),
    ],
)
def test_a_preset_that_is_made_for_other_pipelines_is_refused(preset, pipeline, message):
    with pytest.raises(UsageError, match=message):
        load_pipeline(find_pipeline(pipeline), preset=load_preset(preset))


BENCHMARKS = sorted((Path(wss.__file__).parents[1] / "benchmarks/presets").glob("*.yaml"))
SHIPPED = [shipped_presets()[preset] for pipeline, preset in COMMANDS if pipeline == "study-losses"]


@pytest.mark.parametrize("path", [*SHIPPED, *BENCHMARKS], ids=lambda path: path.stem)
def test_presets_train_all_losses_of_a_study_alike(path):
    nodes = load_pipeline(find_pipeline("study-losses"), preset=load_preset(str(path))).nodes.values()
    networks = {node.params.network for node in nodes if node.stage.name == "train"}
    units = path.stem in ("voc2012-caffe-weights", "voc2012-pytorch-weights")
    assert len(networks) == (3 if units or path.stem == "voc2012-networks" else 1)
    for network in networks:
        trained = [node for node in nodes if node.stage.name == "train" and node.params.network == network]
        phases = {n.params.method.name: n.params.phases for n in trained if n.inputs.get("initial")}
        assert set(phases) == ({"pce", "densecrf"} if units else {"pce", "ncut", "densecrf", "kernelcut"})
        schedules = [[phase.model_dump(exclude={"terms"}) for phase in each] for each in phases.values()]
        assert all(schedule == schedules[0] for schedule in schedules)
        (dense,) = [n.params.phases for n in trained if n.params.method.name == "dense"]
        assert [phase.model_dump(exclude={"terms"}) for phase in dense[1:]] == schedules[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: {}", "unknown entry 'stage'; did you mean 'stages'"),
        ("stages: {train: 3}", "'stages' must map names to settings"),
        ("every: {train: 3}", "'every' must map names to settings"),
        ("recipes: {first: 3}", "'recipes' must map names to settings"),
        ("methods: {ncut: 3}", "'methods' must map names to settings"),
        ("factors: [a]", "'factors' must map names"),
        ("every: [train]", "'every' must map names"),
        ("recipes: first", "'recipes' must map names"),
        ("split: [a]", "'split' must be the name of the split to train on, got .'a'."),
        ("split: {train: 3}", "'split' must be the name of the split to train on"),
        ("every: {tain: {}}", "every: no 'tain'; did you mean 'train'"),
        ("every: {train: {batch: 1}}", "every: 'train' has no parameter 'batch'; did you mean 'batch_size'"),
        ("methods: {ncutt: {}}", "methods: no 'ncutt'; did you mean 'ncut'"),
        ("methods: {ncut: {sigma_rbg: 1}}", "methods: 'ncut' has no parameter 'sigma_rbg'; did you mean 'sigma_rgb'"),
        ("extends: p", "p.yaml: extends itself, through .*p.yaml"),
        ("extends: voc2012-vgg61", "no preset 'voc2012-vgg61'; did you mean 'voc2012-vgg16'"),
        ("[1]", "expected named entries"),
        ("a: b: c", "not valid YAML"),
        ("every: &x {train: *x}", "a value contains itself"),
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


def test_presets_extend_one_another(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "title: Base\nsplit: trainaug\nrecipes: {first: {epochs: 1, lr: 2}, second: {epochs: 3}}\n"
        "every: {crf: {iterations: 1, preset: vgg16}}\nmethods: {ncut: {sigma_xy: 1, sigma_rgb: 2}}\n"
        "factors: {network: {a: {}, b: {}}}\nstages: {'train*': {amp: true, batch_size: 2}}\n"
    )
    (tmp_path / "between.yaml").write_text("extends: base\nstages: {'train*': {batch_size: 3}}\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: between\ntitle: Mine\nrecipes: {first: {steps: 5}}\nevery: {crf: {iterations: 4}}\n"
        "methods: {ncut: {sigma_xy: 6}, pce: {}}\nfactors: {network: {c: {}}}\n"
    )
    preset = load_preset(str(tmp_path / "mine.yaml"))
    assert (preset.title, preset.split) == ("Mine", {"train": "trainaug"})
    assert preset.recipes == {"first": {"lr": 2, "steps": 5}, "second": {"epochs": 3}}
    assert preset.every == {"crf": {"iterations": 4, "preset": "vgg16"}}
    assert preset.methods == {"ncut": {"sigma_xy": 6, "sigma_rgb": 2}, "pce": {}}
    assert preset.factors == {"network": {"c": {}}}
    assert preset.stages == {"train*": {"amp": True, "batch_size": 3}}


def test_a_preset_may_extend_a_shipped_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: voc2012-resnet101\nrecipes: {second: {recipe: phase, steps: 5}}\n")
    shipped = load_preset("voc2012-resnet101")
    mine = load_preset(str(path))
    assert mine.recipes == {**shipped.recipes, "second": {"recipe": "phase", "steps": 5}}
    assert mine.factors == shipped.factors


def test_a_derived_preset_keeps_what_it_does_not_change(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: voc2012-resnet101\nrecipes: {training: {batch_size: 4}, second: {steps: 5}}\n")
    mine, published = (
        load_pipeline(find_pipeline("kernelcut"), preset=load_preset(name)).nodes["train"].params
        for name in (str(path), "voc2012-resnet101")
    )
    assert (mine.batch_size, mine.phases[1].steps) == (4, 5)
    assert mine.network == published.network
    assert mine.phases[1].model_copy(update={"steps": published.phases[1].steps}) == published.phases[1]


def test_a_preset_of_trainings_does_not_fit_stages_without_recipes(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(STUDY)
    with pytest.raises(UsageError, match=r"stage 'train-vgg16': preset voc2012-vgg16 sets trainings by recipes"):
        load_pipeline(path, preset=load_preset("voc2012-vgg16"))


def test_presets_that_extend_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b")
    (tmp_path / "b.yaml").write_text("extends: a")
    with pytest.raises(UsageError, match=r"b.yaml: extends itself, through .*a.yaml"):
        load_preset(str(tmp_path / "a.yaml"))


def test_levels_of_a_preset_replace_those_of_the_pipeline_or_choose_among_them(tmp_path):
    study, preset = tmp_path / "study.yaml", tmp_path / "mine.yaml"
    study.write_text(STUDY)
    preset.write_text("factors: {network: [large], other: [1]}")
    assert list(load_pipeline(study, preset=load_preset(str(preset))).nodes)[2:] == ["train-large"]
    chosen = load_pipeline(study, parse_overrides(["factors.network=[small]"]), preset=load_preset(str(preset)))
    assert list(chosen.nodes)[2:] == ["train-small"]
    preset.write_text("factors: {network: {a: {spec: {name: unet}}, b: {spec: {name: unet}}}}")
    chosen = load_pipeline(study, parse_overrides(["factors.network=[b]"]), preset=load_preset(str(preset)))
    assert list(chosen.nodes)[2:] == ["train-b"]
    with pytest.raises(UsageError, match="factor 'network': no level 'small'"):
        load_pipeline(study, parse_overrides(["factors.network=[small]"]), preset=load_preset(str(preset)))


def test_two_networks_of_three_train_with_their_own_settings():
    changes = parse_overrides(["factors.network=[vgg16, resnet101]", "factors.loss=[pce, densecrf]"])
    nodes = load_pipeline(find_pipeline("study-losses"), changes, preset=load_preset("voc2012-networks")).nodes
    trained = {name: node.params for name, node in nodes.items() if node.stage.name == "train"}
    assert [name for name in trained if "densecrf" in name] == ["train-densecrf-vgg16-0", "train-densecrf-resnet101-0"]
    vgg, resnet = trained["train-densecrf-vgg16-0"], trained["train-densecrf-resnet101-0"]
    assert (vgg.network.name, resnet.network.name) == ("deeplab-vgg16", "deeplab-v2")
    assert (vgg.method.sigma_xy, resnet.method.sigma_xy) == (100, 80)
    assert (vgg.phases[0].lr, resnet.phases[0].lr) == (0.0005, 0.00015)
    assert (vgg.network.multi_scale, resnet.network.multi_scale) == ((), (0.5, 0.75))
    crf = [nodes[f"crf-densecrf-{network}-0"].params.preset for network in ("vgg16", "resnet101")]
    assert crf == ["vgg16", "resnet101"]
