"""Which weight of the normalised CRF loss the weights of the authors' code are, on photographs.

    python benchmarks/crf_units.py --data DIR --out benchmarks/results/crf-units.json

Both losses have the gradient -2 W S but for a factor: a weight w in the units of the paper is as much as w 1'W1 in normalised
units, image by image. W is the lattice's, on the middle of each photograph (*.jpg below DIR), padded to the crop where it is
smaller.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import timing
import torch
from torch import Tensor

import wss.version
from wss.losses.pairwise import soft_segments

CODES = {
    "Caffe, VGG networks": {"weight": 1e-8, "crop": 321, "scale": 1.0, "sigma_rgb": 15.0, "sigma_xy": 100.0},
    "Caffe, ResNet-101": {"weight": 1e-8, "crop": 321, "scale": 1.0, "sigma_rgb": 13.0, "sigma_xy": 80.0},
    "PyTorch": {"weight": 2e-9, "crop": 513, "scale": 0.5, "sigma_rgb": 15.0, "sigma_xy": 100.0},
    "PyTorch, cross-entropy divided by the batch of 12": {
        "weight": 12 * 2e-9,
        "crop": 513,
        "scale": 0.5,
        "sigma_rgb": 15.0,
        "sigma_xy": 100.0,
    },
    "the same at crops of 321, VGG networks": {
        "weight": 12 * 2e-9,
        "crop": 321,
        "scale": 0.5,
        "sigma_rgb": 15.0,
        "sigma_xy": 100.0,
    },
    "the same at crops of 321, ResNet-101": {
        "weight": 12 * 2e-9,
        "crop": 321,
        "scale": 0.5,
        "sigma_rgb": 13.0,
        "sigma_xy": 80.0,
    },
}
"""The weights beside a mean cross-entropy. The PyTorch code divides its mean by the batch size once more."""


def middle(path: Path, side: int) -> tuple[Tensor, Tensor]:
    """The middle of a photograph, (1,3,side,side) in 0-255, and where it is, (1,side,side)."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} cannot be read")
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    part = picture[top : top + side, left : left + side, ::-1]
    crop, inside = np.zeros((side, side, 3), np.float32), np.zeros((side, side), bool)
    crop[: part.shape[0], : part.shape[1]], inside[: part.shape[0], : part.shape[1]] = part, True
    return torch.from_numpy(crop).permute(2, 0, 1)[None], torch.from_numpy(inside)[None]


def affinity(path: Path, crop: int, scale: float, sigma_rgb: float, sigma_xy: float) -> float:
    """1'W1."""
    image, inside = middle(path, crop)
    segments = soft_segments(torch.ones(1, 1, crop, crop), image, inside, None, "plain", scale)
    return float(segments.filtered(sigma_rgb, sigma_xy, "auto", False)[1].double().sum())


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    paths = sorted(options.data.rglob("*.jpg"))
    if not paths:
        raise SystemExit(f"no photographs (*.jpg) below {options.data}")
    results: dict[str, dict[str, Any]] = {}
    for name, settings in CODES.items():
        code = dict(settings)
        weight, crop = code.pop("weight"), int(code.pop("crop"))
        found = [weight * affinity(path, crop, **code) for path in paths]
        row = {"least": min(found), "median": median(found), "most": max(found)}
        results[name] = {"settings": settings, "normalised": {k: float(f"{v:.3g}") for k, v in row.items()}}
        print(f"{name:52s} {results[name]['normalised']}", flush=True)
    if options.out is None:
        return
    words = ["PATH" if Path(word).is_absolute() else word for word in sys.argv]
    record = {
        "command": " ".join(["python", *words]),
        "processor": timing.processor(),
        "date": date.today().isoformat(),
        "versions": {"wss": wss.version.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "photographs": [path.name for path in paths],
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
