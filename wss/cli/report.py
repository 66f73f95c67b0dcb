"""``wss report``."""

from __future__ import annotations

from typing import Annotated

import typer

from wss.cli import options


@options.common("workspace", "verbose", "quiet", "as_json")
def report(
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    pictures: Annotated[int, typer.Option(min=0, max=20, help="Images of each rank: best, median, worst.")] = 3,
    split: Annotated[str, typer.Option(help="Evaluations of this split.")] = "val",
    *,
    common: options.Common,
) -> None:
    """Write report.html about every evaluation of this workspace's data set: scores, curves, pictures, provenance.

    If there is no evaluation yet, the default method is trained and evaluated first.

    Example: [bold]wss report --title "Cells, 2026"[/bold]
    """
    from wss.errors import DataError
    from wss.pipeline.run import run_node
    from wss.pipeline.spec import Node
    from wss.stages.report import STAGE, ReportParams
    from wss.store import Store

    with common.session() as session:
        name, changes = session.trained()
        pipeline = session.pipeline(name, changes)
        samples = session.run(pipeline.up_to("samples"))["samples"].store

        def of_this_data(stage: str) -> list[Store]:
            return [s for s in session.workspace.stores(stage) if s.inputs["samples"][0]["digest"] == samples.digest]

        metrics = [m for m in of_this_data("evaluate") if m.meta["record"]["split"] == split]
        if not metrics:
            made = session.run(pipeline.up_to("evaluate"))["evaluate"].store
            shown_split = made.meta["record"]["split"]  # without held-out images, the training split
            metrics = [m for m in of_this_data("evaluate") if m.meta["record"]["split"] == shown_split]
        models = {m.key: m for m in of_this_data("train")}
        predictions = {p.key: p for stage in ("predict", "crf") for p in of_this_data(stage)}
        metrics = [m for m in metrics if m.meta["model"] in models and m.meta["predictions"] in predictions]
        metrics.sort(key=lambda m: models[m.meta["model"]].meta["labels"]["annotation"] == "mask")
        labels = {store.digest: store for store in session.workspace.stores("prepare")}
        weak = [models[m.meta["model"]] for m in metrics]
        shown = next((labels[d] for m in weak if (d := m.inputs["labels"][0]["digest"]) in labels), None)
        node = Node("report", STAGE, ReportParams(title=title or ReportParams().title, pictures=pictures), {})
        inputs = {
            "samples": (samples,),
            "labels": (shown,) if shown else (),
            "models": tuple({m.meta["model"]: models[m.meta["model"]] for m in metrics}.values()),
            "predictions": tuple(predictions[m.meta["predictions"]] for m in metrics),
            "metrics": tuple(metrics),
        }
        outcome = run_node(node, inputs, session.workspace, session.context)
        if not outcome.published:
            raise DataError(f"no report: {outcome.store.meta['left_out']}")
        path = outcome.published[0]
        session.terminal.result(
            {"report": str(path), "runs": len(metrics)},
            lambda: session.terminal.line(f"{len(metrics)} evaluations\nwritten: {path}"),
        )
