"""``recipe``: named parameters in stages, phases and other recipes, and presets that replace them."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import NOTHING, parse_overrides
from wss.pipeline.presets import load_preset
from wss.pipeline.recipes import Recipes, check_changes
from wss.pipeline.spec import load_pipeline

PIPELINE = """
    recipes:
      training: {batch_size: 4, amp: true, augment: {crop: 64, flip: 0}}
      phase: {optimiser: adamw, lr: 0.5, momentum: 0.1}
      first: {recipe: phase, epochs: 3}
      second: {recipe: phase, epochs: 2, lr: 0.25}
      whole: {recipe: first}
      empty: {}
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
      - stage: train
        inputs: {samples: samples, labels: prepare}
        params:
          recipe: training
          method: {name: densecrf}
          augment: {crop: 32}
          phases:
            - {recipe: first, terms: {pce: 1}}
            - {recipe: second, terms: {pce: 1, densecrf: 1}, momentum: 0.7}
      - id: again
        stage: train
        inputs: {samples: samples, labels: prepare}
        params: {method: {name: pce}, phases: [{recipe: whole, terms: {pce: 1}}]}
      - stage: predict
        inputs: {samples: samples, model: train}
        params: {recipe: empty}
"""
PRESET = """
    recipes:
      training: {batch_size: 9}
      sgd: {optimiser: sgd, lr: 0.125}
      first: {recipe: sgd, steps: 100}
      second: {recipe: sgd, steps: 50}
      phase: {recipe: sgd}
"""


@pytest.fixture
def load(tmp_path):
    def load(*settings, text=PIPELINE, preset=None):
        (tmp_path / "mine.yaml").write_text(textwrap.dedent(text))
        if preset is not None:
            (tmp_path / "given.yaml").write_text(textwrap.dedent(preset))
            preset = load_preset(str(tmp_path / "given.yaml"))
        return load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), preset=preset)

    return load


def _phases(pipeline, name="train"):
    return [(p.optimiser, p.lr, p.epochs, p.steps, p.momentum) for p in pipeline.nodes[name].params.phases]


def test_recipes_are_taken_over_and_what_stands_beside_them_counts_more(load):
    pipeline = load()
    train = pipeline.nodes["train"].params
    assert (train.batch_size, train.amp, train.augment.crop, train.augment.flip) == (4, True, 32, 0)
    assert _phases(pipeline) == [("adamw", 0.5, 3, None, 0.1), ("adamw", 0.25, 2, None, 0.7)]
    assert train.phases[1].terms == {"pce": 1, "densecrf": 1}
    assert _phases(pipeline, "again") == [("adamw", 0.5, 3, None, 0.1)]
    assert pipeline.nodes["again"].params.batch_size == 8


def test_a_preset_replaces_recipes_whole(load):
    pipeline = load(preset=PRESET)
    train = pipeline.nodes["train"].params
    assert (train.batch_size, train.amp, train.augment.crop, train.augment.flip) == (9, "auto", 32, 0.5)
    assert _phases(pipeline) == [("sgd", 0.125, None, 100, 0.9), ("sgd", 0.125, None, 50, 0.7)]


def test_a_recipe_that_only_names_another_one_follows_the_preset(load):
    assert _phases(load(preset=PRESET), "again") == [("sgd", 0.125, None, 100, 0.9)]
    whole = PRESET + "      whole: {epochs: 1, lr: 2}\n"
    assert _phases(load(preset=whole), "again") == [("sgd", 2, 1, None, 0.9)]


def test_a_preset_without_the_recipe_for_a_role_is_refused(load):
    lacking = "\n".join(line for line in PRESET.splitlines() if "second" not in line)
    message = (
        r"stage 'train': this stage uses the recipe 'second', and preset .*given.yaml has no such recipe.*"
        r"its recipes are first, phase, sgd, training"
    )
    with pytest.raises(UsageError, match=message):
        load(preset=lacking)


def test_a_preset_without_recipes_leaves_those_of_the_pipeline(load):
    assert _phases(load(preset="every: {crf: {iterations: 1}}")) == _phases(load())


def test_an_empty_recipe_needs_none_in_the_preset(load):
    assert load(preset=PRESET).nodes["predict"].params == load().nodes["predict"].params
    scales = PRESET + "      empty: {test_time: {scales: [0.5, 1]}}\n"
    assert load(preset=scales).nodes["predict"].params.test_time.scales == (0.5, 1)


def test_settings_change_single_values_of_recipes(load):
    pipeline = load("recipes.first.lr=0.0625", "recipes.training.augment.crop=16")
    assert [phase.lr for phase in pipeline.nodes["train"].params.phases] == [0.0625, 0.25]
    assert pipeline.nodes["again"].params.phases[0].lr == 0.0625
    assert pipeline.nodes["train"].params.augment.crop == 32  # the stage has a crop of its own
    assert pipeline.nodes["train"].params.augment.flip == 0
    shared = load("recipes.phase.optimiser=adam")
    assert {phase.optimiser for phase in shared.nodes["train"].params.phases} == {"adam"}


def test_steps_take_the_place_of_epochs_and_back(load):
    assert _phases(load("recipes.first.steps=7"))[0][2:4] == (None, 7)
    assert _phases(load("recipes.first.epochs=7", preset=PRESET))[0][2:4] == (7, None)
    assert _phases(load("train.phases.*.steps=5"))[1][2:4] == (None, 5)
    assert _phases(load("recipes.first.steps=7", "train.phases.0.epochs=1"))[0][2:4] == (1, None)


def test_settings_reach_the_recipes_of_the_preset(load):
    pipeline = load("recipes.first.lr=3", "recipes.sgd.momentum=0.2", preset=PRESET)
    assert _phases(pipeline) == [("sgd", 3, None, 100, 0.2), ("sgd", 0.125, None, 50, 0.7)]


def test_a_change_of_a_recipe_that_no_stage_takes_is_reported(load):
    assert load("recipes.first.lr=1").notes == ()
    spare = PIPELINE.replace("empty: {}", "empty: {}\n      spare: {lr: 1}")
    unused, idle = load("recipes.spare.lr=2", text=spare).notes
    assert "mine.yaml: no stage of the pipeline mine uses recipes.spare" in unused
    assert idle == "--set recipes.spare.lr changes nothing: no stage uses it, or stages already had this value"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recipes.frist.lr=1"], "--set: no recipe 'frist' to change; did you mean 'first'"),
        (["recipes.first=3"], r"--set: recipe 'first': expected recipes.first.parameter=value"),
        (["recipes.first.learning=1"], r"stage 'train': unknown parameter 'phases.0.learning'"),
        (["train.phases.0.recipe=second"], r"stage 'train': unknown parameter 'phases.0.recipe'"),
    ],
)
def test_refuses_changes(load, settings, message):
    with pytest.raises(UsageError, match=message):
        load(*settings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{recipe: first, terms", "{recipe: frist, terms", "stage 'train': no recipe 'frist'; did you mean 'first'"),
        ("{recipe: first, terms", "{recipe: [first], terms", r"stage 'train': no recipe \['first'\]"),
        ("{recipe: first, terms", "{recipe: , terms", "stage 'train': no recipe None"),
        ("{recipe: phase, epochs: 3}", "{recipe: first}", "stage 'train': recipe 'first' contains itself"),
        ("{recipe: phase, epochs: 3}", "{recipe: whole}", "stage 'train': recipe 'first' contains itself"),
        ("{recipe: phase, epochs: 3}", "{a: {recipe: first}}", "stage 'train': recipe 'first' contains itself"),
        ("{recipe: phase, epochs: 3}", "{a: [{recipe: whole}]}", "stage 'train': recipe 'first' contains itself"),
        ("{recipe: phase, epochs: 3}", "{recipe: phas}", "no recipe 'phas'; did you mean 'phase'"),
        ("{recipe: phase, epochs: 3}", "[1]", r"recipe 'first' must map names to values, got \[1\]"),
        ("epochs: 3", "epoch: 3", "stage 'train': unknown parameter 'phases.0.epoch'; did you mean 'epochs'"),
    ],
)
def test_refuses(load, old, new, message):
    assert old in PIPELINE
    with pytest.raises(UsageError, match=message):
        load(text=PIPELINE.replace(old, new))


def test_an_unknown_recipe_inside_a_preset_names_those_of_both(load):
    with pytest.raises(UsageError, match="no recipe 'sdg'; did you mean 'sgd'"):
        load(preset=PRESET.replace("first: {recipe: sgd", "first: {recipe: sdg"))


def test_a_circle_through_the_preset_is_refused(load):
    with pytest.raises(UsageError, match="recipe 'first' contains itself"):
        load(preset=PRESET.replace("first: {recipe: sgd, steps: 100}", "first: {recipe: whole}"))


def test_values_that_recipes_offer():
    recipes = Recipes({"a": {"x": {"y": 1}}, "b": {"recipe": "a", "z": [5]}}, {"a": {"x": {"y": 2}}, "b": {"z": [6]}})
    assert recipes.offered({"recipe": "a"}, ["x", "y"], "") == 2
    assert recipes.offered({"p": [{"recipe": "b"}]}, ["p", 0, "z", 0], "") == 6
    assert recipes.offered({"p": [{"recipe": "b"}]}, ["p", 0, "x"], "") is NOTHING
    assert recipes.offered({"x": 3}, ["x"], "") is NOTHING
    assert Recipes({"a": {"x": 1}}).offered({"recipe": "a"}, ["x"], "") is NOTHING


def test_changes_must_be_parameters():
    check_changes({"a": {"x": 1}}, {"a": {}}, "here")
    with pytest.raises(UsageError, match="here: no recipe 'b' to change; known: a"):
        check_changes({"b": {}}, {"a": {}}, "here")
