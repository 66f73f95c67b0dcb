"""``wss prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wss.cli import options


def prepare(
    annotation: Annotated[
        str,
        typer.Option(
            help="scribble, point (one click per object), box, mask (dense), or tag: only which classes are in an image."
        ),
    ] = "scribble",
    shrink: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of every stroke's length to cut away; 1 leaves a point.")
    ] = None,
    length: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the length to keep: 1 - shrink.")] = None,
    drop: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that an object loses all its scribbles.")
    ] = 0.0,
    points: Annotated[
        bool, typer.Option("--points", help="One labelled point on each scribble, in place of the scribble.")
    ] = False,
    halo: Annotated[
        float | None,
        typer.Option(min=1, help="With point: what is farther from all points than so many radii is background."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the training images that keep labels, in (0, 1].")] = 1.0,
    source: Annotated[
        str,
        typer.Option(help="Scribbles, points and boxes: auto, given (by the data set) or simulated (from its masks)."),
    ] = "auto",
    workspace: options.Workspace = Path(),
    seed: options.Seed = None,
    jobs: options.Jobs = 0,
    backend: options.Backend = "loky",
    address: options.Address = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Make the labels to train on from the data set's scribbles, whole or thinned out, points, boxes, image tags, or masks.

    Points are the data set's clicks, or one on each of its scribbles (which `--points` says too), or, where it has neither,
    one anywhere inside each region of its masks (where `--points` would put it on a drawn scribble). Boxes are the data set's,
    or drawn around the regions of its masks; they label the background outside of them, and a pipeline for boxes finds the
    objects inside.

    `wss train` and what follows it in this workspace use them. Everything is decided by the seed and each image's id,
    so that the same image keeps the same labels whatever else is prepared with it.

    Example: [bold]wss prepare --shrink 0.5 --drop 0.3[/bold]
    """
    from wss.cli.console import Terminal
    from wss.cli.session import DEFAULT_METHOD, Session
    from wss.cli.workers import workers
    from wss.errors import UsageError

    if shrink is not None and length is not None:
        raise UsageError("--shrink and --length say the same thing (length = 1 - shrink); give one of them")
    rate = shrink if shrink is not None else 0.0 if length is None else 1 - length
    choice: dict[str, Any] = {
        name: value
        for name, value, default in (
            ("annotation", annotation, "scribble"),
            ("shrink", round(rate, 12), 0.0),
            ("drop", drop, 0.0),
            ("points", points, False),
            ("halo", halo, None),
            ("fraction", fraction, 1.0),
            ("source", source, "auto"),
        )
        if value != default
    } | {"seed": seed or 0}
    with (
        workers(backend, address, jobs) as jobs,
        Session(workspace, Terminal(quiet, verbose, as_json), "cpu", jobs) as session,
    ):
        pipeline = session.pipeline(DEFAULT_METHOD, {"prepare": choice})
        store = session.run(pipeline.up_to("prepare"))["prepare"].store
        session.workspace.remember("prepare", choice)
        summary = label_summary(store)
        session.terminal.result(
            {"store": str(store.path), "key": store.key, **summary},
            lambda: session.terminal.line(_describe(summary) + " (simulated from masks)" * summary["simulated"]),
        )


def _describe(summary: dict[str, Any]) -> str:
    if "boxes_per_image" in summary:
        return (
            f"{summary['images']} images, {summary['with_boxes']} with boxes, {summary['boxes_per_image']:.1f} boxes each, "
            f"{100 * summary['coverage']:.1f} % of their pixels outside of all"
        )
    if "tags_per_image" in summary:
        return (
            f"{summary['images']} images, {summary['with_tags']} with tags, "
            f"{summary['tags_per_image']:.1f} classes each"
        )
    return (
        f"{summary['images']} images, {summary['with_labels']} with labels, "
        f"{100 * summary['coverage']:.2f} % of their pixels labelled"
    )


def label_summary(store: Any) -> dict[str, Any]:
    """Number of images, of those with labels, tags or boxes, and the labelled share of their pixels or how many they have."""
    if store.meta["annotation"] == "tag":
        counts = [int(store.get("tags", i).sum()) for i in store.ids if store.has("tags", i)]
        return {
            "images": len(store),
            "with_tags": len(counts),
            "tags_per_image": sum(counts) / len(counts) if counts else 0.0,
            "simulated": store.meta["simulated"],
        }
    boxed = store.meta["annotation"] == "box"
    labelled = pixels = images = boxes = 0
    for image_id in store.ids:
        labels = store.get("labels", image_id)
        count = int((labels != 255).sum())
        if store.has("boxes", image_id) if boxed else count:
            images, labelled, pixels = images + 1, labelled + count, pixels + labels.size
            boxes += len(store.get("boxes", image_id)) if boxed else 0
    coverage = labelled / pixels if pixels else 0.0
    if boxed:
        return {
            "images": len(store),
            "with_boxes": images,
            "boxes_per_image": boxes / images if images else 0.0,
            "coverage": coverage,
            "simulated": store.meta["simulated"],
        }
    return {
        "images": len(store),
        "with_labels": images,
        "coverage": coverage,
        "simulated": store.meta["simulated"],
    }
