"""Time and memory of `data check`, `prepare` and `predict`: on many small files, and on one huge TIFF.

    python benchmarks/files.py --images 10000 --side 20000 --out benchmarks/results/files-epyc.json

Images, masks and scribbles are generated: coloured ellipses on a textured ground, 128x96 PNG. The huge TIFF has tiles of 256
pixels, deflated. Each command is a process of its own. Memory is the most that one of its processes had. The network that
predicts is a U-Net after one step: its labels mean nothing, its cost does. The floor of `data check` is Pillow, which decodes all
files in one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

import wss.version

SIZE = (96, 128)
SHORT = ("--set", "train.phases=[{steps: 1, terms: {pce: 1}}]", "--set", "train.validate_every=0")


def write_images(root: Path, count: int) -> None:
    """A folder data set of ``count`` images, every tenth of them for validation."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    y, x = np.indices(SIZE)
    for number in range(count):
        cy, cx, ry, rx = rng.integers((20, 30, 10, 12), (70, 100, 30, 40))
        mask = (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1).astype(np.uint8)
        image = np.where(mask[..., None] > 0, rng.integers(120, 255, 3), rng.integers(0, 120, 3))
        image = np.clip(image + rng.integers(-12, 13, (*SIZE, 3)), 0, 255).astype(np.uint8)
        scribble = np.full(SIZE, 255, np.uint8)
        scribble[cy - 2 : cy + 3, cx - 6 : cx + 7], scribble[2:5, 5:60] = 1, 0
        name = f"i{number:05}.png"
        Image.fromarray(image).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
        Image.fromarray(scribble).save(root / "scribbles" / name)
    (root / "classes.txt").write_text("ground\nthing\n")
    (root / "val.txt").write_text("\n".join(f"i{number:05}" for number in range(0, count, 10)))


def write_huge(path: Path, side: int) -> None:
    """A tiled RGB TIFF of ``side`` pixels a side."""
    rng = np.random.default_rng(0)
    kinds = [np.kron(rng.integers(0, 250, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(7)]
    count = (-(-side // 256)) ** 2
    tifffile.imwrite(
        path,
        (kinds[number % 7] for number in range(count)),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression="deflate",
    )


def run(name: str, *command: str) -> dict[str, Any]:
    """Run a command; its wall seconds, the CPU seconds of it and its workers, and the most memory that one of them had."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"name": name, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}


def peak(name: str, *command: str) -> dict[str, Any]:
    """``run`` in a process of its own, so that the peak of memory is that of this command alone."""
    program = (
        "import json, resource, sys; sys.path.insert(0, sys.argv[1]); import files; "
        "row = files.run(*sys.argv[2:]); row['peak_mb'] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024; "
        "print(json.dumps(row))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent), name, *command],
        check=True,
        capture_output=True,
        text=True,
    )
    row: dict[str, Any] = json.loads(done.stdout)
    print(f"{name:32} {row['seconds']:8.1f} s  {row['cpu_seconds']:8.1f} s of CPU  {row['peak_mb']:6} MB", flush=True)
    return row


def floor(root: Path) -> dict[str, Any]:
    """Decoding every image, mask and scribble with Pillow, in one thread."""
    start = time.perf_counter()
    for part in ("images", "masks", "scribbles"):
        for path in sorted((root / part).iterdir()):
            with Image.open(path) as image:
                np.asarray(image)
    row = {"name": "Pillow decodes all files", "seconds": round(time.perf_counter() - start, 1)}
    print(f"{row['name']:32} {row['seconds']:8.1f} s", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=20_000, help="side of the huge TIFF in pixels; 0 leaves it out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, work, huge = Path(folder, "images"), Path(folder, "work"), Path(folder, "huge.tif")
        write_images(root, args.images)
        place = ("--workspace", str(work))
        rows = [floor(root), peak("init", "wss", "init", "--kind", "folder", "--root", str(root), *place)]
        rows.append(peak("data check", "wss", "data", "check", *place))
        rows.append(peak("prepare", "wss", "prepare", *place))
        rows.append(peak("train, one step", "wss", "train", *SHORT, *place))
        target = str(Path(folder, "masks"))
        rows.append(
            peak("predict all", "wss", "predict", str(root / "images"), "--out", target, "--no-overlays", *place)
        )
        if args.side:
            write_huge(huge, args.side)
            rows.append(peak("predict the huge TIFF", "wss", "predict", str(huge), "--out", f"{target}-huge", *place))
            rows[-1]["megapixels"], rows[-1]["file_mb"] = args.side**2 // 10**6, huge.stat().st_size // 2**20
    record = {
        "command": f"python benchmarks/files.py --images {args.images} --side {args.side}",
        "date": date.today().isoformat(),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "wss": wss.version.__version__,
        "images": args.images,
        "size": list(SIZE),
        "rows": rows,
    }
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
