"""Time of commands as people type them: help, a pipeline that is done, the demonstration, the three commands of the README.

    python benchmarks/commands.py --quick
    python benchmarks/commands.py --out benchmarks/results/commands-xeon.json

Each command is a process of its own, timed by the clock. `--quick` leaves out the demonstration and the three commands; the
pipeline that is done was then trained for one step. The yardstick is `python -c "import torch"` in the same run. Nothing else
should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import wss.version

REPEATS = 5
ONE_STEP = ("--set", "train-*.phases.*.steps=1", "--set", "train-*.validate_every=0")
THREE = (("prepare", "--shrink", "0.5"), ("train", "--method", "bpg"), ("evaluate", "--crf"))
GOALS = {
    "wss --help": 0.3,
    "wss run quickstart, all done": 1.5,
    "wss run quickstart, nothing done": 90.0,
    "prepare, train --method bpg, evaluate --crf": 150.0,
}
"""Largest seconds of each command."""


def timed(folder: Path, *command: str) -> float:
    """Seconds of one command in a folder."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def wss_command(folder: Path, *command: str) -> float:
    """Seconds of one wss command in a folder."""
    return timed(folder, "-m", "wss", *command)


def miou(folder: Path) -> float:
    """Score in the folder's metrics.json."""
    return float(json.loads((folder / "metrics.json").read_text())["miou"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="below a minute")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    seconds: dict[str, float] = {}
    scores: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        seconds[name] = round(value, 3)
        goal = f"  goal {GOALS[name]:g} s" if name in GOALS else ""
        print(f"{name:48} {value:8.2f} s{goal}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        work = root / "demo"
        work.mkdir()
        note("python -c 'import torch'", statistics.median(timed(root, "-c", "import torch") for _ in range(REPEATS)))
        note("wss --help", statistics.median(wss_command(root, "--help") for _ in range(REPEATS)))
        settings = ONE_STEP if args.quick else ()
        first = wss_command(work, "run", "quickstart", *settings)
        if not args.quick:
            note("wss run quickstart, nothing done", first)
        repeats = [wss_command(work, "run", "quickstart", *settings) for _ in range(REPEATS)]
        note("wss run quickstart, all done", statistics.median(repeats))
        if not args.quick:
            for method in ("bpg", "pce"):
                place = root / method
                place.mkdir()
                total = 0.0
                for command in THREE:
                    own = [method if word == "bpg" else word for word in command]
                    each = wss_command(place, *own)
                    note(f"{method}: wss {' '.join(own)}", each)
                    total += each
                scores[method] = round(miou(place), 4)
                print(f"{method}: mIoU {scores[method]:.3f} with CRF", flush=True)
                if method == "bpg":
                    note("prepare, train --method bpg, evaluate --crf", total)
    record: dict[str, Any] = {
        "command": f"python benchmarks/commands.py{' --quick' if args.quick else ''}",
        "date": date.today().isoformat(),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "wss": wss.version.__version__,
        "seconds": seconds,
        "miou_crf": scores,
        "goals": {
            name: {"goal": goal, "ratio": seconds[name], "met": seconds[name] <= goal}
            for name, goal in GOALS.items()
            if name in seconds
        },
    }
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
