"""``wss run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.cli.console import Terminal


@options.common("workspace", "seed", "device", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def run(
    pipeline: Annotated[
        str,
        typer.Argument(
            help="A shipped pipeline (`wss pipelines`), a YAML file, or `auto` to choose one for the data set."
        ),
    ],
    preset: options.Preset = None,
    settings: options.Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would run, and the protocol of each stage.")
    ] = False,
    budget: options.Budget = None,
    *,
    common: options.Common,
) -> None:
    """Run a whole pipeline; finished stages are skipped, interrupted ones resume.

    Example: [bold]wss run quickstart --set train-pce.batch_size=4[/bold]
    """
    from wss.cli.auto import NAME, chosen
    from wss.cli.budget import within
    from wss.pipeline.changes import merge, parse_overrides

    with common.session(preset=preset) as session:
        changes = parse_overrides(settings or [])
        if pipeline == NAME:
            pipeline, changes = chosen(session, changes, budget)
        spec = session.pipeline(pipeline, changes)
        if budget is not None and not dry_run:
            changes = merge(changes, within(session, spec, budget))
            spec = session.pipeline(pipeline, changes)
        if dry_run:
            plans, require_space = session.planned(spec)
            session.terminal.result({"stages": plans}, lambda: _show(session.terminal, spec.title, plans))
            require_space()
            return
        outcomes = session.run(spec)
        if "train" in spec.nodes:  # so that `wss predict` and `wss evaluate` use this network
            session.remember_training(pipeline, changes)
        rows = [
            {
                "id": name,
                "stage": outcome.node.stage.name,
                "skipped": outcome.skipped,
                "seconds": round(outcome.seconds, 1),
                "store": str(outcome.store.path),
                "record": outcome.store.meta.get("record"),
                "published": [str(path) for path in outcome.published],
            }
            for name, outcome in outcomes.items()
        ]

        def render() -> None:
            records = {i: (o.node.stage.name, o.store.meta.get("record")) for i, o in outcomes.items()}
            for stage, column in (("evaluate", "method"), ("label-quality", "name")):
                scores = [
                    (i, r[column], _percent(r["miou"])) for i, (name, r) in records.items() if name == stage and r
                ]
                if scores:
                    session.terminal.table("", [stage, column, "mIoU %"], scores)
            skipped = sum(o.skipped for o in outcomes.values())
            seconds = sum(o.seconds for o in outcomes.values())
            session.terminal.line(f"{len(outcomes)} stages, {skipped} done before, {seconds:.0f} s")
            for path in dict.fromkeys(p for o in outcomes.values() for p in o.published):
                session.terminal.line(f"written: {path}")

        session.terminal.result(rows, render)


def _show(terminal: Terminal, title: str, plans: list[dict[str, Any]]) -> None:
    """Print the stages with their state, then their protocol."""
    from wss.pipeline.protocol import lines

    states = {"unknown": "to do", "missing": "to do", "partial": "to resume", "done": "done"}
    terminal.table(
        title,
        ["id", "stage", "state", "key", "disk"],
        [(p["id"], p["stage"], states[p["state"]], (p["key"] or "-")[:12], _size(p)) for p in plans],
    )
    to_do = sum(p["disk_bytes"] or 0 for p in plans if p["state"] != "done")
    terminal.line(f"About {_megabytes(to_do)} of disk needed for the stages to run")
    terminal.line("Protocol")
    for line in lines({plan["id"]: plan["protocol"] for plan in plans if "protocol" in plan}):
        terminal.line(line)


def _size(plan: dict[str, Any]) -> str:
    """Disk space of a stage's store: its size, or an estimate marked by ~."""
    if plan["disk_bytes"] is None:
        return "-"
    return f"{'' if plan['state'] == 'done' else '~'}{_megabytes(plan['disk_bytes'])}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
