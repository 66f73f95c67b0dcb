"""``wss pipelines``, ``wss methods`` and ``wss stages``: lists, and the parameters of each entry."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.cli.console import Terminal
    from wss.params import Params
    from wss.pipeline.spec import Pipeline

Name = Annotated[str | None, typer.Argument(help="Show this one in detail.", show_default=False)]


@options.common("as_json")
def pipelines(
    name: Name = None,
    preset: options.Preset = None,
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """List the shipped pipelines and presets, or print one pipeline with all changes applied.

    The printed pipeline has every stage with its parameters, as YAML that `wss run` accepts. Parameters with their default
    values are left out. `wss run PIPELINE --dry-run` shows the protocol for a data set.

    Example: [bold]wss pipelines study-losses --preset voc2012-resnet101[/bold]
    """
    from wss.errors import UsageError
    from wss.pipeline.changes import parse_overrides
    from wss.pipeline.presets import load_preset, shipped_presets
    from wss.pipeline.spec import find_pipeline, load_pipeline, shipped_pipelines

    terminal = common.terminal()
    if name is not None:
        used = None if preset is None else load_preset(preset)
        pipeline = load_pipeline(find_pipeline(name), parse_overrides(settings or []), preset=used)
        for note in pipeline.notes:
            terminal.say(note)
        _stages_of(terminal, pipeline)
        return
    if preset is not None or settings:
        raise UsageError(
            "--preset and --set change one pipeline: name it, for example `wss pipelines pce --preset ...`"
        )
    loaded = [load_pipeline(path) for path in shipped_pipelines().values()]
    rows = [
        {"name": p.name, "kind": "pipeline", "title": p.title, "description": p.description, "stages": list(p.nodes)}
        for p in loaded
    ]
    presets = [(name, load_preset(name).title) for name in shipped_presets()]

    def render() -> None:
        terminal.table("", ["pipeline", "what it does"], [(p.name, p.title) for p in loaded])
        terminal.table("", ["preset", "settings for"], presets)

    terminal.result([*rows, *({"name": name, "kind": "preset", "title": title} for name, title in presets)], render)


@options.common("as_json")
def methods(
    name: Name = None,
    *,
    common: options.Common,
) -> None:
    """List the training methods and their loss terms, or the parameters of one method."""
    from wss.methods import METHODS

    terminal = common.terminal()
    rows = [
        {
            "name": m.model_fields["name"].default,
            "summary": m.summary,
            "differs": m.differs,
            "terms": sorted(m.term_names),
            "needs": sorted(m.needs),
        }
        for m in METHODS
    ]
    if name is not None:
        _require_no_pipeline(name, {str(row["name"]) for row in rows})
        row, model = _named(name, {str(row["name"]): (row, m) for row, m in zip(rows, METHODS, strict=True)}, "method")
        facts = [
            f"loss terms: {', '.join(row['terms'])}",
            f"needs in addition to labels: {', '.join(row['needs']) or 'nothing'}",
            f"defaults that differ from the paper: {row['differs'] or 'none'}",
        ]
        _parameters_of(terminal, f"{name}: {row['summary']}", facts, model, "train.method.", row)
        return
    terminal.result(
        rows,
        lambda: terminal.table(
            "",
            ["method", "what it does", "loss terms", "defaults that differ from the paper"],
            [(r["name"], r["summary"], ", ".join(r["terms"]), r["differs"] or "-") for r in rows],
        ),
    )


@options.common("as_json")
def stages(
    name: Name = None,
    *,
    common: options.Common,
) -> None:
    """List the stages of which pipelines consist, or the inputs and parameters of one stage."""
    from wss.stages import STAGES

    terminal = common.terminal()
    rows: dict[str, dict[str, Any]] = {
        stage.name: {
            "name": stage.name,
            "summary": _summary(stage.run.__module__),
            "inputs": {
                role: {"store": i.schema.name, "many": i.many, "optional": i.optional}
                for role, i in stage.inputs.items()
            },
            "output": stage.output.name,
        }
        for stage in STAGES.values()
    }
    if name is not None:
        stage = _named(name, STAGES, "stage")
        facts = [f"inputs: {_roles(rows[name]['inputs']) or 'none'}", f"output: {stage.output.name}"]
        _parameters_of(terminal, f"{name}: {rows[name]['summary']}", facts, stage.params, f"{name}.", rows[name])
        return
    terminal.result(
        list(rows.values()),
        lambda: terminal.table(
            "",
            ["stage", "what it does", "inputs", "output"],
            [(r["name"], r["summary"], _roles(r["inputs"]), r["output"]) for r in rows.values()],
        ),
    )


def _stages_of(terminal: Terminal, pipeline: Pipeline) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": node.id,
            "stage": node.stage.name,
            "inputs": {role: list(ids) for role, ids in node.inputs.items() if ids},
            "params": _changed(node.params),
        }
        for node in pipeline.nodes.values()
    ]

    def render() -> None:
        import yaml

        stages = [{name: value for name, value in row.items() if value} for row in rows]
        whole = {"title": pipeline.title, "description": pipeline.description, "stages": stages}
        terminal.text(yaml.safe_dump(whole, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None))

    terminal.result(
        {"name": pipeline.name, "title": pipeline.title, "description": pipeline.description, "stages": rows}, render
    )


def _parameters_of(
    terminal: Terminal, title: str, facts: list[str], model: type[Params], prefix: str, row: dict[str, Any]
) -> None:
    from wss.pipeline.parameter_docs import parameters

    fields = [p for p in parameters(model) if p.name != "name"]

    def render() -> None:
        terminal.line(title)
        for line in facts:
            terminal.line(line)
        terminal.table(
            "",
            ["--set", "default", "meaning"],
            [(f"{prefix}{p.name}", "required" if p.required else json.dumps(p.default), p.text) for p in fields],
        )

    values = [
        {"name": p.name, "type": p.kind, "default": p.default, "required": p.required, "text": p.text} for p in fields
    ]
    terminal.result({**row, "parameters": values}, render)


def _require_no_pipeline(name: str, methods: set[str]) -> None:
    """Raise ``UsageError`` if the name is no method but a pipeline; the message names the methods of its trainings."""
    from wss.errors import UsageError
    from wss.pipeline.spec import load_pipeline, shipped_pipelines
    from wss.stages.train_params import TrainParams

    pipelines = shipped_pipelines()
    if name in methods or name not in pipelines:
        return
    nodes = load_pipeline(pipelines[name]).nodes.values()
    used = dict.fromkeys(node.params.method.name for node in nodes if isinstance(node.params, TrainParams))
    commands = " and ".join(f"`wss methods {method}`" for method in used)
    raise UsageError(
        f"{name} is a pipeline: `wss pipelines {name}` prints it, and {commands} the parameters of its trainings"
    )


def _named(name: str, known: dict[str, Any], what: str) -> Any:
    from wss.errors import UsageError
    from wss.params import nearest

    if name not in known:
        raise UsageError(f"there is no {what} {name!r}{nearest(name, known)}")
    return known[name]


def _roles(inputs: dict[str, dict[str, Any]]) -> str:
    return ", ".join(
        role + ("..." if i["many"] else "") + (" (optional)" if i["optional"] else "") for role, i in inputs.items()
    )


def _summary(module: str) -> str:
    """Summary of a stage: the first paragraph of its file, without the stage's name."""
    paragraph = (sys.modules[module].__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split()).partition(": ")[2]


def _changed(params: Params) -> dict[str, Any]:
    """Parameters that differ from their defaults, and the names by which models are chosen."""
    given = {}
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        if name == "name" or value != field.get_default(call_default_factory=True):
            given[name] = [_plain(v) for v in value] if isinstance(value, tuple) else _plain(value)
    return given


def _plain(value: Any) -> Any:
    from wss.params import Params

    return _changed(value) if isinstance(value, Params) else value
