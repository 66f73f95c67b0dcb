"""``extends``: what a pipeline takes over from another one, and what it changes."""

import textwrap

import pytest

from wss.errors import UsageError
from wss.pipeline.document import read_document, read_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline

BASE = """
    title: Base
    description: Of the base.
    split: {val: test}
    recipes:
      training: {batch_size: 4, amp: true}
      first: {epochs: 3, lr: 0.5}
    methods: {densecrf: {sigma_xy: 7, sigma_rgb: 8}}
    factors: {seed: [0], length: [1, 2]}
    stages:
      - stage: samples
      - stage: prepare
        inputs: {samples: samples}
        params: {shrink: 0.5, seed: 3}
      - stage: train
        inputs: {samples: samples, labels: prepare}
        params: {recipe: training, method: {name: densecrf}, phases: [{recipe: first, terms: {pce: 1}}]}
      - stage: predict
        inputs: {samples: samples, model: train}
      - stage: evaluate
        inputs: {samples: samples, predictions: predict}
"""


@pytest.fixture
def load(tmp_path):
    def load(text, base=BASE, **others):
        (tmp_path / "base.yaml").write_text(textwrap.dedent(base))
        for name, other in others.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(other))
        (tmp_path / "mine.yaml").write_text(textwrap.dedent(text))
        return load_pipeline(tmp_path / "mine.yaml")

    return load


def test_takes_everything_over(load, tmp_path):
    pipeline = load("extends: base")
    assert (pipeline.name, pipeline.title, pipeline.description) == ("mine", "Base", "Of the base.")
    base = load_pipeline(tmp_path / "base.yaml")
    assert {n: (node.params, node.inputs) for n, node in pipeline.nodes.items()} == {
        n: (node.params, node.inputs) for n, node in base.nodes.items()
    }


def test_own_title_and_description_count(load):
    pipeline = load("extends: base\ntitle: Mine\ndescription: Own words.")
    assert (pipeline.title, pipeline.description) == ("Mine", "Own words.")


def test_parameters_of_a_stage_are_merged_one_by_one_and_lists_replaced(load):
    text = """
        extends: base
        stages:
          - id: prepare
            params: {shrink: 1}
          - id: train
            params: {batch_size: 2, method: {sigma_rgb: 3}, phases: [{epochs: 1, terms: {densecrf: 2}}]}
    """
    nodes = load(text).nodes
    assert (nodes["prepare"].params.shrink, nodes["prepare"].params.seed) == (1, 3)
    train = nodes["train"].params
    assert (train.batch_size, train.amp, train.method.sigma_rgb, train.method.sigma_xy) == (2, True, 3, 7)
    assert [(phase.epochs, phase.terms) for phase in train.phases] == [(1, {"densecrf": 2})]
    assert list(nodes) == ["samples", "prepare", "train", "predict", "evaluate"]


def test_a_method_of_another_name_replaces_the_whole_one(load):
    base = BASE.replace("{name: densecrf}", "{name: densecrf, sigma_xy: 5}")
    nodes = load("extends: base\nstages: [{id: train, params: {method: {name: pce}}}]", base).nodes
    assert nodes["train"].params.method.name == "pce"


def test_inputs_are_merged_and_null_takes_one_away(load):
    text = """
        extends: base
        stages:
          - {id: masks, stage: prepare, after: prepare, inputs: {samples: samples}, params: {annotation: mask}}
          - {stage: edges, inputs: {samples: samples}}
          - {id: train, inputs: {labels: masks, edges: edges}}
    """
    inputs = load(text).nodes["train"].inputs
    assert {r: s for r, s in inputs.items() if s} == {
        "samples": ("samples",),
        "labels": ("masks",),
        "edges": ("edges",),
    }
    twice = load("extends: between\nstages: [{id: train, inputs: {edges: null}}]", between=text).nodes["train"].inputs
    assert twice["edges"] == ()
    with pytest.raises(UsageError, match=r"stage 'train': input 'labels' .* is missing"):
        load("extends: base\nstages: [{id: train, inputs: {labels: null}}]")


def test_new_stages_stand_behind_the_entry_before_them_or_the_one_that_after_names(load):
    text = """
        extends: base
        stages:
          - {id: a, stage: prepare, after: prepare, inputs: {samples: samples}}
          - {id: b, stage: prepare, inputs: {samples: samples}}
          - {id: predict, params: {limit: 3}}
          - {id: c, stage: crf, inputs: {samples: samples, predictions: predict}}
          - {id: d, stage: prepare, after: evaluate, inputs: {samples: samples}}
    """
    nodes = load(text).nodes
    assert list(nodes) == ["samples", "prepare", "a", "b", "train", "predict", "c", "evaluate", "d"]
    assert nodes["predict"].params.limit == 3


def test_after_may_name_a_new_stage(load):
    text = """
        extends: base
        stages:
          - {id: a, stage: prepare, after: prepare, inputs: {samples: samples}}
          - {id: b, stage: prepare, after: evaluate, inputs: {samples: samples}}
          - {id: c, stage: prepare, after: a, inputs: {samples: samples}}
    """
    assert list(load(text).nodes) == ["samples", "prepare", "a", "c", "train", "predict", "evaluate", "b"]


@pytest.mark.parametrize("without", ["evaluate", "[evaluate]"])
def test_stages_are_left_out(load, without):
    assert list(load(f"extends: base\nwithout: {without}").nodes) == ["samples", "prepare", "train", "predict"]


def test_a_stage_that_is_left_out_may_come_back_as_a_new_one(load):
    text = """
        extends: base
        without: [evaluate]
        stages: [{stage: evaluate, after: predict, inputs: {samples: samples, predictions: predict}, params: {name: x}}]
    """
    text = text.replace(", params: {name: x}", "")
    assert list(load(text).nodes)[-1] == "evaluate"


def test_a_left_out_stage_that_others_need_is_missed(load):
    with pytest.raises(UsageError, match="stage 'evaluate': input 'predictions': no stage 'predict' before it"):
        load("extends: base\nwithout: [predict]")


def test_recipes_and_methods_are_merged_and_factors_replaced(load, tmp_path):
    load("""
        extends: base
        recipes: {first: {steps: 5}, own: {lr: 1}}
        factors: {length: [3], other: [x]}
        methods: {densecrf: {sigma_xy: 1}, ncut: {sigma_xy: 2}}
        stages: [{id: train, params: {phases: [{recipe: first, terms: {pce: 1}}]}}]
    """)
    joined = read_pipeline(tmp_path / "mine.yaml")
    assert joined["recipes"] == {
        "training": {"batch_size": 4, "amp": True},
        "first": {"lr": 0.5, "steps": 5},
        "own": {"lr": 1},
    }
    assert joined["factors"] == {"seed": [0], "length": [3], "other": ["x"]}
    assert joined["methods"] == {"densecrf": {"sigma_xy": 1, "sigma_rgb": 8}, "ncut": {"sigma_xy": 2}}
    assert joined["split"] == {"val": "test"}
    assert not {"extends", "without"} & set(joined)


def test_extends_of_extends(load):
    between = """
        extends: base
        without: [evaluate]
        recipes: {first: {steps: 5}}
        stages: [{id: train, params: {batch_size: 6, channels_last: false}}]
    """
    nodes = load("extends: between\nstages: [{id: train, params: {batch_size: 7}}]", between=between).nodes
    train = nodes["train"].params
    assert (train.batch_size, train.channels_last, train.amp, train.phases[0].steps) == (7, False, True, 5)
    assert "evaluate" not in nodes


def test_extends_a_shipped_pipeline_from_any_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: pce\ntitle: Mine\nstages: [{id: train, params: {batch_size: 3}}]")
    shipped = load_pipeline(find_pipeline("pce")).nodes
    mine = load_pipeline(tmp_path / "mine.yaml").nodes
    assert mine["train"].params == shipped["train"].params.model_copy(update={"batch_size": 3})
    assert list(mine) == list(shipped)


def test_a_file_beside_it_counts_more_than_a_shipped_pipeline(load):
    assert load("extends: pce", pce=BASE).title == "Base"
    assert load("extends: base.yaml").title == "Base"


def test_placeholders_in_ids_name_the_entry(load):
    base = BASE.replace("- stage: train\n", "- id: train-${seed}\n        each: seed\n        stage: train\n")
    base = base.replace("model: train", 'model: "train-0"')
    nodes = load('extends: base\nstages: [{id: "train-${seed}", params: {seed: "${seed}", batch_size: 2}}]', base).nodes
    assert nodes["train-0"].params.batch_size == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bsae", "extends: no pipeline 'bsae'; did you mean 'base'"),
        ("extends: method", "extends: no pipeline 'method'; did you mean 'bases/method'"),
        ("extends: [base]", r"extends: no pipeline \['base'\]"),
        ("extends: mine", "mine.yaml: extends itself, through .*mine.yaml"),
        ("extends: ./mine", "mine.yaml: extends itself"),
        ("without: [train]", "'without' removes stages of an extended pipeline, but there is no 'extends'"),
        ("extends: base\nwithout: [tain]", "without: no stage 'tain'; did you mean 'train'"),
        ("extends: base\nwithout: [train, train]", "without: no stage 'train'"),
        ("extends: base\nwithout: [[train]]", r"without: no stage \['train'\]"),
        (
            "extends: base\nstages: [{id: a, stage: prepare, after: prepar}]",
            "after: no stage 'prepar'; did you mean 'prepare'",
        ),
        (
            "extends: base\nwithout: [prepare]\nstages: [{id: a, stage: edges, after: prepare}]",
            "after: no stage 'prepare'",
        ),
        ("extends: base\nstages: [{id: train, after: samples}]", "stage 'train': 'after' places a new stage"),
        (
            "extends: base\nstages: [{id: train, stage: predict}]",
            "stage 'train': the extended .* another stage .* 'train'",
        ),
        ("extends: base\nstages: [{id: train, params: [1]}]", r"stage 'train': 'params' must be names .* got \[1\]"),
        (
            "extends: base\nstages: [{id: train, params: }]",
            "stage 'train': 'params' must be names with values, got None",
        ),
        ("extends: base\nstages: [{id: train, inputs: [1]}]", r"stage 'train': 'inputs' must name .* got \[1\]"),
        ("extends: base\nstages: [{id: train, inputs: }]", "stage 'train': 'inputs' must name .* got None"),
        ("extends: base\nstages: {train: {}}", "'stages' must be a list of stages"),
        ("extends: base\nstages: [train]", "'stages' must be a list of stages"),
        ("extends: base\nstages: [{id: tain, params: {}}]", "expected an entry with 'stage'"),
        (
            "extends: base\nstages: [{stage: crf, after: train}, {stage: crf}]",
            "stage 'crf': there are two stages with this name",
        ),
        ("extends: base\nrecipes: [1]", r"'recipes' must be names with their values, got \[1\]"),
        ("extends: base\nmethods: 3", "'methods' must be names with their values, got 3"),
        ("extends: base\nmethods: {densecrf: 3}", "'densecrf' must map parameters to values, got 3"),
        ("extends: base\nmethods: {densecr: {}}", "methods: no 'densecr'; did you mean 'densecrf'"),
        ("extends: base\nmethods: {densecrf: {sigma: 1}}", "'densecrf' has no parameter 'sigma'; did you mean 'sigma_"),
        ("extends: base\nextend: x", "unknown entry 'extend'; did you mean 'extends'"),
        ("stages: [{stage: samples, after: x}]", "unknown entry 'after'"),
        ("split: [a]\nextends: base", r"'split' must be the name of the split to train on, got \['a'\]"),
    ],
)
def test_refuses(load, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(text)
    assert "mine.yaml" in str(caught.value)


def test_refuses_circles_of_several_files(load):
    with pytest.raises(UsageError, match=r"two.yaml: extends itself, through .*mine.yaml"):
        load("extends: one", one="extends: two", two="extends: mine")


@pytest.mark.parametrize("stages", ["{train: {}}", "[train]", "5"])
def test_refuses_a_base_whose_stages_are_none(load, stages):
    with pytest.raises(UsageError, match="'stages' must be a list of stages, here and in the extended pipeline"):
        load("extends: base\nstages: [{stage: samples}]", f"stages: {stages}")


def test_an_unknown_entry_of_the_base_names_the_base(load):
    with pytest.raises(UsageError, match=r"base.yaml: unknown entry 'stage'"):
        load("extends: base", "stage: []")


def test_entries_for_anchors_are_left_out(tmp_path):
    (tmp_path / "a.yaml").write_text("x-one: &one {a: 1}\nrecipes: {first: *one, second: *one}\n")
    assert read_document(tmp_path / "a.yaml") == {"recipes": {"first": {"a": 1}, "second": {"a": 1}}}


@pytest.mark.parametrize("text", ["recipes: &x {a: *x}", "recipes: {a: &x [1, {b: *x}]}", "stages: &x [*x]"])
def test_values_that_contain_themselves_are_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"a.yaml: a value contains itself"):
        read_document(tmp_path / "a.yaml")


def test_many_aliases_are_read_in_no_time(tmp_path):
    """The value of the last anchor holds 10^30 words, and is small in memory."""
    lines = ["x-0: &a0 [word]", *(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 31))]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "title: T"]))
    assert read_document(tmp_path / "a.yaml") == {"title": "T"}
