"""Dice of random walks from the scribbles of ACDC, without training: propagation random-walk against scikit-image's walker.

    python benchmarks/acdc_walker.py --data DIR/acdc --out benchmarks/results/acdc-walker.json

The folder holds images/, masks/, scribbles/ (grey PNGs, NAME_slice_NN) and lists of names (val.txt). A slice that lacks the
scribbles of any of the three foreground classes gets an empty mask; Dice is taken over whole volumes and averaged over them.
beta 100 on values stretched to (-1,1) from (-0.35,1.35) is beta 100 * 2 / 1.7 on values in 0..1. --model STORE adds walks around
the boundaries of networks trained by rawks, on other patients: the files of their train stages.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timing
import torch

import wss.version
from wss.propagation import RandomWalk
from wss.stages.walk import HittingLabeller
from wss.store import Store

CLASSES = ("right ventricle", "myocardium", "left ventricle")
METHODS = {
    "hitting, defaults": RandomWalk(),
    "hitting, strength 300, power 2": RandomWalk(strength=300, power=2),
    "hitting, strength 3000, power 2": RandomWalk(strength=3000, power=2),
    "scikit-image, beta 100": RandomWalk(model="skimage", beta=100 * 2 / 1.7),
}

Spread = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Labels of an image (H,W,3) from its scribbles (H,W)."""


def read(data: Path, kind: str, name: str) -> Any:
    picture = cv2.imread(str(data / kind / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise SystemExit(f"{data / kind / name}.png cannot be read")
    return picture


def propagated(method: RandomWalk) -> Spread:
    """Walks around the boundaries of the image."""
    return lambda image, scribble: method.propagate(image, scribble, 1 + len(CLASSES)).labels


def learned(store: Path) -> Spread:
    """Walks around the boundaries of a trained network."""
    walker = HittingLabeller(Store(store), torch.device("cpu"), stride=1)
    return lambda image, scribble: walker(image, scribble).labels


def counts(data: Path, names: list[str], spread: Spread) -> np.ndarray:
    """Of one volume: per class the pixels in both masks, in ours, and in the true one."""
    total = np.zeros((len(CLASSES), 3))
    for name in names:
        truth, scribble = read(data, "masks", name), read(data, "scribbles", name)
        found = np.zeros_like(truth)
        if all((scribble == k).any() for k in (1, 2, 3)):
            image = np.repeat(read(data, "images", name)[..., None], 3, 2)
            found = spread(image, scribble)
        for k in (1, 2, 3):
            total[k - 1] += ((found == k) & (truth == k)).sum(), (found == k).sum(), (truth == k).sum()
    return total


def dice(data: Path, volumes: list[list[str]], spread: Spread) -> list[float]:
    """Per class, averaged over volumes."""
    parts = [counts(data, names, spread) for names in volumes]
    return [round(float(v), 4) for v in np.mean([2 * c[:, 0] / np.maximum(c[:, 1] + c[:, 2], 1) for c in parts], 0)]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    groups: dict[str, list[str]] = {}
    for name in (options.data / f"{options.split}.txt").read_text().split():
        groups.setdefault(name.rsplit("_slice_", 1)[0], []).append(name)
    runs = {title: (propagated(method), method.model_dump()) for title, method in METHODS.items()}
    for n, path in enumerate(options.model):
        runs[f"rawks, network {n}"] = learned(path), Store(path).meta["method"]
    results = {}
    for title, (spread, settings) in runs.items():
        scores = dice(options.data, list(groups.values()), spread)
        results[title] = {"settings": settings, "dice": dict(zip(CLASSES, scores, strict=True))}
        print(f"{title:28s} {scores} mean {np.mean(scores):.4f}", flush=True)
    if options.out is None:
        return
    arguments = ["PATH" if Path(a).is_absolute() else a for a in sys.argv]
    record = {
        "command": " ".join(["python", *arguments]),
        "processor": timing.processor(),
        "date": date.today().isoformat(),
        "versions": {
            "wss": wss.version.__version__,
            "scikit-image": timing.version("scikit-image"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "split": options.split,
        "volumes": len(groups),
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
