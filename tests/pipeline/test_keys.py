"""The identity of an artifact: what changes a key, and what does not."""

import shutil
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from pydantic import Field

from wss.errors import UsageError
from wss.params import LATER, LOCAL, Params, canonical, validate
from wss.pipeline.run import plan_pipeline, run_node, stage_key
from wss.pipeline.spec import Node, load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Input, Stage
from wss.store import LABELS, METRICS


class Soft(Params):
    name: Literal["soft"] = "soft"
    weight: float = 1.0


class Hard(Params):
    name: Literal["hard"] = "hard"
    weight: float = 1.0


class Nested(Params):
    weight: float = 1.0


class Same(Params):
    weight: float = 1.0


class Toy(Params):
    rate: float = 0.5
    count: int = 3
    names: tuple[str, ...] = ()
    part: Nested | Same = Nested()
    weights: dict[str, float] = Field(default_factory=dict)
    choice: Soft | Hard = Field(default=Soft(), discriminator="name")
    path: str = Field(default="", json_schema_extra=LOCAL)
    seed: int = 0


def _fill(params, inputs, output, context):
    output.append("a", {"labels": np.full((2, 2), params.count, np.uint8)})


STAGE = Stage("toy", 1, Toy, {}, LABELS, _fill)


def _key(stage=STAGE, inputs=None, **values):
    node = Node("toy", stage, validate(stage.params, values, "test"), {})
    return stage_key(node, inputs or {}, Context())


def test_the_key_is_a_digest_of_the_recipe():
    assert _key() == _key()
    assert len(_key()) == 64
    assert set(_key()) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.25},
        {"count": 4},
        {"seed": 1},
        {"names": ["a"]},
        {"weights": {"a": 1}},
        {"part": {"weight": 2}},
        {"choice": {"name": "hard"}},
        {"choice": {"name": "soft", "weight": 2}},
    ],
    ids=str,
)
def test_every_parameter_counts(change):
    assert _key(**change) != _key()


@pytest.mark.parametrize(
    "same",
    [
        ({"rate": 1}, {"rate": 1.0}),
        ({"rate": "0.25"}, {"rate": 0.25}),
        ({"count": 4}, {"count": 4.0}),
        ({"weights": {"a": 1, "b": 2}}, {"weights": {"b": 2.0, "a": 1.0}}),
        ({"names": ["a", "b"]}, {"names": ("a", "b")}),
        ({"rate": 0.5}, {}),
        ({"path": "/here"}, {"path": "/there"}),
    ],
    ids=str,
)
def test_spelling_and_places_do_not_count(same):
    assert _key(**same[0]) == _key(**same[1])


def test_nested_models_with_equal_fields_are_kept_apart():
    assert canonical(Toy(part=Nested())) != canonical(Toy(part=Same()))
    assert canonical(Toy(part=Nested()), tagged=False) == canonical(Toy(part=Same()), tagged=False)


class Inner(Params):
    old: int = 1
    added: tuple[float, ...] = Field(default=(), json_schema_extra=LATER)


class Grown(Params):
    """``Before`` with fields that were added later."""

    rate: float = 0.5
    inner: Inner = Inner()
    added: str | None = Field(default=None, json_schema_extra=LATER)
    made: dict[str, int] = Field(default_factory=dict, json_schema_extra=LATER)


def test_fields_that_are_added_later_leave_keys_as_they_are_while_they_have_their_default():
    before = {"": "Grown", "rate": 0.5, "inner": {"": "Inner", "old": 1}}
    assert canonical(Grown()) == before
    assert canonical(Grown(added=None, made={}, inner={"added": []})) == before
    assert canonical(Grown(added="x")) == {**before, "added": "x"}
    assert canonical(Grown(made={"a": 1})) == {**before, "made": {"a": 1}}
    assert canonical(Grown(inner={"added": [1]}))["inner"] == {"": "Inner", "old": 1, "added": [1.0]}
    stage = replace(STAGE, params=Grown)
    assert _key(stage) == _key(stage, added=None, inner={"added": []})
    assert (
        len({_key(stage), _key(stage, added="x"), _key(stage, made={"a": 1}), _key(stage, inner={"added": [1]})}) == 4
    )


def test_provenance_names_fields_that_were_added_later():
    assert canonical(Grown(), tagged=False) == {
        "rate": 0.5,
        "inner": {"old": 1, "added": []},
        "added": None,
        "made": {},
    }


def test_stage_version_and_schema_version_count():
    keys = {
        _key(),
        _key(replace(STAGE, version=2)),
        _key(replace(STAGE, name="other")),
        _key(replace(STAGE, output=replace(LABELS, version=LABELS.version + 1))),
        _key(replace(STAGE, output=METRICS)),
    }
    assert len(keys) == 5


def test_inputs_count_by_content_and_role(tmp_path):
    def store(count):
        outcome = run_node(Node("toy", STAGE, Toy(count=count), {}), {}, Workspace(tmp_path), Context())
        return outcome.store

    one, two = store(1), store(2)
    roles = {"labels": Input(LABELS), "more": Input(LABELS, many=True, optional=True)}
    stage = replace(STAGE, inputs=roles)
    keys = [
        _key(stage, {"labels": (one,)}),
        _key(stage, {"labels": (two,)}),
        _key(stage, {"labels": (one,), "more": (two,)}),
        _key(stage, {"labels": (one,), "more": (one, two)}),
        _key(stage, {"labels": (one,), "more": (two, one)}),
    ]
    assert len(set(keys)) == len(keys)
    assert _key(stage, {"labels": (one,), "more": ()}) == keys[0]


def test_a_result_equal_in_content_is_equal_as_an_input(tmp_path):
    """A stage whose parameters change but not its result does not make later stages run again."""

    def constant(params, inputs, output, context):
        output.append("a", {"labels": np.zeros((2, 2), np.uint8)})

    stage = replace(STAGE, run=constant)
    stores = [run_node(Node("t", stage, Toy(count=c), {}), {}, Workspace(tmp_path), Context()).store for c in (1, 2)]
    assert stores[0].key != stores[1].key
    assert stores[0].digest == stores[1].digest
    later = replace(STAGE, inputs={"labels": Input(LABELS)})
    assert _key(later, {"labels": (stores[0],)}) == _key(later, {"labels": (stores[1],)})


def _cells(root):
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for n in range(3):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(root / "images" / f"{n}.png")
        Image.fromarray(np.full((8, 8), n % 2, np.uint8)).save(root / "masks" / f"{n}.png")
    (root / "classes.txt").write_text("a\nb\n")


def _samples_key(root, **options):
    dataset = {"kind": "folder", "root": str(root), **options}
    node = load_pipeline(shipped_pipelines()["pce"], everywhere={"dataset": dataset}).nodes["samples"]
    return stage_key(node, {}, Context())


def test_a_data_set_counts_by_its_files_and_not_by_its_folder(tmp_path):
    _cells(tmp_path / "a")
    key = _samples_key(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "else" / "where")
    assert _samples_key(tmp_path / "else" / "where") == key
    assert _samples_key(tmp_path / "a", ignore=[7]) != key
    (tmp_path / "a" / "notes.txt").write_text("does not count")
    assert _samples_key(tmp_path / "a") == key
    Image.fromarray(np.full((8, 8), 1, np.uint8)).save(tmp_path / "a" / "masks" / "0.png")
    assert _samples_key(tmp_path / "a") != key
    shutil.copy(tmp_path / "else" / "where" / "masks" / "0.png", tmp_path / "a" / "masks" / "0.png")
    assert _samples_key(tmp_path / "a") == key
    (tmp_path / "a" / "classes.txt").write_text("a\nc\n")
    assert _samples_key(tmp_path / "a") != key


def test_the_same_weights_under_another_name_give_the_same_key(tmp_path):
    def key(weights):
        node = load_pipeline(shipped_pipelines()["pce"], {"train": {"weights": weights}}).nodes["train"]
        return stage_key(node, {}, Context())

    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "b.pth").write_bytes(b"weights")
    (tmp_path / "c.pth").write_bytes(b"others")
    a, b, c = (key(str(tmp_path / f"{n}.pth")) for n in "abc")
    assert a == b != c
    assert key(None) not in (a, c)
    assert key("imagenet") not in (a, c, key(None))


def test_keys_of_the_shipped_pipelines_do_not_depend_on_the_workspace(tmp_path):
    dataset = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}
    pipeline = load_pipeline(shipped_pipelines()["pce"], everywhere={"dataset": dataset})
    keys = {plan_pipeline(pipeline, Workspace(tmp_path / name), Context())[0].key for name in "ab"}
    assert len(keys) == 1


def test_a_key_of_something_that_is_not_finite_is_refused():
    with pytest.raises(UsageError, match="finite"):
        validate(Toy, {"rate": float("inf")}, "test")
    with pytest.raises(UsageError, match="finite"):
        validate(Toy, {"weights": {"a": float("nan")}}, "test")
