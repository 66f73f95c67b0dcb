"""What the random walk and its self-supervision add to a training step: time and peak memory.

    python benchmarks/rw_ss.py --out benchmarks/results/rw-ss-NAME.json
    python benchmarks/rw_ss.py --cases voc --device cuda --amp

A step is forward, backward and Adam. Variants take turns within each repeat; the overhead is the median over repeats of the ratio
to the baseline of the same repeat: of CPU time on the CPU, which other load hardly changes, and of wall time on a GPU.
Peak memory is that of one step in a process of its own, beyond what it had before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timing import processor

import wss.version
from wss.methods import Batch, RwSs
from wss.networks import NetworkSpec
from wss.networks.layers.feature_walk import FeatureWalk

CASES: dict[str, tuple[NetworkSpec, int, int]] = {  # network, crop, batch
    "unet": (NetworkSpec(name="unet"), 128, 8),
    "resnet50": (NetworkSpec(name="deeplab-v2", backbone="resnet50", output_stride=16), 193, 2),
    "voc": (NetworkSpec(name="deeplab-v2", backbone="resnet50", output_stride=16), 465, 8),
    "voc-stride-8": (NetworkSpec(name="deeplab-v2", backbone="resnet50", output_stride=8), 465, 8),
}
VARIANTS: dict[str, tuple[RwSs, tuple[str, ...]]] = {
    "baseline": (RwSs(walk=False), ("pce",)),
    "walk": (RwSs(), ("pce",)),
    "walk, qkv": (RwSs(embed="qkv"), ("pce",)),
    "walk + self-supervision": (RwSs(), ("pce", "consistency")),
    "walk, qkv + self-supervision": (RwSs(embed="qkv"), ("pce", "consistency")),
    "walk + self-supervision + entropy": (RwSs(), ("pce", "consistency", "entropy")),
}
GRID, CHANNELS = 59, 512  # stride 8 of crops of 465


def step(case: str, variant: str, device: torch.device, amp: bool) -> Callable[[], None]:
    """One training step of a variant, ready to be repeated."""
    spec, crop, size = CASES[case]
    method, terms = VARIANTS[variant]
    torch.manual_seed(0)
    model = method.build(spec, 21).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    labels = torch.full((size, crop, crop), 255, device=device)
    labels[:, 20:23, 10:60], labels[:, 80:83, 10:60] = 0, 1
    rgb = (255 * torch.rand(size, 3, crop, crop)).to(device).to(memory_format=torch.channels_last)
    batch = Batch(rgb, labels, torch.ones_like(labels, dtype=torch.bool), {})

    def once() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            loss = torch.stack(list(method.losses(model, batch, terms).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return once


def layer(held: bool, size: int, device: torch.device) -> Callable[[], None]:
    """Forward and backward of the walk alone, at 59x59 positions of 512 channels, with or without holding P."""
    torch.manual_seed(0)
    walk = FeatureWalk(CHANNELS).to(device)
    features = torch.rand(size, CHANNELS, GRID, GRID, device=device).requires_grad_()

    def once() -> None:
        walk(features, held).features.sum().backward()

    return once


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def times(works: dict[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Milliseconds of each, and the share by which it exceeds the first."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = clock(device)
            work()
            if repeat:  # the first round warms up
                taken[name].append(1e3 * (clock(device) - start))
    base = taken[next(iter(works))]
    return {
        name: {
            "median_ms": round(median(each), 1),
            "least_ms": round(min(each), 1),
            "overhead": round(median(a / b for a, b in zip(each, base, strict=True)) - 1, 3),
        }
        for name, each in taken.items()
    }


def peak_mib(work: Callable[[], None], device: torch.device) -> float:
    """Memory that one call takes beyond what there was, MiB."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return float(torch.cuda.max_memory_allocated(device) - before) / 2**20
    before = high_water_kib()
    work()
    return (high_water_kib() - before) / 2**10


def high_water_kib() -> int:
    """The most memory that this process has held; unlike ``ru_maxrss`` it does not begin with that of the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def in_a_process(arguments: argparse.Namespace, what: str) -> float:
    """The peak memory of one work, in a process of its own."""
    command = [sys.executable, __file__, "--peak", what, "--device", arguments.device, "--batch", str(arguments.batch)]
    command += ["--threads", str(arguments.threads), *(["--amp"] if arguments.amp else [])]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def work_named(name: str, arguments: argparse.Namespace) -> Callable[[], None]:
    device = torch.device(arguments.device)
    case, variant = name.split("/", 1)
    return (
        layer(variant == "held", arguments.batch, device)
        if case == "layer"
        else step(case, variant, device, arguments.amp)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "layer"], default=["unet", "resnet50", "layer"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2, help="images of the walk alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak_mib(work_named(arguments.peak, arguments), torch.device(arguments.device)))
        return
    results: dict[str, Any] = {}
    for case in arguments.cases:
        names = ("held", "not held") if case == "layer" else tuple(VARIANTS)
        works = {name: work_named(f"{case}/{name}", arguments) for name in names}
        results[case] = times(works, arguments.repeats, torch.device(arguments.device))
        for name, row in results[case].items():
            row["peak_mib"] = round(in_a_process(arguments, f"{case}/{name}"), 1)
            print(
                f"{case:10s} {name:36s} {row['median_ms']:9.1f} ms  {100 * row['overhead']:+6.1f} %  {row['peak_mib']:8.1f} MiB"
            )
    if arguments.out:
        record = {
            "command": " ".join(["python", "benchmarks/rw_ss.py", *sys.argv[1:]]),
            "device": torch.cuda.get_device_name() if arguments.device != "cpu" else processor(),
            "cores": os.cpu_count(),
            "threads": arguments.threads,
            "date": date.today().isoformat(),
            "versions": {
                "wss": wss.version.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "cases": {
                case: {
                    "network": CASES[case][0].model_dump(mode="json"),
                    "crop": CASES[case][1],
                    "batch": CASES[case][2],
                }
                for case in arguments.cases
                if case != "layer"
            },
            "layer": {"grid": [GRID, GRID], "channels": CHANNELS, "batch": arguments.batch},
            "repeats": arguments.repeats,
            "results": results,
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
