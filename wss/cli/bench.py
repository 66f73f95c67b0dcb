"""``wss bench``: scores of single parts on public benchmarks, and measurements of cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from wss.cli import bench_superpixels, bench_walk, options
from wss.cli.edges import Alignment, Detector, Flip, Scales, Weights

if TYPE_CHECKING:
    from wss.datasets.bsds import BoundaryImage
    from wss.edges import DetectorParams
    from wss.metrics.boundaries import BoundaryCounts

Item = TypeVar("Item")

app = typer.Typer(no_args_is_help=True, help="Score a single part on a public benchmark, or measure its cost.")
app.command()(bench_superpixels.superpixels)
app.command()(bench_walk.walk)


@app.command()
@options.common("device", "jobs", "verbose", "quiet", "as_json")
def edges(
    root: Annotated[Path, typer.Option("--root", "-r", help="BSDS500: the folder with images/ and groundTruth/.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    maps: Annotated[
        Path | None,
        typer.Option(help="Score the maps of this folder instead: NAME.png, or NAME.mat with ucm2 of double size."),
    ] = None,
    nms: Annotated[
        bool, typer.Option("--nms", help="Thin --maps to ridges first; a detector's maps are always thinned.")
    ] = False,
    detector: Detector = "embedded",
    weights: Weights = None,
    alignment: Alignment = "caffe",
    scales: Scales = None,
    flip: Flip = False,
    thresholds: Annotated[
        int, typer.Option(min=2, max=255, help="Number of thresholds; the published benchmark has 99.")
    ] = 99,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of images, evenly spread.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores as JSON to this file.")] = None,
    *,
    common: options.Common,
) -> None:
    """Score an edge detector on BSDS500: F at the best threshold of the set (ODS) and of each image (OIS), and AP.

    This is the published benchmark. A detector's maps are thinned to ridges (non-maximum suppression). At each threshold, the
    remaining pixels are thinned to lines and matched one to one with each annotator's, within 0.75 % of the image diagonal.

    Example: [bold]wss bench edges --root BSDS500 --split test --maps BSDS500/ucm2[/bold]
    """
    import json
    import os

    from wss.cli import interrupt
    from wss.cli.edges import checked, settings
    from wss.cli.session import resolve_device
    from wss.datasets.bsds import list_bsds, list_ground_truth
    from wss.datasets.edge_maps import find_edge_maps
    from wss.edges import DetectorParams, build_detector
    from wss.errors import UsageError
    from wss.metrics.boundaries import boundary_scores, boundary_thresholds
    from wss.stages.parallel import each
    from wss.store.atomic import write_text

    params = checked(DetectorParams, settings(detector, weights, alignment, scales, flip) | {"nms": True})
    place = resolve_device(common.device)
    score: Callable[..., tuple[BoundaryCounts, float]]
    calls: list[tuple[Any, ...]]
    if maps is None:
        if nms:
            raise UsageError("--nms is for --maps; the maps of a detector are always thinned to ridges")
        items = _spread(list_bsds(root, split), limit)
        names = [item.image_id for item in items]
        build_detector(params, place)  # faulty weights raise here, not in a worker process
        score, calls = _score, [(params, item, thresholds, str(place)) for item in items]
    else:
        if params != DetectorParams(nms=True) or alignment != "caffe":
            raise UsageError("--maps: a folder of maps is scored as it is; leave out --detector and its options")
        truths = list_ground_truth(root, split)
        names = _spread(list(truths), limit)
        files = find_edge_maps(maps, split, names)
        score, calls = _score_map, [(f, truths[n], nms, thresholds) for f, n in zip(files, names, strict=True)]
    with interrupt.work(), common.terminal() as terminal:
        advance = terminal.task(f"edges ({detector if maps is None else maps.name})", len(names))
        workers = (
            1 if maps is None and place.type == "cuda" else min(len(names), common.jobs or len(os.sched_getaffinity(0)))
        )
        counts, seconds = [], []
        levels = boundary_thresholds(thresholds)
        for name, (one, spent) in zip(names, each(score, calls, workers), strict=True):
            counts.append(one)
            seconds.append(spent)
            advance(1, name)
        scores = boundary_scores(counts, levels)
        result = {
            "detector": detector if maps is None else None,
            "maps": None if maps is None else str(maps),
            "weights": {"file": params.file.name, "sha256": params.digest()} if maps is None and params.file else None,
            "alignment": params.alignment if detector == "hed" else None,
            "scales": list(params.scales) if maps is None else None,
            "flip": flip if maps is None else None,
            "nms": nms if maps is not None else True,
            "split": split,
            "images": len(names),
            "thresholds": thresholds,
            "thinned": "at every threshold",
            "ods": scores.ods,
            "ods_threshold": scores.ods_threshold,
            "ods_precision": scores.ods_precision,
            "ods_recall": scores.ods_recall,
            "ois": scores.ois,
            "ap": scores.ap,
            "seconds_per_image": sorted(seconds)[len(names) // 2] if maps is None else None,
            "precision": list(scores.precision),
            "recall": list(scores.recall),
        }
        if out:
            write_text(out, json.dumps(result, indent=1) + "\n")
        terminal.result(result, lambda: _render(terminal, result))


def _spread(items: list[Item], limit: int | None) -> list[Item]:
    """Choose at most ``limit`` items, evenly spread."""
    count = min(limit or len(items), len(items))
    return [items[number * len(items) // count] for number in range(count)]


def _score(params: DetectorParams, item: BoundaryImage, thresholds: int, device: str) -> tuple[BoundaryCounts, float]:
    """Counts of one image, and the processor time of the detection in seconds."""
    import time

    from wss.metrics.boundaries import boundary_counts, boundary_thresholds
    from wss.stages.edges import loaded_detector

    image, boundaries, _ = item.read()
    detect = loaded_detector(params, device)
    started = time.process_time()
    edge_map = detect(image)
    spent = time.process_time() - started
    return boundary_counts(edge_map, boundaries, boundary_thresholds(thresholds)), spent


def _score_map(file: Path, truth: Path, nms: bool, thresholds: int) -> tuple[BoundaryCounts, float]:
    """Counts of one map, and 0 for the time of its detection."""
    import numpy as np

    from wss.datasets.bsds import read_ground_truth
    from wss.datasets.edge_maps import read_edge_map
    from wss.edges.suppression import suppress_non_maxima
    from wss.metrics.boundaries import boundary_counts, boundary_thresholds

    boundaries, _ = read_ground_truth(truth)
    height, width = boundaries[0].shape
    edge_map = read_edge_map(file, (height, width))
    if nms:
        edge_map = suppress_non_maxima(edge_map.astype(np.float32)).astype(np.float64)
    return boundary_counts(edge_map, boundaries, boundary_thresholds(thresholds)), 0.0


def _render(terminal: Any, result: dict[str, Any]) -> None:
    names = ("images", "ods", "ods_threshold", "ods_precision", "ods_recall", "ois", "ap", "seconds_per_image")
    titles = ("images", "ODS F", "threshold", "precision", "recall", "OIS F", "AP", "s/image")
    shown = result["detector"] or result["maps"]
    terminal.table(f"{shown} on {result['split']}", titles, [[result[name] for name in names]])
