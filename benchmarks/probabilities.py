"""Stored against full probabilities: bytes of each pixel, and the share of labels that differ after the CRF.

    python benchmarks/probabilities.py --out benchmarks/results/probabilities.json

Scores of 21 classes are generated on the masks of the embedded sample: smooth as those of a network of stride 8, right for the
most part, with doubts elsewhere. The sharper they are, the surer is the network; `sure` is the mean probability of the
likeliest class.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, one_hot

from wss.datasets import open_source
from wss.metrics import confusion_matrix, miou
from wss.stages.crf_kernels import PRESETS, CrfParams, refine
from wss.stages.probabilities import LEAST, kept
from wss.store.codec import encode

CLASSES = 21
SHARPNESS = (5, 10, 15)


def scores(mask: NDArray[np.uint8], seed: int, sharpness: float) -> NDArray[np.float32]:
    """Probabilities (K,H,W)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = mask.shape
    size = [height // 8, width // 8]
    truth = one_hot(torch.from_numpy(np.where(mask == 255, 0, mask)).long(), CLASSES).permute(2, 0, 1)[None].float()
    doubts = [interpolate(torch.randn(1, CLASSES, n, n, generator=generator), size, mode="bilinear") for n in (3, 8)]
    logits = sharpness * interpolate(truth, size, mode="area") + 1.8 * doubts[0] + 0.6 * doubts[1]
    found: NDArray[np.float32] = interpolate(logits, [height, width], mode="bilinear").softmax(1)[0].numpy()
    return found


def measure(sharpness: float, count: int) -> dict[str, Any]:
    """Bytes of each pixel as float16 and as kept; for each preset the share of other labels and the mIoU of both."""
    source = open_source("sample", train=count, val=1)
    samples = [source.read(i) for i in source.catalogue.splits["train"]]
    pixels, full_bytes, kept_bytes, sure = 0, 0, 0, 0.0
    other = dict.fromkeys(PRESETS, 0)
    totals = {name: np.zeros((2, CLASSES, CLASSES), np.int64) for name in PRESETS}
    for number, sample in enumerate(samples):
        assert sample.mask is not None
        probs = scores(sample.mask, number, sharpness)
        pixels += sample.mask.size
        sure += float(probs.max(0).sum())
        full_bytes += encode(probs.astype(np.float16), True).length
        kept_bytes += encode(kept(probs), True).length
        for name in PRESETS:
            params = CrfParams(preset=name)  # type: ignore[arg-type]
            labels = [
                refine(params, sample.image, torch.from_numpy(p.astype(np.float32))).argmax(0).numpy().astype(np.uint8)
                for p in (probs, kept(probs))
            ]
            other[name] += int((labels[0] != labels[1]).sum())
            totals[name] += [confusion_matrix(sample.mask, found, CLASSES) for found in labels]
    return {
        "sharpness": sharpness,
        "sure": round(sure / pixels, 3),
        "bytes_per_pixel": {"float16": round(full_bytes / pixels, 2), "kept": round(kept_bytes / pixels, 2)},
        "other_labels": {name: value / pixels for name, value in other.items()},
        "miou": {name: [round(miou(total), 5) for total in both] for name, both in totals.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for sharpness in SHARPNESS:
        rows.append(measure(sharpness, args.images))
        row, sizes = rows[-1], rows[-1]["bytes_per_pixel"]
        print(f"sure {row['sure']:.2f}: {sizes['float16']} bytes a pixel, kept {sizes['kept']}; other labels", end=" ")
        print(", ".join(f"{name} {value:.1e}" for name, value in row["other_labels"].items()), flush=True)
    record = {"command": f"python benchmarks/probabilities.py --images {args.images}", "least": LEAST, "rows": rows}
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
