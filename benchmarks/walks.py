"""What a random walk on features does to networks that were trained without one: inner products against cosines.

    python benchmarks/walks.py --workspace W --models STORE [STORE ...] --out benchmarks/results/walks-NAME.json

W is a workspace whose samples are made (`wss run`), the models are files of its train stages, of method pce. Each predicts every
n-th image of a split as it is, and where its features take one step of a lazy walk, f <- (alpha P f + f) / (1 + alpha), with P of
inner products of features (the paper's) or of their cosines. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from timing import processor
from torch import Tensor, nn

from wss.checkpoints import build_model
from wss.metrics import confusion_matrix, miou
from wss.networks.layers.lazy_feature_walk import LazyFeatureWalk
from wss.ops import feature_walk_step
from wss.predictor import InferenceParams, Predictor
from wss.stages.splits import split_ids
from wss.store import Store


class InnerProductWalk(LazyFeatureWalk):
    """The same step with inner products of features in place of cosines."""

    def step(self, features: Tensor) -> Tensor:
        """See ``LazyFeatureWalk.step``."""
        return feature_walk_step(features, scale=self.scale)


WALKS: dict[str, Callable[..., LazyFeatureWalk] | None] = {
    "none": None,
    "inner products": partial(InnerProductWalk, scale=1, alpha=0.5),
    **{
        f"cosines times {scale}, alpha {alpha}": partial(LazyFeatureWalk, scale=scale, alpha=alpha)
        for scale, alpha in product((3, 5, 10), (0.3, 0.5, 1))
    },
}


def walking(store: Store, walk: Callable[..., LazyFeatureWalk] | None, stride: int) -> nn.Module:
    """The network of a store, whose features walk."""
    model = build_model(store)
    if walk is not None:
        own = model.network.output_stride
        model.network.classifier = nn.Sequential(walk(cell=max(stride, own) // own), model.network.classifier)
    return model


def score(model: nn.Module, store: Store, samples: Store, ids: Sequence[str], scale: float) -> float:
    """Mean IoU on the images."""
    classes, palette = store.meta["classes"], np.array(store.meta["palette"], np.uint8)
    predictor = Predictor(model, classes, palette, torch.device("cpu"), InferenceParams(scales=(scale,)))
    total = np.zeros((len(classes), len(classes)), np.int64)
    for image_id in ids:
        found = predictor(np.array(samples.get("image", image_id)))
        total += confusion_matrix(np.array(samples.get("mask", image_id)), found, len(classes))
    return miou(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=6, help="look at every n-th image")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the images, relative to their own")
    parser.add_argument("--stride", type=int, default=8, help="side of the cells between which features walk")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    samples = Store(next((options.workspace / "artifacts" / "samples").glob("*.h5")))
    ids = split_ids(samples, options.split)[:: options.every]
    rows = []
    for name, walk in WALKS.items():
        stores = [Store(path) for path in options.models]
        found = [score(walking(s, walk, options.stride), s, samples, ids, options.scale) for s in stores]
        rows.append({"walk": name, "miou": mean(found), "of_each": found})
        print(f"{name:<28}", " ".join(f"{100 * value:.1f}" for value in found), flush=True)
    result = {
        "command": f"python benchmarks/walks.py --workspace W --models {' '.join('STORE' for _ in options.models)} "
        f"--split {options.split} --every {options.every} --scale {options.scale} --stride {options.stride}",
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "images": len(ids),
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
