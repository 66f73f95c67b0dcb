"""Run a pipeline: skip finished stages, resume interrupted ones, run the rest."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from wss.errors import DataError, UsageError
from wss.params import canonical
from wss.pipeline.catalogues import catalogues, check_pipeline
from wss.pipeline.disk import needs, require_space
from wss.pipeline.held_out import adapted
from wss.pipeline.spec import Node, Pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context, Inputs, Stage
from wss.store import Store, StoreWriter, artifact_key, exclusive
from wss.version import __version__

State = Literal["done", "partial", "missing", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """Result of one node.

    Attributes:
        node: The node.
        store: Its finished store.
        skipped: True if the store already existed.
        seconds: Time spent in this run.
        published: Files written for people.
    """

    node: Node
    store: Store
    skipped: bool
    seconds: float
    published: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Plan:
    """State of one node before a run.

    Attributes:
        node: The node.
        state: State of its store.
        key: Key of its store; None if it depends on results that do not exist yet.
        store: Its store; None if it is not done.
    """

    node: Node
    state: State
    key: str | None
    store: Store | None = None


def run_pipeline(
    pipeline: Pipeline,
    workspace: Workspace,
    context: Context,
    *,
    before: Callable[[Node, State], None] | None = None,
    given: Mapping[str, Store] | None = None,
) -> dict[str, Outcome]:
    """Run every node whose store does not exist yet. Messages first report what will be left out.

    Args:
        pipeline: The pipeline to run.
        workspace: Folder of the artifacts.
        context: Device, jobs, progress.
        before: Called with each node and its state, just before the node is skipped, resumed or run.
        given: Stores of stages ``samples`` by id, used instead of data sets that no longer exist.

    Returns:
        Outcomes by node id.

    Raises:
        WssError: A stage's check refused its parameters before anything ran; or the stores do not fit on the disk (see
            ``require_space``); or a stage failed. Finished stages are kept, and the failed stage resumes where it stopped.
    """
    given = given or {}
    known = catalogues(pipeline, given)
    pipeline, notes = adapted(pipeline, known)
    for note in (*notes, *check_pipeline(pipeline, known)):
        context.progress.say(note)
    outcomes: dict[str, Outcome] = {}
    fits = False

    def announce(node: Node, state: State) -> None:
        nonlocal fits
        if state != "done" and not fits:  # the first stage that has something to do
            fits = True
            wanted = needs(pipeline, known, {i: o.store for i, o in outcomes.items()})
            require_space(wanted, pipeline, workspace.root, begun=workspace.begun_bytes())
        if before:
            before(node, state)

    for node in pipeline.nodes.values():
        if node.id in given:
            outcomes[node.id] = Outcome(node, given[node.id], True, 0.0)
            continue
        inputs = {role: tuple(outcomes[i].store for i in sources) for role, sources in node.inputs.items()}
        outcomes[node.id] = run_node(node, inputs, workspace, context, before=announce)
    return outcomes


def run_node(
    node: Node,
    inputs: Mapping[str, tuple[Store, ...]],
    workspace: Workspace,
    context: Context,
    *,
    before: Callable[[Node, State], None] | None = None,
) -> Outcome:
    """Run one stage on given stores, unless its result already exists."""
    started = time.monotonic()
    stage = node.stage
    key = stage_key(node, inputs, context)
    path = workspace.artifact(stage.name, key)
    with _exclusive(path, context):
        state = _state(path)
        if before:
            before(node, state)
        if state != "done":
            _make(node, inputs, path, key, context)
        store = Store(path, stage.output)
    published = tuple(stage.publish(store, workspace.root)) if stage.publish else ()
    return Outcome(node, store, state == "done", time.monotonic() - started, published)


def plan_pipeline(
    pipeline: Pipeline, workspace: Workspace, context: Context, given: Mapping[str, Store] | None = None
) -> list[Plan]:
    """Find out what ``run_pipeline`` would do. Nothing is run."""
    plans: list[Plan] = []
    stores: dict[str, Store] = dict(given or {})
    for node in pipeline.nodes.values():
        if node.id in stores:
            plans.append(Plan(node, "done", stores[node.id].key, stores[node.id]))
            continue
        if any(source not in stores for sources in node.inputs.values() for source in sources):
            plans.append(Plan(node, "unknown", None))
            continue
        key = stage_key(node, {role: tuple(stores[i] for i in s) for role, s in node.inputs.items()}, context)
        path = workspace.artifact(node.stage.name, key)
        state = _state(path)
        if state == "done":
            stores[node.id] = Store(path, node.stage.output)
        plans.append(Plan(node, state, key, stores.get(node.id)))
    return plans


def stage_key(node: Node, inputs: Mapping[str, tuple[Store, ...]], context: Context) -> str:
    """The key of a node's store."""
    stage = node.stage
    digests: dict[str, str | list[str]] = {
        role: [s.digest for s in stores] for role, stores in inputs.items() if stores
    }
    if stage.source:
        digests["source"] = stage.source(node.params, context)
    return artifact_key(
        stage.name, stage.version, stage.output.name, stage.output.oldest, canonical(node.params), digests
    )


def _state(path: Path) -> State:
    if path.exists():
        return "done"
    partial = path.with_suffix(".partial"), path.with_suffix(".checkpoint.partial")
    return "partial" if any(file.exists() for file in partial) else "missing"


def _make(node: Node, inputs: Mapping[str, tuple[Store, ...]], path: Path, key: str, context: Context) -> None:
    started = time.monotonic()
    attributes = _provenance(node.stage, canonical(node.params, tagged=False), inputs, key, context)
    writer = StoreWriter(path, node.stage.output, attributes)
    try:
        _run(node, Inputs(inputs), writer, context)
        writer.finish({"duration_s": time.monotonic() - started})
    finally:
        writer.close()


def _run(node: Node, inputs: Inputs, writer: StoreWriter, context: Context) -> None:
    """Run a stage. If a stage that only reports fails, the reason is stored in its result and the pipeline continues."""
    try:
        node.stage.run(node.params, inputs, writer, context)
    except (UsageError, DataError) as error:
        if not node.stage.reports:
            raise
        reason = str(error).removeprefix(f"{node.stage.name}: ")
        context.progress.say(f"{node.id}: left out: {reason}")
        writer.meta = {"left_out": reason}


def _provenance(
    stage: Stage, params: dict[str, Any], inputs: Mapping[str, tuple[Store, ...]], key: str, context: Context
) -> dict[str, str | int | float]:
    sources = {
        role: [{"stage": str(s.attributes["stage"]), "key": s.key, "digest": s.digest} for s in stores]
        for role, stores in inputs.items()
        if stores
    }
    device = context.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "stage": stage.name,
        "stage_version": stage.version,
        "key": key,
        "params": json.dumps(params),
        "inputs": json.dumps(sources),
        "seed": int(params.get("seed", 0)),
        "wss_version": __version__,
        "torch_version": str(torch.__version__),
        "device": f"{device.type} ({name})",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _exclusive(path: Path, context: Context) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of one artifact. A second process waits and then finds the result."""
    if path.exists():
        return contextlib.nullcontext()
    what = f"{path.parent.name} {path.stem[:12]}"
    return exclusive(
        path.with_suffix(".lock"),
        lambda: context.progress.say(f"another wss process is making {what}; waiting for it"),
    )


def describe(value: Any) -> str:
    """Parameters that differ from their defaults, for one line of progress."""
    fields = type(value).model_fields
    changed = {n: getattr(value, n) for n in fields if getattr(value, n) != fields[n].default}
    simple = {n: v for n, v in changed.items() if isinstance(v, str | int | float | bool)}
    return ", ".join(f"{name} {v}" for name, v in simple.items())
