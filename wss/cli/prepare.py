"""``wss prepare``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wss.cli import options
from wss.labels import UNLABELLED


@options.common("workspace", "seed", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def prepare(
    annotation: Annotated[
        str,
        typer.Option(
            help="scribble, point (one click per object), box, mask (dense), or tag (only the classes of each image)."
        ),
    ] = "scribble",
    shrink: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fraction of each stroke's length to cut off; 1 leaves a point.")
    ] = None,
    length: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fraction of the length to keep: 1 - shrink.")
    ] = None,
    drop: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that an object loses all its scribbles.")
    ] = 0.0,
    points: Annotated[
        bool, typer.Option("--points", help="Replace each scribble by one labelled point on it.")
    ] = False,
    halo: Annotated[
        float | None,
        typer.Option(min=1, help="With point: pixels farther from all points than this many radii are background."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Fraction of the training images that keep labels, in (0, 1].")] = 1.0,
    source: Annotated[
        str,
        typer.Option(
            help="Origin of scribbles, points and boxes: auto, given (data set) or simulated (from its masks)."
        ),
    ] = "auto",
    *,
    common: options.Common,
) -> None:
    """Make training labels from the data set's scribbles (complete or reduced), points, boxes, image tags or masks.

    Points are the data set's clicks, or else one point on each of its scribbles (as with `--points`). If it has neither, one
    point is drawn inside each region of its masks; `--points` would put it on a simulated scribble instead. Boxes are the data
    set's, or drawn around the regions of its masks. They label the background outside; a pipeline for boxes finds the objects
    inside.

    `wss train` and later commands in this workspace use these labels. Random choices depend only on the seed and each image's
    id, so an image gets the same labels with any other images.

    Example: [bold]wss prepare --shrink 0.5 --drop 0.3[/bold]
    """
    from wss.errors import UsageError

    if shrink is not None and length is not None:
        raise UsageError("--shrink and --length set the same parameter (length = 1 - shrink); give only one of them")
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
    } | {"seed": common.seed or 0}
    with common.session() as session:
        pipeline = session.base("steps", {"prepare": choice})
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
            f"{100 * summary['coverage']:.1f} % of their pixels outside all boxes"
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
    """Summary of labels: number of images, number with labels, tags or boxes, and labelled fraction or mean number per image."""
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
        count = int((labels != UNLABELLED).sum())
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
