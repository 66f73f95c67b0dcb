"""What the benchmarks of operators share: pictures, interleaved timing and the record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import wss.version

CLASSES = 21


def run(
    description: str,
    measure: Callable[[int, int, argparse.Namespace], dict[str, Any]],
    note: str,
    sizes: Sequence[str] = ("321x321", "513x513"),
    threads: Sequence[int] = (1, 2),
) -> list[dict[str, Any]]:
    """Measure at every size and number of threads that the command line asks for, print and write the record.

    The script starts again where OpenBLAS, which NumPy and SciPy bring, may take several threads: those spin after their work,
    beside whatever is measured next, and CPU times of one thread come out twice as long. It reads this when it is imported.
    """
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=sizes, help="heights x widths")
    parser.add_argument("--threads", nargs="+", type=int, default=threads)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--images", type=int, default=3, help="number of pictures; each is timed and medians taken over all"
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("WSS_DATA"), help="folder with photographs (*.jpg, at any depth)"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="the first size, one thread, one picture: under a minute")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.threads, options.repeats, options.images = list(options.sizes)[:1], [1], 3, 1
    results = []
    for size in options.sizes:
        for count in options.threads:
            torch.set_num_threads(count)
            height, width = (int(v) for v in size.split("x"))
            results.append({"size": size, "threads": count, **measure(height, width, options)})
            show(results[-1])
    report(options.out, results, note)
    return results


def pictures(data: Path | None, count: int, height: int, width: int) -> list[Tensor]:
    """(3,H,W) uint8 photographs, resized, or, without a folder, pictures with structure at all wavelengths."""
    paths = sorted(Path(data).rglob("*.jpg")) if data else []
    if paths:
        chosen = [paths[i * len(paths) // count] for i in range(count)]
        photographs = [
            cv2.resize(cv2.imread(str(p))[..., ::-1], (width, height), interpolation=cv2.INTER_AREA) for p in chosen
        ]
        return [torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1))) for p in photographs]
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        image = torch.zeros(1, 3, height, width)
        for wave in (1, 2, 4, 8, 16, 32, 64, 128):
            noise = torch.randn(1, 3, height // wave + 2, width // wave + 2, generator=generator)
            image += wave**0.7 * interpolate(noise, (height, width), mode="bilinear")
        made.append((128 + 45 * image[0] / image.std()).clamp(0, 255).round().to(torch.uint8))
    return made


def scores(height: int, width: int) -> Tensor:
    """(1,K,H,W) logits of blobs with noise."""
    generator = torch.Generator().manual_seed(1)
    blobs = interpolate(torch.randn(1, CLASSES, 9, 9, generator=generator), (height, width), mode="bilinear") * 4
    return blobs + torch.randn(blobs.shape, generator=generator)


class Timings:
    """Wall and CPU milliseconds of variants that take turns."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}
        self._seen: set[str] = set()

    def measure(self, name: str, work: Callable[..., Any], *arguments: Any, calls: int = 1, **named: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            result = work(*arguments, **named)
        self.note(name, (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)
        if name not in self._seen:
            self._seen.add(name)
            print(f"    {name}: {self.wall[name][0]:.1f} ms", flush=True)
        return result

    def note(self, name: str, wall_s: float, cpu_s: float) -> None:
        self.wall.setdefault(name, []).append(1e3 * wall_s)
        self.cpu.setdefault(name, []).append(1e3 * cpu_s)

    def rows(self) -> dict[str, dict[str, float]]:
        return {
            name: {"wall_ms": round(median(self.wall[name]), 2), "cpu_ms": round(median(self.cpu[name]), 2)}
            for name in self.wall
        }

    def ratio(self, slow: str, fast: str) -> float | None:
        """Median over repeats of the ratio of CPU times, measured moments apart."""
        if slow not in self.cpu or fast not in self.cpu:
            return None
        return round(median(a / b for a, b in zip(self.cpu[slow], self.cpu[fast], strict=True)), 2)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def bandwidth() -> float:
    """Bytes per second of a triad, a = b + s c, over arrays of 64 MiB, with one thread, by CPU time."""
    a, b, c = (torch.zeros(2**24) for _ in range(3))
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        torch.add(b, c, alpha=2.0, out=a)
        best = min(best, time.process_time() - start)
    return 3 * 4 * a.numel() / best


def operations() -> float:
    """Floating-point operations per second, float64, of a product of matrices with one thread, by CPU time."""
    a = torch.rand(768, 768, dtype=torch.float64)
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        a @ a
        best = min(best, time.process_time() - start)
    return 2 * float(len(a)) ** 3 / best


def show(result: dict[str, Any]) -> None:
    print(f"{result['size']}, {result['threads']} thread(s)")
    for name, row in result["times"].items():
        print(f"  {name:44s} {row['wall_ms']:9.2f} ms wall {row['cpu_ms']:9.2f} ms CPU")
    for name, value in [*result["ratios"].items(), *result.get("bound", {}).items()]:
        print(f"  {name:44s} {value}", flush=True)


def _typed(words: Sequence[str]) -> list[str]:
    """Arguments of the command line without the file that is written; folders, which are the reader's own, become DATA."""
    kept = [word for n, word in enumerate(words) if word != "--out" and (n == 0 or words[n - 1] != "--out")]
    return ["DATA" if Path(word).is_absolute() else word for word in kept]


def report(out: Path | None, results: list[dict[str, Any]], note: str) -> None:
    if out is None:
        return
    record = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_typed(sys.argv[1:])]),
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": date.today().isoformat(),
        "versions": {
            "wss": wss.version.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": version("scipy"),
            "scikit-image": version("scikit-image"),
            "pydensecrf2": version("pydensecrf2"),
            "python": platform.python_version(),
        },
        "note": note,
        "results": results,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
