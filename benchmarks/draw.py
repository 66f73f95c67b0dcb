"""Time from the end of a stroke to the mask, through the real server of ``wss draw``.

    python benchmarks/draw.py --quick
    python benchmarks/draw.py --data DIR --out benchmarks/results/draw-xeon.json

For each size, pictures come from the sample's generator and, with ``--data``, from photographs (*.jpg, enlarged or reduced).
Strokes are those that wss simulates from masks; photographs get those of a generated scene. After one stroke of each of two
classes and a first answer, for which edges are computed, strokes come one by one: the change is sent and answered when it is on
disk, then the mask is asked for and read to the last byte. Both together are the time that counts. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from draw_client import DrawClient
from PIL import Image
from timing import report

from wss.datasets.sample import SampleSource
from wss.scribbles import Stroke

SIZES = {"512x512": 150.0, "1000x1500": 400.0}
"""Height x width, and the goal for the median in milliseconds."""
OTHERS = ("superpixel", "graph-cut", "densecrf")


def make_images(folder: Path, height: int, width: int, count: int, data: Path | None) -> dict[str, list[Stroke]]:
    """Write pictures of one size; return their strokes by name, two classes first."""
    source = SampleSource(seed=3, train=count, val=0, height=height, width=width)
    photographs = sorted(data.rglob("*.jpg")) if data else []
    strokes = {}
    folder.mkdir(parents=True)
    for number, name in enumerate(source.catalogue.splits["train"]):
        sample = source.read(name)
        drawn = list(sample.strokes or ())
        rng = np.random.default_rng(number)
        rng.shuffle(drawn)  # type: ignore[arg-type]
        other = next(stroke for stroke in drawn if stroke.label != drawn[0].label)
        strokes[f"scene-{number}"] = [drawn[0], other, *(s for s in drawn[1:] if s is not other)]
        Image.fromarray(sample.image).save(folder / f"scene-{number}.png")
        if photographs:
            with Image.open(photographs[number * len(photographs) // count]) as picture:
                resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            resized.save(folder / f"photo-{number}.png")
            strokes[f"photo-{number}"] = strokes[f"scene-{number}"]
    return strokes


def measure(folder: Path, strokes: dict[str, list[Stroke]], names: list[str], each: int) -> dict[str, Any]:
    """Draw the strokes; return times in milliseconds."""
    changes: list[float] = []
    masks: list[float] = []
    server: list[float] = []
    edges: list[float] = []
    others: dict[str, list[float]] = {method: [] for method in OTHERS}
    scales = set()
    with DrawClient(folder) as client:
        client.classes(names)
        for name, drawn in strokes.items():
            image = client.ids[name]
            client.draw(image, drawn[:2])
            start = time.perf_counter()
            client.propagate(image, "random-walk")
            edges.append(1000 * (time.perf_counter() - start))
            for stroke in drawn[2 : 2 + each]:
                start = time.perf_counter()
                client.draw(image, [stroke])
                middle = time.perf_counter()
                answers = client.propagate(image, "random-walk")
                end = time.perf_counter()
                if [a["kind"] for a in answers] != ["full"]:
                    raise RuntimeError(f"expected one full answer, got {[a['kind'] for a in answers]}")
                changes.append(1000 * (middle - start))
                masks.append(1000 * (end - middle))
                server.append(answers[-1]["ms"])
                scales.add(answers[-1]["scale"])
        image = client.ids[next(iter(strokes))]
        for method in OTHERS:
            for _ in range(3):
                start = time.perf_counter()
                client.propagate(image, method)
                others[method].append(1000 * (time.perf_counter() - start))
    totals = [a + b for a, b in zip(changes, masks, strict=True)]
    return {
        "strokes": len(totals),
        "scale": sorted(scales),
        "stroke_on_disk_ms": round(statistics.median(changes), 1),
        "mask_ms": round(statistics.median(masks), 1),
        "computed_ms": round(statistics.median(server), 1),
        "total_ms": round(statistics.median(totals), 1),
        "total_90_percent_ms": round(sorted(totals)[int(0.9 * (len(totals) - 1))], 1),
        "first_answer_with_edges_ms": round(statistics.median(edges), 1),
        "other_methods_ms": {method: round(statistics.median(values[1:]), 1) for method, values in others.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first size, one picture: below a minute")
    parser.add_argument("--images", type=int, default=3, help="generated pictures, and photographs, of each size")
    parser.add_argument("--strokes", type=int, default=10, help="measured strokes of each picture")
    parser.add_argument("--data", type=Path, default=os.environ.get("WSS_DATA"), help="folder with photographs (*.jpg)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    sizes = dict(list(SIZES.items())[:1]) if options.quick else SIZES
    count, data = (1, None) if options.quick else (options.images, options.data and Path(options.data))
    names = list(SampleSource().catalogue.classes)
    results = []
    for size, goal in sizes.items():
        height, width = (int(side) for side in size.split("x"))
        with tempfile.TemporaryDirectory(prefix="wss-draw-") as folder:
            strokes = make_images(Path(folder) / "images", height, width, count, data)
            found = measure(Path(folder), strokes, names, options.strokes)
        results.append({"size": size, **found, "goal_ms": goal, "met": found["total_ms"] < goal})
        print(results[-1], flush=True)
    report(
        options.out, results, "Milliseconds; medians over strokes, through HTTP; see the script for what is measured."
    )


if __name__ == "__main__":
    main()
