"""``wss bench superpixels``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options
from wss.cli.edges import Alignment, Detector, Flip, Scales, Weights

if TYPE_CHECKING:
    from wss.datasets.bsds import BoundaryImage
    from wss.edges import DetectorParams
    from wss.metrics.regions import RegionAgreement
    from wss.superpixels import SuperpixelMethod

SWEEPS: dict[str, tuple[str, tuple[float, ...]]] = {
    "ucm": ("threshold", tuple(number / 100 for number in range(1, 100))),
    "felzenszwalb": ("scale", (30, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 10000)),
    "slic": ("segments", (2, 3, 4, 6, 8, 12, 16, 24, 50, 100, 200, 400)),
}
"""For each method, the parameter that controls the size of regions, and the values to try. The published benchmark has 99
thresholds for contour maps."""


@options.common("device", "jobs", "verbose", "quiet", "as_json")
def superpixels(
    root: Annotated[Path, typer.Option("--root", "-r", help="BSDS500: the folder with images/ and groundTruth/.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    method: Annotated[str, typer.Option("--method", "-m", help="ucm, felzenszwalb or slic.")] = "ucm",
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Values to try, for example 100,300,1000: thresholds (ucm), scales (felzenszwalb), numbers (slic)."
        ),
    ] = None,
    detector: Detector = "embedded",
    weights: Weights = None,
    alignment: Alignment = "caffe",
    scales: Scales = None,
    flip: Flip = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of images, evenly spread.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the scores as JSON to this file.")] = None,
    *,
    common: options.Common,
) -> None:
    """Score regions on BSDS500: segmentation covering, probabilistic Rand index (PRI), variation of information (VI, bits).

    Each score is given at the best level for the whole set (ODS) and for each image (OIS). The detector's options apply to ucm.

    Example: [bold]wss bench superpixels --root BSDS500 --method ucm --detector gradient[/bold]
    """
    import json
    import os

    from wss.cli import interrupt
    from wss.cli.edges import checked, settings
    from wss.cli.session import resolve_device
    from wss.datasets.bsds import list_bsds
    from wss.edges import DetectorParams, build_detector
    from wss.errors import UsageError
    from wss.metrics.regions import region_scores
    from wss.params import nearest
    from wss.stages.parallel import each
    from wss.store.atomic import write_text

    if method not in SWEEPS:
        raise UsageError(f"--method {method}: no such superpixels{nearest(method, SWEEPS)}")
    parameter, values = SWEEPS[method][0], SWEEPS[method][1] if sweep is None else _parsed(sweep)
    levels = _levels(method, parameter, values)
    params = checked(DetectorParams, settings(detector, weights, alignment, scales, flip))
    reads_edges = levels[0].needs_edges
    if not reads_edges and params != DetectorParams():
        raise UsageError(
            f"--detector and its options: method {method!r} does not use edges; leave them out, or choose ucm"
        )
    items = list_bsds(root, split)
    count = min(limit or len(items), len(items))
    items = [items[number * len(items) // count] for number in range(count)]
    place = resolve_device(common.device)
    if reads_edges:
        build_detector(params, place)  # faulty weights raise here, not in a worker process
    with interrupt.work(), common.terminal() as terminal:
        advance = terminal.task(f"superpixels ({method})", count)
        workers = 1 if reads_edges and place.type == "cuda" else min(count, common.jobs or len(os.sched_getaffinity(0)))
        agreements, regions, seconds = [], [], []
        calls = ((levels, values, params, item, str(place)) for item in items)
        for item, (agreement, numbers, spent) in zip(items, each(_score, calls, workers), strict=True):
            agreements.append(agreement)
            regions.append(numbers)
            seconds.append(spent)
            advance(1, item.image_id)
        scores = region_scores(agreements)
        measures = {"covering": scores.covering, "rand_index": scores.rand_index, "variation": scores.variation}
        result = {
            "method": method,
            "detector": detector if reads_edges else None,
            "weights": {"file": params.file.name, "sha256": params.digest()} if reads_edges and params.file else None,
            "scales": list(params.scales) if reads_edges else None,
            "flip": flip if reads_edges else None,
            "split": split,
            "images": count,
            **{
                name: {"ods": score.ods, f"ods_{parameter}": values[score.ods_level], "ois": score.ois}
                for name, score in measures.items()
            },
            "best_covering": scores.best_covering,
            "seconds_per_image": sorted(seconds)[count // 2],
            parameter: list(values),
            "regions": [sum(level) / count for level in zip(*regions, strict=True)],
        }
        if out:
            write_text(out, json.dumps(result, indent=1) + "\n")
        terminal.result(result, lambda: _render(terminal, result, parameter))


def _parsed(sweep: str) -> tuple[float, ...]:
    from wss.errors import UsageError

    try:
        return tuple(float(part) for part in sweep.split(","))
    except ValueError:
        raise UsageError(
            f"--sweep {sweep}: expected numbers with commas between them, for example 0.1,0.2,0.3"
        ) from None


def _levels(method: str, parameter: str, values: tuple[float, ...]) -> list[SuperpixelMethod]:
    """The method with each value of its parameter."""
    from wss.params import validate
    from wss.stages.superpixels import SuperpixelsParams

    given = ({"method": {"name": method, parameter: int(value) if value == int(value) else value}} for value in values)
    return [validate(SuperpixelsParams, each, "--sweep").method for each in given]


def _score(
    levels: list[SuperpixelMethod], values: tuple[float, ...], params: DetectorParams, item: BoundaryImage, device: str
) -> tuple[RegionAgreement, list[int], float]:
    """Agreement of one image, its number of regions per level, and the processor time of one hierarchy or segmentation."""
    import time

    from wss.edges import edge_levels, edge_strengths
    from wss.metrics.regions import contingency, region_agreement
    from wss.stages.edges import loaded_detector
    from wss.superpixels import contour_hierarchy

    image, _, truths = item.read()
    if levels[0].needs_edges:
        edges = edge_strengths(edge_levels(loaded_detector(params, device)(image)))  # as stores keep them
        started = time.process_time()
        hierarchy = contour_hierarchy(edges)
        spent = time.process_time() - started
        finest = [contingency(hierarchy.regions, truth) for truth in truths]
        tables = [[table.merged(ids) for table in finest] for ids in map(hierarchy.leaf_ids, values)]
    else:
        started = time.process_time()
        cuts = [level.segment(image) for level in levels]
        spent = (time.process_time() - started) / len(levels)
        tables = [[contingency(regions, truth) for truth in truths] for regions in cuts]
    return region_agreement(tables), [len(level[0].sizes()[0]) for level in tables], spent


def _render(terminal: Any, result: dict[str, Any], parameter: str) -> None:
    names = {"covering": "covering", "rand_index": "PRI", "variation": "VI (bits)"}
    rows = [[shown, result[n]["ods"], result[n][f"ods_{parameter}"], result[n]["ois"]] for n, shown in names.items()]
    along = f" along {result['detector']}" if result["detector"] else ""
    title = f"{result['method']}{along} on {result['images']} images of {result['split']}"
    terminal.table(title, ("measure", "ODS", parameter, "OIS"), rows)
    terminal.line(f"best covering {result['best_covering']:.3f}; {result['seconds_per_image']:.2f} s per image")
