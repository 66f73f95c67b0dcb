"""``wss bench``: scores of one part on a public benchmark, and costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import bench_superpixels, bench_walk, options
from wss.cli.edges import Alignment, Detector, Flip, Scales, Weights

if TYPE_CHECKING:
    from wss.datasets.bsds import BoundaryImage
    from wss.edges import DetectorParams
    from wss.metrics.boundaries import BoundaryCounts

app = typer.Typer(
    no_args_is_help=True, help="Score one part of the whole on a public benchmark, or measure what it costs."
)
app.command()(bench_superpixels.superpixels)
app.command()(bench_walk.walk)


@app.command()
def edges(
    root: Annotated[Path, typer.Option("--root", "-r", help="BSDS500: the folder with images/ and groundTruth/.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    detector: Detector = "embedded",
    weights: Weights = None,
    alignment: Alignment = "caffe",
    scales: Scales = None,
    flip: Flip = False,
    thresholds: Annotated[int, typer.Option(min=2, max=255, help="Thresholds; the published benchmark has 99.")] = 99,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images, evenly spread.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores as JSON to this file.")] = None,
    device: options.Device = "auto",
    jobs: options.Jobs = 0,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score an edge detector on BSDS500: F at the best threshold of the set (ODS) and of each image (OIS), and AP.

    Maps are thinned by non-maximum suppression. Pixels are matched one to one with each annotator's within 0.75 % of the
    image's diagonal.

    Example: [bold]wss bench edges --root BSDS500 --split test --out scores.json[/bold]
    """
    import json
    import os

    from wss.cli import interrupt
    from wss.cli.console import Terminal
    from wss.cli.edges import checked, settings
    from wss.cli.session import resolve_device
    from wss.datasets.bsds import list_bsds
    from wss.edges import DetectorParams, build_detector
    from wss.metrics.boundaries import boundary_scores, boundary_thresholds
    from wss.stages.parallel import each
    from wss.store.atomic import write_text

    params = checked(DetectorParams, settings(detector, weights, alignment, scales, flip) | {"nms": True})
    items = list_bsds(root, split)
    count = min(limit or len(items), len(items))
    items = [items[number * len(items) // count] for number in range(count)]
    place = resolve_device(device)
    build_detector(params, place)  # faulty weights are told here and not from some other process
    with interrupt.work(), Terminal(quiet, verbose, as_json) as terminal:
        advance = terminal.task(f"edges ({detector})", count)
        workers = 1 if place.type == "cuda" else min(count, jobs or len(os.sched_getaffinity(0)))
        counts, seconds = [], []
        levels = boundary_thresholds(thresholds)
        for item, (one, spent) in zip(
            items, each(_score, ((params, item, thresholds, str(place)) for item in items), workers), strict=True
        ):
            counts.append(one)
            seconds.append(spent)
            advance(1, item.image_id)
        scores = boundary_scores(counts, levels)
        result = {
            "detector": detector,
            "weights": params.file and {"file": params.file.name, "sha256": params.digest()},
            "alignment": params.alignment if detector == "hed" else None,
            "scales": list(params.scales),
            "flip": flip,
            "split": split,
            "images": count,
            "thresholds": thresholds,
            "ods": scores.ods,
            "ods_threshold": scores.ods_threshold,
            "ods_precision": scores.ods_precision,
            "ods_recall": scores.ods_recall,
            "ois": scores.ois,
            "ap": scores.ap,
            "seconds_per_image": sorted(seconds)[count // 2],
            "precision": list(scores.precision),
            "recall": list(scores.recall),
        }
        if out:
            write_text(out, json.dumps(result, indent=1) + "\n")
        terminal.result(result, lambda: _render(terminal, result))


def _score(params: DetectorParams, item: BoundaryImage, thresholds: int, device: str) -> tuple[BoundaryCounts, float]:
    """Counts of one image, and the processor time that detection took."""
    import time

    from wss.metrics.boundaries import boundary_counts, boundary_thresholds
    from wss.stages.edges import loaded_detector

    image, boundaries, _ = item.read()
    detect = loaded_detector(params, device)
    started = time.process_time()
    found = detect(image)
    spent = time.process_time() - started
    return boundary_counts(found, boundaries, boundary_thresholds(thresholds)), spent


def _render(terminal: Any, result: dict[str, Any]) -> None:
    names = ("images", "ods", "ods_threshold", "ods_precision", "ods_recall", "ois", "ap", "seconds_per_image")
    titles = ("images", "ODS F", "threshold", "precision", "recall", "OIS F", "AP", "s/image")
    terminal.table(f"{result['detector']} on {result['split']}", titles, [[result[name] for name in names]])
