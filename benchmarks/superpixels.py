"""How long superpixels take: milliseconds per image and core, and how much faster several processes are than one.

Images, and the edge maps that `ucm` reads, lie in stores as they do in a workspace; processes are started before the clock.
Methods and numbers of processes take turns, so that whatever else the machine does meets all of them.

    python benchmarks/superpixels.py --data BSDS500 --out benchmarks/results/superpixels.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import wss.version
from wss.datasets.bsds import list_bsds
from wss.edges import DetectorParams, build_detector
from wss.stages.parallel import each
from wss.store import EDGES, SAMPLES, Store, StoreWriter
from wss.superpixels import Felzenszwalb, Slic, SuperpixelMethod, Ucm

HEIGHT, WIDTH = 321, 481
METHODS: dict[str, SuperpixelMethod] = {
    "felzenszwalb": Felzenszwalb(),
    "slic": Slic(),
    "ucm": Ucm(),
}


def textures(count: int) -> Iterator[NDArray[np.uint8]]:
    """Blurred noise at three scales, which has edges everywhere."""
    for number in range(count):
        noise = np.random.default_rng(number).random((3, HEIGHT, WIDTH, 3)).astype(np.float32)
        layers = [cv2.GaussianBlur(n, (0, 0), s) for n, s in zip(noise, (1, 4, 16), strict=True)]
        mixed = sum((layer - layer.mean()) / layer.std() for layer in layers)
        yield np.clip(128 + 30 * np.asarray(mixed), 0, 255).astype(np.uint8)


def photographs(root: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Validation images of BSDS500, evenly spread; those of upright format turned."""
    items = list_bsds(root, "val")
    for number in range(count):
        image = items[number * len(items) // count].read()[0]
        yield image if image.shape[0] < image.shape[1] else np.ascontiguousarray(np.rot90(image))


def write(images: Iterator[NDArray[np.uint8]], folder: Path) -> tuple[Store, Store]:
    """Stores of the images and of their edges by the embedded detector."""
    samples = StoreWriter(folder / "samples.h5", SAMPLES, {"key": "benchmark"})
    edges = StoreWriter(folder / "edges.h5", EDGES, {"key": "benchmark"})
    detect = build_detector(DetectorParams())
    for number, image in enumerate(images):
        samples.append(f"{number:05d}", {"image": image})
        edges.append(f"{number:05d}", {"edges": np.rint(detect(image) * 255).astype(np.uint8)})
    samples.finish({})
    edges.finish({})
    return Store(folder / "samples.h5", SAMPLES), Store(folder / "edges.h5", EDGES)


def cut(name: str, samples: Store, edges: Store, image_id: str) -> tuple[NDArray[np.int32], float]:
    """Superpixels as the stage makes them, and the CPU time of this process for them, in seconds."""
    started = time.process_time()
    method = METHODS[name]
    found = edges.get("edges", image_id).astype(np.float32) / 255 if method.needs_edges else None
    superpixels = method.segment(samples.get("image", image_id), found)
    return superpixels, time.process_time() - started


def measure(name: str, samples: Store, edges: Store, jobs: int) -> dict[str, float]:
    """Wall time and CPU time of all processes, in milliseconds per image; the mean number of superpixels."""
    wall, cpu = time.perf_counter(), time.process_time()
    spent, counts = 0.0, []
    for superpixels, seconds in each(cut, ((name, samples, edges, i) for i in samples.ids), jobs):
        spent += seconds
        counts.append(int(superpixels.max()) + 1)
    own = time.process_time() - cpu
    total = own if jobs == 1 else own + spent
    scale = 1000 / len(samples)
    return {
        "wall_ms": (time.perf_counter() - wall) * scale,
        "cpu_ms": total * scale,
        "superpixels": float(np.mean(counts)),
    }


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Median, smallest and largest of every quantity."""
    return {
        name: {
            "median": round(median(r[name] for r in rows), 2),
            "min": round(min(r[name] for r in rows), 2),
            "max": round(max(r[name] for r in rows), 2),
        }
        for name in rows[0]
    }


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="BSDS500; without it, images are generated")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes that are compared with one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    load = os.getloadavg()
    runs: dict[str, dict[int, list[dict[str, float]]]] = {name: {1: [], options.jobs: []} for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        images = photographs(options.data, options.images) if options.data else textures(options.images)
        samples, edges = write(images, Path(folder))
        for name, jobs in itertools.product(METHODS, (1, options.jobs)):
            measure(name, samples, edges, jobs)  # starts processes and imports what they need
        for repeat in range(options.repeats):
            for name, jobs in itertools.product(METHODS, (1, options.jobs)):
                runs[name][jobs].append(measure(name, samples, edges, jobs))
            print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr)
    timings = {name: {str(jobs): summary(rows) for jobs, rows in by_jobs.items()} for name, by_jobs in runs.items()}
    pairs = {
        name: [
            {"wall": a["wall_ms"] / b["wall_ms"], "cpu": a["cpu_ms"] / b["cpu_ms"]}
            for a, b in zip(by_jobs[1], by_jobs[options.jobs], strict=True)
        ]
        for name, by_jobs in runs.items()
    }
    ratios = {name: summary(rows) for name, rows in pairs.items()}
    places = {"--data": "BSDS500", "--out": "FILE"}
    arguments = [places.get(before, word) for before, word in itertools.pairwise(sys.argv)]
    result = {
        "command": " ".join(["python", "benchmarks/superpixels.py", *arguments]),
        "date": date.today().isoformat(),
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": {"before": [round(x, 1) for x in load], "after": [round(x, 1) for x in os.getloadavg()]},
        },
        "versions": {
            "wss": wss.version.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": version("scipy"),
            "scikit-image": version("scikit-image"),
            "opencv": version("opencv-python-headless"),
        },
        "settings": {
            "images": f"{options.images} {'photographs of BSDS500 val' if options.data else 'generated textures'}",
            "size": f"{HEIGHT}x{WIDTH}",
            "methods": {name: method.model_dump(mode="json") for name, method in METHODS.items()},
            "edges of ucm": "embedded detector, made beforehand",
        },
        "notes": [
            "medians over repeats with smallest and largest value; by number of processes",
            "ratios of one process to several, of pairs of runs next to each other: wall says how much sooner the result is "
            "there, cpu how much of the processors' work is no overhead (1 = none), which bounds wall on idle processors by "
            "that share of their number",
            "where load_average exceeds the number of cores, other processes took part of them, and wall is no measure of wss",
        ],
        "timings": timings,
        "ratios": ratios,
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, by_jobs in timings.items():
        for jobs, quantities in by_jobs.items():
            cpu, wall = (quantities[q]["median"] for q in ("cpu_ms", "wall_ms"))
            print(f"{name:<14} {jobs} process(es): {cpu:7.1f} ms CPU {wall:7.1f} ms wall")
        print(f"{name:<14} one process / {options.jobs}: " + str({q: r["median"] for q, r in ratios[name].items()}))


if __name__ == "__main__":
    main()
