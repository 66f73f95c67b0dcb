"""Running nodes: skip, resume, fail, wait for another process, and say beforehand what would happen."""

import contextlib
import threading
from dataclasses import replace

import numpy as np
import pytest

from wss.errors import StoreError, WssError
from wss.params import Params
from wss.pipeline.run import describe, plan_pipeline, run_node, run_pipeline
from wss.pipeline.spec import Node, Pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Input, Silent, Stage, pending
from wss.store import LABELS, Store

IDS = [f"image {n}" for n in range(5)]


class Toy(Params):
    value: int = 1
    fails_at: int = -1


class Maker:
    """A stage that labels five images and counts how often it was asked to."""

    def __init__(self):
        self.made = []

    def __call__(self, params, inputs, output, context):
        for image_id in pending(IDS, output):
            if IDS.index(image_id) == params.fails_at:
                raise WssError("no more")
            self.made.append(image_id)
            output.append(image_id, {"labels": np.full((2, 3), params.value, np.uint8)})
        output.meta["value"] = params.value


class Heard(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def _toy(run, name="toy", inputs=None):
    return Stage(name, 1, Toy, inputs or {}, LABELS, run)


def _node(run, **params):
    return Node("toy", _toy(run), Toy(**params), {})


def _pipeline(*nodes):
    return Pipeline("test", "", "", {node.id: node for node in nodes})


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path)


def _run(node, place, before=None):
    return run_node(node, {}, place, Context(), before=before)


def test_makes_once_and_finds_afterwards(place):
    make, states = Maker(), []
    first = _run(_node(make), place, lambda node, state: states.append(state))
    second = _run(_node(make), place, lambda node, state: states.append(state))
    assert make.made == IDS
    assert states == ["missing", "done"]
    assert (first.skipped, second.skipped) == (False, True)
    assert first.store.path == second.store.path == place.artifact("toy", first.store.key)
    assert sorted(p.name for p in first.store.path.parent.iterdir()) == [first.store.path.name]


def test_the_store_says_what_it_was_made_from(place):
    store = _run(_node(Maker(), value=7), place).store
    assert store.params == {"value": 7, "fails_at": -1}
    assert store.attributes["stage"] == "toy"
    assert store.attributes["schema"] == "labels"
    assert store.attributes["duration_s"] >= 0
    for name in ("wss_version", "torch_version", "device", "created", "digest", "seed"):
        assert name in store.attributes
    assert store.verify()


def test_a_failed_stage_resumes_with_the_images_that_are_left(place):
    make, states = Maker(), []
    broken = _node(make, fails_at=3)
    with pytest.raises(WssError, match="no more"):
        _run(broken, place)
    assert make.made == IDS[:3]

    def mended(params, inputs, output, context):
        make(params.model_copy(update={"fails_at": -1}), inputs, output, context)

    outcome = _run(replace(broken, stage=_toy(mended)), place, lambda node, state: states.append(state))
    assert states == ["partial"]
    assert make.made == IDS
    assert outcome.store.ids == IDS
    direct = _run(_node(Maker()), place).store
    assert outcome.store.digest == direct.digest
    assert not list(place.leftovers())


def test_an_interruption_keeps_what_is_done(place):
    make = Maker()

    def interrupted(params, inputs, output, context):
        make(params, inputs, output, context)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(_node(interrupted), place)
    _run(_node(make), place)
    assert make.made == IDS


def test_a_later_failure_keeps_earlier_results(place):
    make = Maker()
    first = Node("first", _toy(make), Toy(), {})
    second = Node("second", _toy(make, "next", {"labels": Input(LABELS)}), Toy(fails_at=0), {"labels": ("first",)})
    pipeline = _pipeline(first, second)
    with pytest.raises(WssError):
        run_pipeline(pipeline, place, Context())
    assert [p.state for p in plan_pipeline(pipeline, place, Context())] == ["done", "partial"]
    assert len(list(place.artifacts())) == 1


def test_plan_says_what_run_does(place):
    make = Maker()
    first = Node("first", _toy(make), Toy(), {})
    second = Node("second", _toy(make, "next", {"labels": Input(LABELS)}), Toy(), {"labels": ("first",)})
    pipeline = _pipeline(first, second)
    before = plan_pipeline(pipeline, place, Context())
    assert [(p.state, p.key is None) for p in before] == [("missing", False), ("unknown", True)]
    assert not make.made
    run_pipeline(pipeline.up_to("first"), place, Context())
    assert [p.state for p in plan_pipeline(pipeline, place, Context())] == ["done", "missing"]
    outcomes = run_pipeline(pipeline, place, Context())
    after = plan_pipeline(pipeline, place, Context())
    assert [p.state for p in after] == ["done", "done"]
    assert [p.key for p in after] == [o.store.key for o in outcomes.values()]
    assert before[0].key == after[0].key


def test_inputs_reach_the_stage_by_role(place):
    seen = {}

    def look(params, inputs, output, context):
        seen["one"] = inputs["one"].meta["value"]
        seen["many"] = [store.meta["value"] for store in inputs.many("many")]
        seen["none"] = inputs.maybe("none")
        output.append("x", {"labels": np.zeros((1, 1), np.uint8)})

    roles = {
        "one": Input(LABELS),
        "many": Input(LABELS, many=True),
        "none": Input(LABELS, optional=True),
    }
    nodes = [Node(name, _toy(Maker()), Toy(value=n), {}) for n, name in enumerate("abc")]
    last = Node("last", _toy(look, "look", roles), Toy(), {"one": ("a",), "many": ("c", "b"), "none": ()})
    outcomes = run_pipeline(_pipeline(*nodes, last), place, Context())
    assert seen == {"one": 0, "many": [2, 1], "none": None}
    assert set(outcomes["last"].store.inputs) == {"one", "many"}


def test_what_people_read_is_published_every_time(place):
    def publish(store, root):
        (root / "value.txt").write_text(str(store.meta["value"]))
        return [root / "value.txt"]

    def node(value):
        return Node("toy", replace(_toy(Maker()), publish=publish), Toy(value=value), {})

    for value in (1, 2, 1):
        assert _run(node(value), place).published == (place.root / "value.txt",)
        assert (place.root / "value.txt").read_text() == str(value)


def test_a_second_process_waits_for_the_first_one(place):
    """Locks belong to open files, so that threads stand for processes here."""
    begun, go_on, heard = threading.Event(), threading.Event(), Heard()
    make = Maker()

    def slow(params, inputs, output, context):
        begun.set()
        assert go_on.wait(20)
        make(params, inputs, output, context)

    outcomes = {}

    def work(name, context):
        outcomes[name] = run_node(_node(slow), {}, place, context)

    first = threading.Thread(target=work, args=("first", Context()))
    first.start()
    assert begun.wait(20)
    others = [threading.Thread(target=work, args=(n, Context(progress=heard))) for n in ("second", "third")]
    for thread in others:
        thread.start()
    while len(heard.said) < 2:
        pass
    assert all("another wss process is making toy" in line for line in heard.said)
    assert not outcomes
    go_on.set()
    for thread in (first, *others):
        thread.join(20)
    assert make.made == IDS
    assert {name: outcome.skipped for name, outcome in outcomes.items()} == {
        "first": False,
        "second": True,
        "third": True,
    }
    assert not list(place.leftovers())


def test_when_the_first_process_fails_the_second_goes_on(place):
    begun, go_on, heard = threading.Event(), threading.Event(), Heard()
    make, attempts, errors = Maker(), [], []

    def fails_once(params, inputs, output, context):
        attempts.append(len(output.ids))
        if len(attempts) == 1:
            output.append(IDS[0], {"labels": np.full((2, 3), 1, np.uint8)})
            begun.set()
            assert go_on.wait(20)
            raise WssError("first fails")
        make(params, inputs, output, context)

    def work(context):
        try:
            run_node(_node(fails_once), {}, place, context)
        except WssError as error:
            errors.append(str(error))

    first = threading.Thread(target=work, args=(Context(),))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=work, args=(Context(progress=heard),))
    second.start()
    while not heard.said:
        pass
    go_on.set()
    first.join(20)
    second.join(20)
    assert errors == ["first fails"]
    assert attempts == [0, 1]
    assert make.made == IDS[1:]
    assert len(list(place.artifacts("toy"))) == 1


def test_a_lock_file_that_vanishes_while_waiting_does_not_admit_two(place):
    begun, go_on, heard = threading.Event(), threading.Event(), Heard()
    running, most = [], []

    def slow(params, inputs, output, context):
        running.append(1)
        most.append(len(running))
        if len(most) == 1:
            begun.set()
            assert go_on.wait(20)
            running.pop()
            raise WssError("stopped")
        Maker()(params, inputs, output, context)
        running.pop()

    def work(progress):
        with contextlib.suppress(WssError):
            run_node(_node(slow), {}, place, Context(progress=progress))

    threads = [threading.Thread(target=work, args=(Silent(),))]
    threads[0].start()
    assert begun.wait(20)
    threads += [threading.Thread(target=work, args=(heard,)) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    while len(heard.said) < 3:
        pass
    for path in place.root.glob("artifacts/toy/*.lock"):
        path.unlink()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert max(most) == 1
    assert len(most) == 2  # the one that failed, and one of the three


def test_a_lock_left_by_a_dead_process_does_not_block(place):
    make = Maker()
    store = _run(_node(make), place).store
    store.path.unlink()
    store.path.with_suffix(".lock").touch()
    _run(_node(make), place)
    assert make.made == IDS * 2


def test_a_damaged_result_is_reported_and_not_used(place):
    store = _run(_node(Maker()), place).store
    store.path.write_bytes(b"broken")
    with pytest.raises(StoreError, match=store.path.name):
        _run(_node(Maker()), place)


def test_describe_names_what_differs_from_the_defaults():
    assert describe(Toy()) == ""
    assert describe(Toy(value=3)) == "value 3"


def test_a_workspace_remembers_by_command(place):
    assert place.state() == {}
    place.remember("train", {"pipeline": "pce"})
    place.remember("prepare", {"seed": 0})
    place.remember("train", {"pipeline": "dense"})
    assert place.state() == {"train": {"pipeline": "dense"}, "prepare": {"seed": 0}}
    assert place.state_path.read_text().startswith("#")


def test_a_workspace_resolves_its_data_set(place, monkeypatch):
    place.config_path.write_text("dataset: {kind: folder, root: ../cells}\n")
    assert place.dataset().root == (place.root / ".." / "cells").resolve()
    monkeypatch.setenv("CELLS", "/data/cells")
    place.config_path.write_text("dataset: {kind: folder, root: $CELLS/a, masks: truth}\n")
    assert str(place.dataset().root) == "/data/cells/a"
    assert place.dataset().options == {"masks": "truth"}


def test_only_stores_count_as_artifacts(place):
    store = _run(_node(Maker()), place).store
    (store.path.parent / "notes.h5").write_text("")
    (store.path.parent / "readme.txt").write_text("")
    assert list(place.artifacts()) == [store.path]
    assert [s.key for s in place.stores("toy")] == [store.key]
    assert isinstance(place.stores("toy")[0], Store)


def test_a_workspace_forgets_nothing_that_others_record_at_once(place):
    def work(name):
        for count in range(10):
            place.remember(name, {"count": count})
            place.remember_results(name, [f"{count}"])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    state = place.state()
    assert state.pop("results") == {name: ["9"] for name in "abcd"}
    assert state == {name: {"count": 9} for name in "abcd"}
    assert [path.name for path in place.root.iterdir()] == ["state.yaml"]
