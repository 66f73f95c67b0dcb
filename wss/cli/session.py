"""Common part of all commands that run stages: workspace, device, and pipelines with the choices of earlier commands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from wss.cli import interrupt, team
from wss.cli.console import Terminal
from wss.datasets import DatasetSpec
from wss.datasets.guard import keep_apart
from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError
from wss.params import validate
from wss.pipeline.catalogues import catalogues, check_pipeline
from wss.pipeline.changes import merge
from wss.pipeline.disk import Need, needs, require_space
from wss.pipeline.effects import unread_changes
from wss.pipeline.held_out import adapted
from wss.pipeline.presets import load_preset, shipped_presets
from wss.pipeline.protocol import protocols
from wss.pipeline.run import Outcome, Plan, describe, plan_pipeline, run_pipeline
from wss.pipeline.spec import Node, Pipeline, find_pipeline, load_pipeline, reference, shipped_pipelines
from wss.pipeline.values import NOT_STAGES
from wss.pipeline.workspace import Workspace, gone
from wss.shipped import shipped
from wss.stages.edges import EdgesParams
from wss.stages.prepare import PrepareParams
from wss.stages.samples import SamplesParams
from wss.stages.stage import Context
from wss.store import Store

DEFAULT_METHOD = "pce"
SAMPLE_PIPELINE = "quickstart"
"""The shipped pipeline that declares the embedded sample data set in a named workspace without a data set."""


class Session(AbstractContextManager["Session"]):
    """One command that runs in one workspace.

    Args:
        workspace: Workspace folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: Number of processes on the CPU; 0 = all cores.
        seed: Seed for every stage that has one; None for the pipeline's seeds.
        preset: A shipped preset or a YAML file with settings.
        terminal: Receives messages and progress.
    """

    def __init__(
        self,
        workspace: Path,
        terminal: Terminal,
        device: str = "auto",
        jobs: int = 0,
        seed: int | None = None,
        preset: str | None = None,
    ) -> None:
        self.workspace = Workspace(workspace)
        self._declares_sample = False
        self.terminal = terminal
        self.seed = seed
        self.preset = preset
        self._told: set[Path | None] = set()
        self.jobs = jobs or len(os.sched_getaffinity(0))
        self.context = Context(
            device=resolve_device(device),
            jobs=self.jobs,
            progress=terminal,
            cache=self.workspace.cache,
            logs=workspace / "logs",
        )

    def __enter__(self) -> Session:
        interrupt.begin_work()
        self.terminal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminal.__exit__(kind, error, trace)
        if kind is None:
            interrupt.check()
        interrupt.end_work()

    def dataset(self, declares_sample: bool = False) -> DatasetSpec:
        """The workspace's data set. If none is declared, a message says that the embedded sample is used.

        Args:
            declares_sample: Use the sample in a named workspace without ``wss.yaml`` too; ``run`` will declare it there.

        Raises:
            UsageError: ``wss.yaml`` is malformed, or a named workspace has none.
        """
        place = self.workspace
        if place.configured:
            return place.dataset()
        self._declares_sample = declares_sample and place.named
        dataset = DatasetSpec(kind="sample") if self._declares_sample else place.dataset()
        if place.root not in self._told:
            self._told.add(place.root)
            self.terminal.say(
                f"no wss.yaml in {place.root}: using the embedded sample data set (`wss init` names yours)"
            )
        return dataset

    def pipeline(self, name: str, *changes: Mapping[str, Mapping[str, Any]]) -> Pipeline:
        """Load a pipeline for this workspace's data set, with parameter changes by stage id.

        Later changes win. The last changes are from the command line.
        """
        dataset = self.dataset(declares_sample=name == SAMPLE_PIPELINE)
        merged: dict[str, Any] = {}
        for change in changes:
            merged = merge(merged, change)
        everywhere: dict[str, Any] = {"dataset": dataset.model_dump()}
        if self.seed is not None:
            everywhere["seed"] = self.seed
        preset = load_preset(self.preset) if self.preset is not None else None
        pipeline = load_pipeline(find_pipeline(name), merged, everywhere, preset)
        for note in (*pipeline.notes, *unread_changes(changes[-1] if changes else (), pipeline.nodes, NOT_STAGES)):
            self.terminal.say(note)
        return pipeline

    def base(self, name: str, *changes: Mapping[str, Mapping[str, Any]]) -> Pipeline:
        """Load a pipeline from ``pipelines/bases``, for a command that runs a single step."""
        return self.pipeline(str(shipped("pipelines") / "bases" / f"{name}.yaml"), *changes)

    def named(self, method: str) -> str:
        """Name of the pipeline for the value of ``--method``.

        It is the method's own name. If the method has one pipeline per kind of annotation, it is the pipeline for the kind that
        `wss prepare` chose last.
        """
        known = shipped_pipelines()
        annotation = (self.workspace.state().get("prepare") or {}).get("annotation", "scribble")
        fitting = f"{method}-{annotation}"
        return fitting if method not in known and fitting in known else method

    def prepared(self, pipeline: str) -> dict[str, dict[str, Any]]:
        """Choices of `wss prepare`, `wss superpixels` and `wss edges`, as changes to the matching stages of a pipeline.

        The choice of labels changes the stage with the same annotation, or else the stage named ``prepare``.
        """
        state = self.workspace.state()
        nodes = load_pipeline(find_pipeline(pipeline)).nodes
        annotations = {n: node.params.annotation for n, node in nodes.items() if isinstance(node.params, PrepareParams)}
        choice = state.get("prepare")
        wanted = (choice or {}).get("annotation", "scribble")
        target = next((n for n, annotation in annotations.items() if annotation == wanted), "prepare")
        changes: dict[str, dict[str, Any]] = {}
        if choice and target in annotations:
            self._using("labels", "prepare", choice)
            changes[target] = choice
        cut = state.get("superpixels")
        if cut and "superpixels" in nodes:
            self._using("superpixels", "superpixels", cut["method"])
            changes["superpixels"] = cut
            node = load_pipeline(find_pipeline(pipeline), {"superpixels": cut}).nodes["superpixels"]
            for source in node.inputs["edges"]:
                changes[source] = state.get("superpixel-edges", {})
        detected = state.get("edges")
        if detected and "edges" in nodes and "edges" not in changes:
            self.say_edges(detected)
            changes["edges"] = detected
        return changes

    def say_edges(self, choice: Mapping[str, Any]) -> None:
        """Print the choice of `wss edges` that is used."""
        params = validate(EdgesParams, choice, f"{self.workspace.state_path}, edges")
        usual = EdgesParams(detector=params.detector, weights=params.weights).model_dump(mode="json") | {
            "weights": None
        }
        self._using("edges", "edges", {n: v for n, v in choice.items() if n == "detector" or v != usual.get(n)})

    def _using(self, what: str, command: str, choice: Mapping[str, Any]) -> None:
        self.terminal.say(f"using the {what} of `wss {command}` ({', '.join(f'{n} {v}' for n, v in choice.items())})")

    def remember_superpixels(self, pipeline: Pipeline, superpixels: Store) -> None:
        """Record the superpixel settings of this pipeline for later commands."""
        self.workspace.remember("superpixels", {"method": superpixels.params["method"]})
        if "edges" in pipeline.nodes:
            self.workspace.remember("superpixel-edges", pipeline.nodes["edges"].params.model_dump(mode="json"))

    def trainings(self, pipeline: str) -> list[str]:
        """Ids of the nodes of a pipeline that train a network."""
        nodes = load_pipeline(find_pipeline(pipeline)).nodes.values()
        return [node.id for node in nodes if node.stage.name == "train"]

    def trained(self) -> tuple[str, dict[str, Any]]:
        """The last pipeline of `wss train` with its changes; the default method if nothing was trained."""
        choice = self.workspace.state().get("train")
        if choice is None:
            self.terminal.say(
                f"no network was trained here yet: training {DEFAULT_METHOD!r} first (`wss train --method` chooses another)"
            )
            return DEFAULT_METHOD, self.prepared(DEFAULT_METHOD)
        if self.seed is None:
            self.seed = choice.get("seed")
        self.preset = choice.get("preset")
        return choice["pipeline"], choice.get("changes", {})

    def remember_training(self, pipeline: str, changes: Mapping[str, Any]) -> None:
        """Record this training for later commands."""
        preset = (
            self.preset if self.preset is None or self.preset in shipped_presets() else str(Path(self.preset).resolve())
        )
        choice = {"pipeline": reference(pipeline), "changes": dict(changes), "seed": self.seed, "preset": preset}
        self.workspace.remember("train", choice)

    def discard(self, pipeline: Pipeline, node_id: str) -> None:
        """Remove the result and the checkpoint of one node, so that it runs again from the start."""
        given = self.given(pipeline)
        before = pipeline.up_to(*(i for s in pipeline.nodes[node_id].inputs.values() for i in s))
        run_pipeline(before, self.workspace, self.context, given=given)
        for plan in plan_pipeline(pipeline, self.workspace, self.context, given):
            if plan.node.id == node_id and plan.key:
                path = self.workspace.artifact(plan.node.stage.name, plan.key)
                for file in (path, path.with_suffix(".partial"), path.with_suffix(".checkpoint.partial")):
                    file.unlink(missing_ok=True)

    def guard(self, out: Path | None, names: Iterable[str] | None = None) -> None:
        """Refuse to write results among the files of the data set, see ``keep_apart``."""
        if out is not None and self.workspace.configured:
            keep_apart(self.workspace.dataset(), out, names)

    def run(self, pipeline: Pipeline) -> dict[str, Outcome]:
        """Run a pipeline, report skipped, resumed and new stages, and record the results so that `wss gc` keeps them."""
        if self._declares_sample:
            self.workspace.declare_sample()
            self._declares_sample = False
        outcomes = run_pipeline(
            pipeline, self.workspace, self.context, before=self._announce, given=self.given(pipeline)
        )
        for outcome in outcomes.values():
            if isinstance(outcome.node.params, SamplesParams):
                self.workspace.remember_samples(outcome.node.params.dataset, outcome.store.key)
        last = list(outcomes)[-1]  # `wss prepare` must not make `wss gc` forget the network that `wss train` trained
        self.workspace.remember_results(f"{pipeline.name} to {last}", [o.store.key for o in outcomes.values()])
        return outcomes

    def given(self, pipeline: Pipeline) -> dict[str, Store]:
        """Find the samples stores of data sets whose folder no longer exists, by id of the stage ``samples``.

        Raises:
            DataError: Such a data set was never read.
        """
        stores: dict[str, Store] = {}
        for node in pipeline.nodes.values():
            if isinstance(node.params, SamplesParams) and gone(node.params.dataset):
                store = self.workspace.read_before(node.params.dataset)
                if store is None:
                    raise DataError(
                        f"{node.params.dataset.root}: no such folder, and this data set was never read; name its current folder "
                        f"with `{self._init(node.params.dataset)}`"
                    )
                self._say_gone(node.params.dataset, store)
                stores[node.id] = store
        return stores

    def _say_gone(self, dataset: DatasetSpec, store: Store) -> None:
        if dataset.root not in self._told:
            self._told.add(dataset.root)
            self.terminal.say(
                f"{dataset.root}: no such folder; using the images that were read before ({store.path}). If the data set was "
                f"moved: `{self._init(dataset)}`"
            )

    def _init(self, dataset: DatasetSpec) -> str:
        """The command with which the user names the new folder of a data set. Its options are kept."""
        place = f" --workspace {shlex.quote(str(self.workspace.root))}" if self.workspace.named else ""
        return f"wss init --kind {dataset.kind} --root DIR{place}"

    def catalogues(self, pipeline: Pipeline) -> dict[str, Catalogue]:
        """The catalogues of a pipeline's data sets, by stage id."""
        return catalogues(pipeline, self.given(pipeline))

    def plan(self, pipeline: Pipeline) -> list[dict[str, Any]]:
        """The actions that ``run`` would take, as rows for a table or JSON. The checks of ``run`` are made first.

        A row has ``id``, ``stage``, ``state``, ``key``, ``params``, ``disk_bytes`` (size of its store, estimated if it is not
        done; None if unknown) and, if the stage has one, ``protocol`` (see ``protocols``).
        """
        return self.planned(pipeline)[0]

    def planned(self, pipeline: Pipeline) -> tuple[list[dict[str, Any]], Callable[[], None]]:
        """The rows of ``plan``, and a function that raises if unfinished stages do not fit on the disk (``require_space``)."""
        given = self.given(pipeline)
        known = catalogues(pipeline, given)
        pipeline, notes = adapted(pipeline, known)
        for note in (*notes, *check_pipeline(pipeline, known)):
            self.terminal.say(note)
        plans = plan_pipeline(pipeline, self.workspace, self.context, given)
        protocol_of = protocols(pipeline, known)
        wanted = needs(pipeline, known, {p.node.id: p.store for p in plans if p.store is not None})
        rows = [
            {
                "id": p.node.id,
                "stage": p.node.stage.name,
                "state": p.state,
                "key": p.key,
                "params": p.node.params.model_dump(mode="json"),
                "disk_bytes": _disk_bytes(p, wanted),
                **({"protocol": protocol_of[p.node.id]} if p.node.id in protocol_of else {}),
            }
            for p in plans
        ]
        begun = self.workspace.begun_bytes()
        return rows, lambda: require_space(wanted, pipeline, self.workspace.root, begun)

    def _announce(self, node: Node, state: str) -> None:
        what = {"done": "done already", "partial": "resuming", "missing": "running"}[state]
        label = node.id if node.id == node.stage.name else f"{node.id} ({node.stage.name})"
        details = describe(node.params)
        self.terminal.say(f"{label}: {what}" + (f"  [{details}]" if details and state != "done" else ""))
        self.terminal.detail(f"  {node.params.model_dump(mode='json')}")


def _disk_bytes(plan: Plan, wanted: Mapping[str, Need]) -> int | None:
    if plan.store is not None:
        return plan.store.path.stat().st_size
    return wanted[plan.node.id].store if plan.node.id in wanted else None


def resolve_device(name: str) -> Any:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: The name is another one, or the device does not exist.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or (kind == "cpu" and number):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or int(number or 0) >= count:
            raise UsageError(f"--device {name}: this machine has {count} usable CUDA device(s); use --device cpu")
        if team.several():
            from wss.distributed import local_world_size

            if number:
                raise UsageError(f"--device {name}: each of several processes uses its own GPU; use --device cuda")
            if local_world_size() > count:
                raise UsageError(
                    f"{local_world_size()} processes on this machine need as many GPUs, but it has {count}; start {count}, or "
                    "use --device cpu"
                )
    return torch.device(name)
