"""What has no effect, or an effect on a part of a study only, is told or refused."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import parse_overrides
from wss.pipeline.effects import unread_changes
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline, shipped_pipelines
from wss.pipeline.values import NOT_STAGES

STUDY = """
    recipes:
      training: {batch_size: 4}
      first: {epochs: 3}
      refined: {recipe: first, lr: 0.5}
    factors:
      part:
        plain: {method: {name: pce}, terms: {pce: 1}}
        half: {method: {name: bpg, refine: false}, terms: {pce: 1, boundary: 1}}
        whole: {method: {name: bpg}, terms: {pce: 1, boundary: 1}}
      length: {full: {labels: {}}, click: {labels: {points: true}}}
      seed: [0]
    stages:
      - stage: samples
      - id: prepare-${length}
        each: length
        stage: prepare
        inputs: {samples: samples}
        params: "${length.labels}"
      - {stage: edges, inputs: {samples: samples}}
      - id: train-${part}-${seed}
        each: [part, seed]
        stage: train
        inputs: {samples: samples, labels: prepare-full, edges: edges}
        params:
          recipe: training
          method: "${part.method}"
          seed: "${seed}"
          phases: [{recipe: refined, terms: "${part.terms}"}]
"""
LEVELS = """
    recipes: {training: {batch_size: 4}, first: {epochs: 3}}
    factors:
      network: {one: {spec: {name: unet}, preset: HERE/one.yaml}}
    stages:
      - stage: samples
      - {stage: prepare, inputs: {samples: samples}}
      - id: train-${network}
        each: network
        stage: train
        inputs: {samples: samples, labels: prepare}
        params:
          recipe: training
          method: {name: pce}
          network: "${network.spec}"
          phases: [{recipe: first, terms: {pce: 1}}]
"""
RECIPES = "recipes: {training: {batch_size: 1}, first: {steps: 1}}\n"


@pytest.fixture
def load(tmp_path):
    def load(text, *settings, preset=None, everywhere=None, **others):
        """The pipeline; ``preset`` and ``others`` are texts of preset files, the others by name."""
        for name, other in {"mine": text, "given": preset or "", **others}.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(other).replace("HERE", str(tmp_path)))
        given = load_preset(str(tmp_path / "given.yaml")) if preset is not None else None
        return load_pipeline(tmp_path / "mine.yaml", parse_overrides(settings), everywhere, given)

    return load


# --- rows of a study stay what their levels say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train-plain-0.phases.0.terms.boundary=1", "'train-plain-0': --set adds boundary to terms that a factor"),
        ("train-*.phases.0.terms.boundary=0", "'train-plain-0': --set adds boundary"),
        ("recipes.first.terms.boundary=1", "'train-plain-0': --set adds boundary"),
        (
            "methods.bpg.refine=false",
            "'train-whole-0': --set sets method.refine to False; other levels of this study set",
        ),
        ("methods.bpg.refine=true", "'train-half-0': --set sets method.refine to True, but a factor"),
        (
            "train-whole-0.method.refine=false",
            "'train-whole-0': --set sets method.refine to False; other levels of this study set",
        ),
        ("prepare-full.points=true", "'prepare-full': --set sets points to True; other levels of this study set"),
    ],
)
def test_a_change_may_not_turn_one_row_into_another(load, setting, message):
    with pytest.raises(UsageError, match=message):
        load(STUDY, setting)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "methods: {bpg: {refine: false}}",
            "'train-whole-0': preset .* sets method.refine to False; other levels of this study set",
        ),
        (
            "every: {prepare: {points: true}}",
            "'prepare-full': preset .* sets points to True; other levels of this study set",
        ),
        (
            "recipes: {training: {method: {refine: false}}, refined: {steps: 1}}",
            "'train-plain-0': .*method.refine|'train-whole-0': .* sets method.refine",
        ),
        (
            "recipes: {training: {}, refined: {steps: 1, terms: {boundary: 2}}}",
            "'train-plain-0': .*given.yaml adds boundary to terms",
        ),
    ],
)
def test_nor_may_a_preset(load, preset, message):
    with pytest.raises(UsageError, match=message):
        load(STUDY, preset=preset)


def test_settings_that_no_level_decides_may_change(load):
    nodes = load(STUDY, "methods.bpg.boundary=all", "prepare-full.drop=0.5", "train-whole-0.phases.0.lr=0.25").nodes
    assert nodes["train-whole-0"].params.method.boundary == "all"
    assert nodes["train-half-0"].params.method.boundary == "all"
    assert nodes["prepare-full"].params.drop == 0.5


def test_what_the_pipeline_itself_says_of_a_setting_is_no_change(load):
    text = STUDY.replace("factors:", "methods: {bpg: {refine: false}}\n    factors:", 1)
    assert load(text).nodes["train-whole-0"].params.method.refine is False
    assert load(text, "methods.bpg.boundary=all").nodes["train-whole-0"].params.method.refine is False


# --- levels ----------------------------------------------------------------------------------------------------------


def test_refuses_values_of_levels_that_no_stage_reads(load):
    with pytest.raises(
        UsageError, match=r"factor 'network': level 'one': no stage reads its value 'perset'; did you mean 'preset'"
    ):
        load(LEVELS.replace("preset: HERE/one", "perset: HERE/one"), one=RECIPES)
    with pytest.raises(
        UsageError, match="factor 'part': level 'mine': no stage reads its value 'termz'; did you mean 'terms'"
    ):
        load(STUDY, "factors.part={mine: {method: {name: pce}, terms: {pce: 1}, termz: {pce: 1}}}")


def test_values_that_are_read_through_a_product_are_read(load):
    text = STUDY.replace("      seed: [0]\n", "      seed: [0]\n      run: {product: {part: part, seed: seed}}\n")
    text = text.replace("train-${part}-${seed}", "train-${run}").replace("each: [part, seed]", "each: run")
    text = text.replace("${part.", "${run.part.").replace('"${seed}"', '"${run.factors.seed}"')
    assert "train-half-0" in load(text).nodes
    with pytest.raises(UsageError, match="factor 'part': level 'plain': no stage reads its value 'method'"):
        load(text.replace('"${run.part.method}"', "{name: bpg}"))


def test_a_seed_for_everything_is_the_level_of_the_factor_seed(load):
    nodes = load(STUDY, everywhere={"seed": 7}).nodes
    assert nodes["train-whole-7"].params.seed == 7
    assert nodes["prepare-full"].params.seed == 7
    assert "train-whole-0" not in nodes
    chosen = load(STUDY, "factors.seed=[1, 2]", everywhere={"seed": 7}).nodes
    assert [chosen[f"train-whole-{seed}"].params.seed for seed in (1, 2)] == [1, 2]


@pytest.mark.parametrize("name", [name for name in shipped_pipelines() if name.startswith("study-")])
def test_a_seed_reaches_every_training_of_a_study(name):
    nodes = load_pipeline(find_pipeline(name), everywhere={"seed": 7}).nodes.values()
    assert {node.params.seed for node in nodes if node.stage.name == "train"} == {7}


# --- presets of levels -----------------------------------------------------------------------------------------------


def test_a_split_of_the_preset_of_a_level_is_that_of_the_whole_pipeline(load):
    one = RECIPES + "split: trainaug\n"
    with pytest.raises(UsageError, match=r"preset .*one.yaml of a level uses the split 'trainaug' instead of 'train'"):
        load(LEVELS, one=one)
    nodes = load("    split: trainaug\n" + LEVELS, one=one).nodes
    assert {nodes[name].params.split for name in ("prepare", "train-one")} == {"trainaug"}
    nodes = load(LEVELS, preset="split: trainaug", one=one).nodes
    assert {nodes[name].params.split for name in ("prepare", "train-one")} == {"trainaug"}
    nodes = load(LEVELS, "split=val", one=one).nodes
    assert {nodes[name].params.split for name in ("prepare", "train-one")} == {"val"}


def test_presets_of_levels_set_every_training_or_none(load):
    more = """
      - id: train-more
        stage: train
        inputs: {samples: samples, labels: prepare}
        params: {recipe: training, method: {name: pce}, phases: [{recipe: first, terms: {pce: 1}}]}
    """
    with pytest.raises(UsageError, match="presets of levels set how networks are trained, but train-more has no such"):
        load(LEVELS + more, one=RECIPES)
    with pytest.raises(UsageError, match="but train-two has no such"):
        load(LEVELS.replace("one: {spec", "two: {spec: {name: unet}}, one: {spec"), one=RECIPES)
    assert load(LEVELS + more, one="every: {train: {amp: true}}").nodes["train-one"].params.amp
    assert load(LEVELS + more, preset=RECIPES, one=RECIPES).nodes["train-more"].params.batch_size == 1


def test_one_level_sets_how_a_stage_is_trained(load):
    size = "    factors:\n      size: {small: {}, big: {preset: HERE/two.yaml}}"
    two = (
        LEVELS.replace("    factors:", size)
        .replace("each: network", "each: [network, size]")
        .replace("train-${network}", "train-${network}-${size}")
    )
    with pytest.raises(
        UsageError, match=r"stage 'train-one-big': presets .*one.yaml and .*two.yaml of two levels both"
    ):
        load(two, one=RECIPES, two=RECIPES)
    nodes = load(two, one=RECIPES, two="every: {train: {amp: true}}").nodes
    assert [nodes[f"train-one-{size}"].params.amp for size in ("small", "big")] == ["auto", True]


# --- notes -----------------------------------------------------------------------------------------------------------

IDLE = "--set {} changes nothing: no stage uses it, or stages already had this value"


def test_changes_that_something_else_overrides_are_noted(load):
    text = STUDY.replace('seed: "${seed}"', 'seed: "${seed}"\n          batch_size: 2')
    settings = ("recipes.training.batch_size=7", "recipes.training.amp=true", "recipes.first.lr=3", "split.vall=train")
    pipeline = load(text, *settings)
    assert pipeline.nodes["train-whole-0"].params.batch_size == 2
    assert pipeline.notes == tuple(map(IDLE.format, ("recipes.training.batch_size", "recipes.first.lr", "split.vall")))
    assert load(STUDY, "split=train").notes == (IDLE.format("split"),)
    assert load(STUDY, "split=val", "methods.bpg.boundary=all").notes == ()


def test_names_in_a_persons_files_that_no_stage_uses_are_noted(load, tmp_path):
    text = STUDY.replace("factors:", "methods: {ncut: {sigma_xy: 3}}\n    factors:", 1)
    text = text.replace("first: {epochs: 3}", "first: {epochs: 3}\n      refind: {epochs: 1}").replace(
        "seed: [0]", "seed: [0]\n      sede: [1]"
    )
    pipeline = "no stage of the pipeline mine uses"
    assert load(text).notes == (
        f"{tmp_path}/mine.yaml: {pipeline} recipes.refind; did you mean 'refined'?",
        f"{tmp_path}/mine.yaml: {pipeline} methods.ncut; known: bpg, pce",
        f"{tmp_path}/mine.yaml: {pipeline} factors.sede; did you mean 'seed'?",
    )
    preset = """
        extends: HERE/base.yaml
        split: {trian: trainaug}
        recipes: {trainin: {amp: true}, refined: {steps: 9}}
        every: {crf: {iterations: 3}}
        factors: {lenght: [0]}
    """
    base = "recipes: {training: {batch_size: 1}, refined: {steps: 1}, other: {}}"
    notes = load(STUDY, preset=preset, base=base).notes
    assert notes == tuple(
        f"preset {tmp_path}/given.yaml: {pipeline} {place}"
        for place in (
            "recipes.trainin; did you mean 'training'?",
            "every.crf; known: edges, prepare, samples, train",
            "factors.lenght; did you mean 'length'?",
            "split.trian; did you mean 'train'?",
        )
    )


def test_levels_that_are_left_out_make_no_notes():
    pipeline = load_pipeline(find_pipeline("study-proposals"), parse_overrides(["factors.fine=[pce]"]))
    assert pipeline.notes == ()


def test_settings_of_a_stage_whose_result_nobody_reads_are_noted():
    settings = ["edges.detector=gradient", "superpixels.method={name: slic}"]
    note = "--set edges changes nothing: with these settings no stage reads the result of edges"
    for given, notes in ((settings, [note]), (settings[:1], [])):
        changes = parse_overrides(given)
        nodes = load_pipeline(find_pipeline("spml-scribble"), changes).nodes
        assert unread_changes(changes, nodes, NOT_STAGES) == notes


def test_a_difference_of_the_whole_pipeline_replaces_that_of_a_level_on_the_same_topic(load):
    one = RECIPES + "differs: ['weights: 1', 'rates: ours']\n"
    notes = load(LEVELS, preset="differs: ['weights: 1e-8']", one=one).notes
    assert sum("weights: " in line for line in notes) == 1
    assert any("given.yaml: weights: 1e-8" in line for line in notes)
    assert any("one.yaml: rates: ours" in line for line in notes)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "recipes: {first: {epochs: 3}}\nrecipes: {first: {epochs: 4}}\n",
        "recipes:\n  first: {epochs: 3, epochs: 4}\n",
        "recipes:\n  first: {epochs: 3}\n  first: {epochs: 4}\n",
    ],
)
def test_refuses_a_name_that_comes_twice(load, text):
    for call in (lambda: load(text), lambda: load(LEVELS, preset=text, one="title: nothing")):
        with pytest.raises(UsageError, match=r"(?s)yaml: not valid YAML: .* is named twice.*line \d"):
            call()


def test_names_of_merged_mappings_may_be_set_anew(load):
    anchors = "x-one: &one {epochs: 3, lr: 1}\nx-two: &two {<<: *one, lr: 2}\n"
    preset = anchors + "recipes: {training: {batch_size: 1}, first: {<<: *two, lr: 3}}"
    phase = load(LEVELS, preset=preset, one="title: nothing").nodes["train-one"].params.phases[0]
    assert (phase.epochs, phase.lr) == (3, 3)


@pytest.mark.parametrize("part", ["recipes", "stages", "methods", "every"])
def test_names_are_words(load, part):
    with pytest.raises(UsageError, match=rf"{part}: names must be text, got 1; put it in quotes"):
        load(LEVELS, preset=f"{part}: {{1: {{}}}}", one="title: nothing")


@pytest.mark.parametrize("value", ["true", "false"])
def test_truth_is_no_number(load, value):
    with pytest.raises(UsageError, match=f"epochs: expected a number, got {value}"):
        load(LEVELS, preset=f"recipes: {{training: {{}}, first: {{epochs: {value}}}}}", one="title: nothing")
