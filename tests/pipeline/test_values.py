"""The parameters of a stage: who has a say in them, in which order, and what no one may change."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import parse_overrides
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import load_pipeline

METHOD = """
    recipes:
      training: {batch_size: 4}
      first: {epochs: 3, lr: 0.5}
      test: {}
    methods:
      densecrf: {sigma_rgb: 3}
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
      - stage: train
        inputs: {samples: samples, labels: prepare}
        params: {recipe: training, method: {name: densecrf, sigma_xy: 5}, phases: [{recipe: first, terms: {pce: 1}}]}
      - stage: predict
        inputs: {samples: samples, model: train}
        params: {recipe: test}
      - stage: crf
        inputs: {samples: samples, predictions: predict}
      - id: crf-2
        stage: crf
        inputs: {samples: samples, predictions: predict}
        params: {iterations: 3}
      - stage: gradients
        inputs: {samples: samples, predictions: predict}
      - stage: propagate
        inputs: {samples: samples, labels: prepare}
        params: {method: {name: densecrf}}
"""
STUDY = """
    recipes:
      training: {batch_size: 4}
      first: {epochs: 3, lr: 0.5}
      test: {}
    factors:
      network: {small: {spec: {name: unet}}}
      loss: {pce: {terms: {pce: 1}}, densecrf: {terms: {pce: 1, densecrf: 2}}}
      seed: [0]
      run: {product: {loss: loss, network: network, seed: seed}}
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
      - id: train-${run}
        each: run
        stage: train
        inputs: {samples: samples, labels: prepare}
        params:
          recipe: training
          method: {name: "${run.factors.loss}"}
          network: "${run.network.spec}"
          seed: "${run.factors.seed}"
          phases: [{recipe: first, terms: "${run.loss.terms}"}]
      - id: predict-${run}
        each: run
        stage: predict
        inputs: {samples: samples, model: "train-${run}"}
        params: {recipe: test}
      - id: crf-${run}
        each: run
        stage: crf
        inputs: {samples: samples, predictions: "predict-${run}"}
"""


@pytest.fixture
def load(tmp_path):
    def load(text, *settings, preset=None, everywhere=None, **others):
        """The pipeline; ``preset`` and ``others`` are texts of preset files, the others by name."""
        (tmp_path / "mine.yaml").write_text(textwrap.dedent(text))
        for name, other in others.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(other))
        if preset is not None:
            text = textwrap.dedent(preset).replace("HERE", str(tmp_path))
            (tmp_path / "given.yaml").write_text(text)
            preset = load_preset(str(tmp_path / "given.yaml"))
        return load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), everywhere, preset)

    return load


def _train(pipeline, name="train"):
    return pipeline.nodes[name].params


# --- order -----------------------------------------------------------------------------------------------------------


def test_each_place_wins_over_those_before_it(load):
    """One more place at a time sets the batch size, from the weakest to the strongest."""
    bare = METHOD.replace("training: {batch_size: 4}", "training: {}")
    assert _train(load(bare)).batch_size == 8
    assert _train(load(bare, everywhere={"batch_size": 2})).batch_size == 2
    assert _train(load(METHOD, everywhere={"batch_size": 2})).batch_size == 4
    recipes = "recipes: {training: {batch_size: 5}, first: {epochs: 1}}\n"
    assert _train(load(METHOD, preset=recipes)).batch_size == 5
    own = METHOD.replace("{recipe: training,", "{recipe: training, batch_size: 6,")
    assert _train(load(own, preset=recipes)).batch_size == 6
    every = recipes + "every: {train: {batch_size: 7}}\n"
    assert _train(load(own, preset=every)).batch_size == 7
    stages = every + "stages: {train: {batch_size: 9}}\n"
    assert _train(load(own, preset=stages)).batch_size == 9
    assert _train(load(own, "recipes.training.batch_size=1", preset=stages)).batch_size == 9
    assert _train(load(own, "tr*.batch_size=10", preset=stages)).batch_size == 10
    assert _train(load(own, "train.batch_size=11", "tr*.batch_size=10", preset=stages)).batch_size == 11


def test_settings_of_methods_win_in_the_same_order(load):
    assert (_train(load(METHOD)).method.sigma_rgb, _train(load(METHOD)).method.sigma_xy) == (3, 5)
    pipeline = METHOD.replace("sigma_rgb: 3", "sigma_rgb: 3, sigma_xy: 4")
    assert _train(load(pipeline)).method.sigma_xy == 5  # the stage's own
    preset = "methods: {densecrf: {sigma_xy: 6, sigma_rgb: 7}}\n"
    assert _train(load(METHOD, preset=preset)).method.sigma_xy == 6
    named = preset + "stages: {train: {method: {sigma_xy: 8}}}\n"
    assert _train(load(METHOD, preset=named)).method.sigma_xy == 8
    assert _train(load(METHOD, "methods.densecrf.sigma_xy=9", preset=named)).method.sigma_xy == 9
    both = load(METHOD, "train.method.sigma_xy=10", "methods.densecrf.sigma_xy=9", preset=named)
    assert (_train(both).method.sigma_xy, _train(both).method.sigma_rgb) == (10, 7)


def test_settings_of_a_method_that_a_change_brings_in(load):
    """The method is chosen by the strongest place, and settings of its name hold for it."""
    changed = load(METHOD, preset="every: {train: {method: {name: ncut}}}\nmethods: {ncut: {sigma_xy: 6}}\n")
    assert (_train(changed).method.name, _train(changed).method.sigma_xy) == ("ncut", 6)


def test_the_preset_of_a_level_wins_over_the_preset_of_the_pipeline(load):
    levels = "factors: {network: {big: {spec: {name: unet, dropout: 0.5}, preset: HERE/level.yaml}}}\n"
    outer = levels + "every: {crf: {iterations: 4}}\nmethods: {densecrf: {sigma_xy: 6, sigma_rgb: 6}}\n"
    outer += "recipes: {training: {batch_size: 5}, first: {epochs: 1, lr: 9}}\n"
    level = "every: {train: {batch_size: 7}}\nmethods: {densecrf: {sigma_xy: 8}}\n"
    nodes = load(STUDY, preset=outer, level=level).nodes
    train = nodes["train-densecrf-big-0"].params
    assert (train.batch_size, train.method.sigma_xy, train.method.sigma_rgb, train.phases[0].lr) == (7, 8, 6, 9)
    level += "recipes: {training: {amp: true}, first: {steps: 2}}\n"
    train = load(STUDY, "recipes.first.momentum=0.3", preset=outer, level=level).nodes["train-densecrf-big-0"].params
    assert (train.batch_size, train.amp, train.phases[0].steps, train.phases[0].epochs) == (7, True, 2, None)
    assert (train.phases[0].lr, train.phases[0].momentum) == (0.01, 0.3)


def test_the_presets_of_levels_hold_for_the_stages_of_their_levels_alone(load):
    levels = """
        factors:
          network:
            one: {spec: {name: unet}, preset: HERE/one.yaml}
            two: {spec: {name: unet, dropout: 0.5}, preset: HERE/two.yaml}
    """
    one = """
        recipes: {training: {batch_size: 1}, first: {steps: 1}, test: {probs: false}}
        every: {crf: {iterations: 1}}
        methods: {densecrf: {sigma_xy: 1}}
        stages: {"predict-*": {limit: 1}, "train-pce-*": {amp: true}}
    """
    two = "recipes: {training: {batch_size: 2}, first: {steps: 2}}\nevery: {crf: {iterations: 2}}\n"
    pipeline = load(STUDY, preset=levels, one=one, two=two)
    nodes = {name: node.params for name, node in pipeline.nodes.items()}
    assert [name for name in nodes if name.startswith("train")] == [
        "train-pce-one-0",
        "train-pce-two-0",
        "train-densecrf-one-0",
        "train-densecrf-two-0",
    ]
    for loss in ("pce", "densecrf"):
        assert [nodes[f"train-{loss}-{n}-0"].batch_size for n in ("one", "two")] == [1, 2]
        assert [nodes[f"train-{loss}-{n}-0"].phases[0].steps for n in ("one", "two")] == [1, 2]
        assert [nodes[f"crf-{loss}-{n}-0"].iterations for n in ("one", "two")] == [1, 2]
        assert [nodes[f"predict-{loss}-{n}-0"].limit for n in ("one", "two")] == [1, None]
        assert [nodes[f"predict-{loss}-{n}-0"].probs for n in ("one", "two")] == [False, True]
    assert [nodes[f"train-densecrf-{n}-0"].method.sigma_xy for n in ("one", "two")] == [1, 100]
    assert [nodes[f"train-pce-{n}-0"].amp for n in ("one", "two")] == [True, "auto"]
    assert pipeline.notes == ()


def test_a_level_of_the_command_line_may_have_a_preset(load, tmp_path):
    level = f"factors.network={{mine: {{spec: {{name: unet}}, preset: {tmp_path}/one.yaml}}}}"
    train = load(STUDY, level, one="every: {train: {batch_size: 1}}").nodes["train-pce-mine-0"].params
    assert train.batch_size == 1
    with pytest.raises(UsageError, match="no preset 'voc2012-vgg61'; did you mean 'voc2012-vgg16'"):
        load(STUDY, "factors.network={mine: {spec: {name: unet}, preset: voc2012-vgg61}}")


# --- methods and kinds of stages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["pipeline", "preset", "--set"])
def test_settings_of_methods_reach_training_and_gradients_and_not_stages_with_methods_of_another_kind(load, place):
    untouched = load(METHOD).nodes["propagate"].params
    assert untouched.method.name == "densecrf"
    pipeline = {
        "pipeline": lambda: load(METHOD.replace("sigma_rgb: 3}", "sigma_rgb: 13}")),
        "preset": lambda: load(METHOD, preset="methods: {densecrf: {sigma_rgb: 13}}"),
        "--set": lambda: load(METHOD, "methods.densecrf.sigma_rgb=13"),
    }[place]()
    nodes = {name: node.params for name, node in pipeline.nodes.items()}
    assert nodes["train"].method.sigma_rgb == 13
    assert {loss.name: loss.sigma_rgb for loss in nodes["gradients"].losses} == {
        "ncut": 15,
        "densecrf": 13,
        "kernelcut": 15,
    }
    assert nodes["propagate"] == untouched


def test_settings_of_methods_do_not_reach_seeds(load):
    text = """
        stages:
          - stage: samples
          - {stage: prepare, inputs: {samples: samples}, params: {annotation: tag}}
          - stage: train
            inputs: {samples: samples, labels: prepare}
            params: {method: {name: classifier}, phases: [{epochs: 1, terms: {bce: 1}}]}
          - {stage: cam, inputs: {samples: samples, labels: prepare, model: train}}
          - {stage: seeds, inputs: {samples: samples, labels: prepare, cam: cam}, params: {method: {name: sec}}}
          - id: train-sec
            stage: train
            inputs: {samples: samples, labels: seeds}
            params: {method: {name: sec}, phases: [{epochs: 1, terms: {seed: 1}}]}
    """
    before, after = load(text).nodes, load(text, preset="methods: {sec: {bi_xy_std: 7}}").nodes
    assert after["seeds"].params == before["seeds"].params
    assert after["train-sec"].params.method.bi_xy_std == 7


def test_losses_of_a_gradients_stage_keep_their_own_settings(load):
    text = METHOD.replace(
        "- stage: gradients\n", "- stage: gradients\n        params: {losses: [{name: densecrf, sigma_rgb: 4}]}\n"
    )
    (loss,) = load(text).nodes["gradients"].params.losses
    assert loss.sigma_rgb == 4
    (loss,) = load(text, preset="methods: {densecrf: {sigma_rgb: 5}}").nodes["gradients"].params.losses
    assert loss.sigma_rgb == 5


def test_every_reaches_all_stages_of_a_kind(load):
    nodes = load(METHOD, preset="every: {crf: {preset: vgg16, iterations: 2}}").nodes
    assert [(nodes[n].params.preset, nodes[n].params.iterations) for n in ("crf", "crf-2")] == [("vgg16", 2)] * 2
    nodes = load(METHOD, "crf-2.iterations=5", preset="every: {crf: {iterations: 2}}").nodes
    assert [nodes[n].params.iterations for n in ("crf", "crf-2")] == [2, 5]


# --- splits ----------------------------------------------------------------------------------------------------------

SPLITS = """
    stages:
      - stage: samples
      - {stage: prepare, inputs: {samples: samples}}
      - {id: prepare-val, stage: prepare, inputs: {samples: samples}, params: {split: val}}
      - stage: train
        inputs: {samples: samples, labels: prepare}
        params: {method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}], split: train}
      - {stage: predict, inputs: {samples: samples, model: train}}
      - {id: predict-train, stage: predict, inputs: {samples: samples, model: train}, params: {split: train}}
"""


def _splits(pipeline):
    return [node.params.split for node in pipeline.nodes.values() if node.id != "samples"]


@pytest.mark.parametrize("place", ["pipeline", "preset", "--set", "--set split.train"])
def test_another_split_to_train_on_reaches_every_stage_that_reads_it(load, place):
    pipeline = {
        "pipeline": lambda: load("    split: trainaug\n" + SPLITS),
        "preset": lambda: load(SPLITS, preset="split: trainaug"),
        "--set": lambda: load(SPLITS, "split=trainaug"),
        "--set split.train": lambda: load(SPLITS, "split.train=trainaug"),
    }[place]()
    assert _splits(pipeline) == ["trainaug", "val", "trainaug", "val", "trainaug"]


def test_splits_are_mapped_once_and_stronger_places_win(load):
    assert _splits(load(SPLITS)) == ["train", "val", "train", "val", "train"]
    both = load("    split: one\n" + SPLITS, preset="split: {train: two, val: test}")
    assert _splits(both) == ["two", "test", "two", "test", "two"]
    assert _splits(load(SPLITS, "split=three", preset="split: two")) == ["three", "val", "three", "val", "three"]
    swapped = load(SPLITS, preset="split: {train: val, val: train}")
    assert _splits(swapped) == ["val", "train", "val", "train", "val"]


def test_a_split_that_the_command_line_gives_a_stage_stays(load):
    pipeline = load(SPLITS, "train.split=train", "split=trainaug")
    assert _splits(pipeline) == ["trainaug", "val", "train", "val", "trainaug"]


@pytest.mark.parametrize("value", ["[a]", "{a: 1}", "5"])
def test_splits_that_are_no_names_are_refused(load, value):
    with pytest.raises(UsageError, match=r"stage 'train': .*split"):
        load(SPLITS.replace("split: train}\n      - {stage: predict", f"split: {value}}}\n      - {{stage: predict"))
    if value != "5":
        with pytest.raises(UsageError, match="'split' must be the name of the split to train on"):
            load(SPLITS, preset=f"split: {value}")


# --- what factors decide ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "recipes: {training: {network: {name: deeplab-v2}}, first: {epochs: 1}}",
            r"stage 'train-pce-small-0': .*given.yaml sets network.name to 'deeplab-v2', but a factor .* sets it to 'unet'",
        ),
        (
            "recipes: {training: {seed: 3}, first: {epochs: 1}}",
            "sets seed to 3, but a factor of this study sets it to 0",
        ),
        ("every: {train: {seed: 3}}", "preset .*given.yaml sets seed to 3"),
        ("every: {train: {method: {name: ncut}}}", "sets method.name to 'ncut', .* to 'pce'"),
        ("stages: {'train-*': {network: {name: pspnet}}}", "sets network.name to 'pspnet'"),
        (
            "stages: {'train-densecrf-*': {phases: {0: {terms: {densecrf: 3}}}}}",
            "sets phases.0.terms.densecrf to 3, .* to 2",
        ),
        ("stages: {'train-d*': {phases: [{epochs: 1, terms: {pce: 1}}]}}", "removes phases.0.terms.densecrf, .* to 2"),
        ("every: {train: {phases: []}}", "removes phases.0.terms"),
    ],
)
def test_a_preset_may_not_change_what_a_factor_decides(load, preset, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(STUDY, preset=preset)
    assert "under 'factors' of the preset or with --set factors.NAME={...}" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train-*.seed=3", "stage 'train-pce-small-0': --set sets seed to 3, but a factor of this study sets it to 0"),
        ("train*.network.name=pspnet", "--set sets network.name to 'pspnet'"),
        ("train*.phases=[{epochs: 1, terms: {pce: 1}}]", "train-densecrf.* --set removes phases.0.terms.densecrf"),
        ("train*.method.name=ncut", "--set sets method.name to 'ncut'"),
    ],
)
def test_the_command_line_may_not_either(load, setting, message):
    with pytest.raises(UsageError, match=message):
        load(STUDY, setting)


def test_equal_values_and_values_beside_those_of_a_factor_are_no_change(load):
    preset = "recipes: {training: {network: {name: unet, dropout: 0.5}, seed: 0}, first: {epochs: 1}}\n"
    preset += "every: {train: {phases: {0: {lr: 0.125}}}}"
    nodes = load(STUDY, "train*.phases.*.momentum=0.2", "train*.phases.0.steps=5", preset=preset).nodes
    train = nodes["train-densecrf-small-0"].params
    assert (train.network.dropout, train.phases[0].lr, train.phases[0].momentum) == (0.5, 0.125, 0.2)
    assert (train.phases[0].steps, train.phases[0].terms) == (5, {"pce": 1, "densecrf": 2})


def test_levels_of_the_preset_take_the_place_of_a_change(load):
    spec = "{name: pspnet, backbone: resnet18}"
    preset = f"recipes: {{training: {{network: {spec}}}, first: {{epochs: 1}}}}\n"
    nodes = load(STUDY, preset=preset + f"factors: {{network: {{big: {{spec: {spec}}}}}}}").nodes
    assert nodes["train-pce-big-0"].params.network.name == "pspnet"


# --- presets that are made for another pipeline ----------------------------------------------------------------------


def test_a_preset_of_levels_needs_a_level_for_every_training(load, tmp_path):
    levels = "factors: {network: {big: {spec: {name: unet}, preset: HERE/one.yaml}}}"
    one = "recipes: {training: {batch_size: 1}, first: {steps: 1}}"
    assert load(STUDY, preset=levels, one=one).nodes["train-pce-big-0"].params.batch_size == 1
    message = (
        r"mine.yaml: stage 'train': preset .*given.yaml sets trainings by levels of network, "
        r"but this stage has none of these levels; "
        rf"use one of the presets that the levels name: {tmp_path}/one.yaml"
    )
    with pytest.raises(UsageError, match=message):
        load(METHOD, preset=levels, one=one)
    extra = textwrap.indent(
        textwrap.dedent("""
        - id: train-more
          stage: train
          inputs: {samples: samples, labels: prepare}
          params: {method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}]}
    """),
        "      ",
    )
    with pytest.raises(UsageError, match=r"stage 'train-more': preset .* has none of these levels"):
        load(STUDY + extra, preset=levels, one=one)
    with pytest.raises(UsageError, match=r"stage 'train-pce-other-0': preset .* has none of these levels"):
        load(STUDY, "factors.network={other: {spec: {name: unet}}}", preset=levels, one=one)


def test_a_preset_with_recipes_or_without_presets_of_levels_needs_no_levels(load):
    one = "recipes: {training: {batch_size: 1}, first: {steps: 1}}"
    both = "factors: {network: {big: {spec: {name: unet}, preset: HERE/one.yaml}}}\n" + one
    assert _train(load(METHOD, preset=both, one=one)).batch_size == 1
    plain = "factors: {network: {big: {spec: {name: unet}}}}\nevery: {train: {batch_size: 2}}"
    assert _train(load(METHOD, preset=plain)).batch_size == 2


def test_patterns_that_match_no_stage_are_noted(load, tmp_path):
    pipeline = load(METHOD, preset="stages: {'trian*': {batch_size: 1}, 'train*': {batch_size: 2}}")
    assert pipeline.notes == (
        f"preset {tmp_path}/given.yaml: its settings for 'trian*' match no stage of the pipeline mine",
    )
    levels = "factors: {network: {big: {spec: {name: unet}, preset: HERE/one.yaml}}}"
    notes = load(STUDY, preset=levels, one="stages: {nothing: {}, 'crf-*': {iterations: 1}}").notes
    assert notes == (f"preset {tmp_path}/one.yaml: its settings for 'nothing' match no stage of the pipeline mine",)


def test_settings_of_a_method_that_no_stage_has_are_noted(load):
    assert (
        load(METHOD, "methods.densecrf.sigma_xy=1", "methods.kernelcut.sigma_xy=1").notes == ()
    )  # kernelcut: gradients
    assert load(METHOD, "methods.bpg.refine=false").notes == (
        "--set methods.bpg.refine changes nothing: no stage uses it, or stages already had this value",
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("methods.densecr.sigma_xy=1", "--set: methods: no 'densecr'; did you mean 'densecrf'"),
        ("methods.densecrf.sigma=1", "--set: methods: 'densecrf' has no parameter 'sigma'; did you mean 'sigma_"),
        ("methods.densecrf=1", "--set: methods: 'densecrf' must map parameters to values, got 1"),
        ("methods.densecrf.sigma_xy=far", "stage 'train': method.densecrf.sigma_xy: .*got 'far'"),
    ],
)
def test_refuses_settings_of_methods(load, setting, message):
    with pytest.raises(UsageError, match=message):
        load(METHOD, setting)
