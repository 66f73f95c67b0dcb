"""Time, disk and memory of whole runs as data sets grow: reading, one epoch, prediction and scores on many small images.

    python benchmarks/growth.py --out benchmarks/results/growth-NAME.json    # 500, 5,000 and 20,000 images
    python benchmarks/growth.py --quick                                      # 200 and 800 images, under a minute

Images are generated: coloured ellipses on a textured ground, 64x48 PNG, with masks and scribbles. `prepare` reads all images and
makes labels, `train` is one epoch of a small U-Net, `evaluate` predicts all training images, with probabilities, and scores them.
Each command is a process of its own; memory is the most that one of its processes had.

What grows evenly costs the same for each further image: the table has the CPU time and the disk of each image between one
size and the next. CPU time, which other load on the machine hardly changes, decides. Goals: the time of a further image grows by
at most LINEAR, its disk by at most LINEAR, and memory by at most MEMORY of that of the smallest run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from files import peak
from PIL import Image

import wss.version

SIZE = (48, 64)
COUNTS = (500, 5_000, 20_000)
QUICK = (200, 800)
LINEAR = 1.3
"""Further images of the largest step may cost so many times those of the first."""
MEMORY = 1.1
"""The largest run may have so many times the memory of the smallest."""
SHORT = ("--set", "train.phases=[{epochs: 1, terms: {pce: 1}}]", "--set", "train.validate_every=0", "--set")
NETWORK = ("train.batch_size=16", "--set", "train.network.name=unet")


def write_images(root: Path, count: int) -> None:
    """A folder data set of ``count`` training images and 10 others."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    y, x = np.indices(SIZE)
    for number in range(count + 10):
        cy, cx, ry, rx = rng.integers((14, 18, 6, 8), (34, 46, 13, 17))
        mask = (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1).astype(np.uint8)
        image = np.where(mask[..., None] > 0, rng.integers(120, 255, 3), rng.integers(0, 120, 3))
        image = np.clip(image + rng.integers(-12, 13, (*SIZE, 3)), 0, 255).astype(np.uint8)
        scribble = np.full(SIZE, 255, np.uint8)
        scribble[cy - 1 : cy + 2, cx - 3 : cx + 4], scribble[1:3, 3:40] = 1, 0
        name = f"i{number:06}.png"
        for part, values in (("images", image), ("masks", mask), ("scribbles", scribble)):
            Image.fromarray(values).save(root / part / name, compress_level=1)
    (root / "classes.txt").write_text("ground\nthing\n")
    (root / "val.txt").write_text("\n".join(f"i{number:06}" for number in range(count, count + 10)))


def measure(count: int, jobs: int, again: bool) -> dict[str, Any]:
    """Seconds and memory of each command on ``count`` images, and the disk of each stage.

    Args:
        count: Training images.
        jobs: Processes of each command.
        again: Also run the last command once more, when all is done.
    """
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder, "images"), Path(folder, "work")
        write_images(root, count)
        place = ("--workspace", str(work))
        jobs_of = (*place, "--jobs", str(jobs))
        work.mkdir()
        (work / "wss.yaml").write_text(f"dataset: {{kind: folder, root: {root}}}\n")
        rows = {
            "prepare": peak(f"{count}: prepare", "wss", "prepare", *jobs_of),
            "train": peak(f"{count}: train, one epoch", "wss", "train", *SHORT, *NETWORK, *jobs_of),
            "evaluate": peak(f"{count}: predict, evaluate", "wss", "evaluate", "--split", "train", *jobs_of),
        }
        if again:
            rows["again"] = peak(f"{count}: again, all done", "wss", "evaluate", "--split", "train", *jobs_of)
        disk = {
            stage.name: sum(file.stat().st_size for file in stage.glob("*.h5"))
            for stage in sorted((work / "artifacts").iterdir())
            if stage.is_dir() and stage.name != "train"
        }
    return {"images": count, "commands": rows, "disk_bytes": {n: size for n, size in disk.items() if size}}


def further(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cost of each further image, between one number of images and the next."""
    steps = []
    for small, large in itertools.pairwise(found):
        more = large["images"] - small["images"]
        seconds = {
            name: (row["cpu_seconds"] - small["commands"][name]["cpu_seconds"]) / more
            for name, row in large["commands"].items()
        }
        disk = {name: (size - small["disk_bytes"][name]) / more for name, size in large["disk_bytes"].items()}
        steps.append(
            {
                "from": small["images"],
                "to": large["images"],
                "cpu_ms_per_image": {name: round(1000 * value, 3) for name, value in seconds.items()},
                "bytes_per_image": {name: round(value) for name, value in disk.items()},
                "memory_bytes_per_image": {
                    name: round((row["peak_mb"] - small["commands"][name]["peak_mb"]) * 2**20 / more)
                    for name, row in large["commands"].items()
                },
            }
        )
    return steps


def judged(found: list[dict[str, Any]], steps: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The goals, with what was measured and whether each is met."""
    first, last = steps[0], steps[-1]
    work = ("prepare", "train", "evaluate")
    time = max(last["cpu_ms_per_image"][n] / max(first["cpu_ms_per_image"][n], 1e-3) for n in work)
    disk = max(last["bytes_per_image"][n] / max(size, 1) for n, size in first["bytes_per_image"].items())
    memory = max(
        row["peak_mb"] / max(found[0]["commands"][n]["peak_mb"], 1) for n, row in found[-1]["commands"].items()
    )
    ratios = {"time of a further image": (time, LINEAR), "disk of a further image": (disk, LINEAR)}
    ratios["memory, largest to smallest"] = (memory, MEMORY)
    return {
        name: {"ratio": round(value, 2), "goal": goal, "met": value <= goal} for name, (value, goal) in ratios.items()
    }


def table(steps: list[dict[str, Any]], goals: dict[str, dict[str, Any]]) -> None:
    """Print what a further image costs, and the goals."""
    for step in steps:
        print(f"\neach image from {step['from']:,} to {step['to']:,}:")
        for name, value in step["cpu_ms_per_image"].items():
            print(f"  {name:12} {value:9.2f} ms  {step['memory_bytes_per_image'][name]:9,} bytes of memory")
        for name, value in step["bytes_per_image"].items():
            print(f"  {name:12} {value:9,} bytes of disk")
    print()
    for name, goal in goals.items():
        print(f"{name:28} x{goal['ratio']:.2f}, at most x{goal['goal']}: {'met' if goal['met'] else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", help="numbers of images, at least two")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]} and {QUICK[1]} images")
    parser.add_argument("--jobs", type=int, default=1, help="processes of each command")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    counts = sorted(args.images or (QUICK if args.quick else COUNTS))
    if len(counts) < 2:
        parser.error("--images: expected at least two numbers")
    found = [measure(count, args.jobs, not args.quick) for count in counts]
    steps = further(found)
    goals = judged(found, steps)
    table(steps, goals)
    record = {
        "command": " ".join(
            ["python", "benchmarks/growth.py", "--images", *map(str, counts), "--jobs", str(args.jobs)]
        ),
        "date": date.today().isoformat(),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "wss": wss.version.__version__,
        "size": list(SIZE),
        "runs": found,
        "further": steps,
        "goals": goals,
    }
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    if not all(goal["met"] for goal in goals.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
