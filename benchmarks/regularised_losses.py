"""Cost of a regularised loss, forward and backward: one filtering for value and gradient against plain autograd.

    python benchmarks/regularised_losses.py --threads 1 --out benchmarks/results/regularised-losses-NAME.json
    python benchmarks/regularised_losses.py --device cuda

Per image of 513x513 with 21 classes, the lattice built anew each time as in training. Variants take turns within each
repeat; medians of wall time and, on the CPU, of CPU time, which other load on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

import wss.version
from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss
from wss.ops import BilateralFilter

SIDE, CLASSES = 513, 21


def scene(device: torch.device) -> tuple[Tensor, Tensor]:
    """An image with structure at all wavelengths, and soft segments."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, SIDE, SIDE)
    for wave in (1, 2, 4, 8, 16, 32, 64, 128):
        noise = torch.randn(1, 3, SIDE // wave + 1, SIDE // wave + 1, generator=generator)
        image += wave**0.7 * functional.interpolate(noise, (SIDE, SIDE), mode="bilinear")
    image = (128 + 45 * image / image.std()).clamp(0, 255).round()
    scores = torch.randn(1, CLASSES, 9, 9, generator=generator) * 3
    probs = functional.interpolate(scores, (SIDE, SIDE), mode="bilinear").softmax(1)
    return image.to(device), probs.to(device)


def plain_autograd(probs: Tensor, image: Tensor) -> Tensor:
    """The CRF loss with the filter inside the graph: backward filters a second time."""
    affinity = BilateralFilter(image, 15.0, 100.0)
    filtered = affinity.filter(torch.cat([probs, torch.ones_like(probs[:, :1])], 1))
    return 1 - (probs * filtered[:, :-1]).sum() / filtered[:, -1].detach().sum()


VARIANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "densecrf": lambda p, i: dense_crf_loss(p, i),
    "densecrf, plain autograd": plain_autograd,
    "densecrf, scale 0.5": lambda p, i: dense_crf_loss(p, i, scale=0.5),
    "densecrf, paper units": lambda p, i: dense_crf_loss(p, i, units="paper"),
    "ncut": lambda p, i: normalized_cut_loss(p, i, sigma_xy=100.0),
    "kernelcut, shared affinity": lambda p, i: kernel_cut_loss(p, i, gamma=0.1),
    "kernelcut, own affinity": lambda p, i: kernel_cut_loss(p, i, gamma=0.1, nc_sigma_xy=40.0),
    "lattice alone": lambda p, i: BilateralFilter(i, 15.0, 100.0) and p.sum() * 0,
}


def measure(device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds per variant, forward and backward."""
    image, probs = scene(device)
    wall: dict[str, list[float]] = {name: [] for name in VARIANTS}
    cpu: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for repeat in range(repeats + 1):
        for name, loss in VARIANTS.items():
            leaf = probs.clone().requires_grad_()
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter(), time.process_time()
            loss(leaf, image).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                wall[name].append(1e3 * (time.perf_counter() - start[0]))
                cpu[name].append(1e3 * (time.process_time() - start[1]))
    return {name: {"wall_ms": round(median(wall[name]), 2), "cpu_ms": round(median(cpu[name]), 2)} for name in VARIANTS}


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0].strip() if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = measure(torch.device(arguments.device), arguments.repeats)
    for name, row in results.items():
        print(f"{name:28s} {row['wall_ms']:9.2f} ms wall {row['cpu_ms']:9.2f} ms CPU")
    if arguments.out:
        record = {
            "command": ["python", *sys.argv],
            "device": torch.cuda.get_device_name() if arguments.device != "cpu" else processor(),
            "threads": arguments.threads,
            "image": [SIDE, SIDE],
            "classes": CLASSES,
            "repeats": arguments.repeats,
            "versions": {
                "wss": wss.version.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "date": date.today().isoformat(),
            "results": results,
        }
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
