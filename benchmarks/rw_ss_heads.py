"""What a random walk adds to a head on frozen features, and where it leads: minutes where a whole network takes hours.

    python benchmarks/rw_ss_heads.py --weights FILE --workspace W --out benchmarks/results/rw-ss-heads-NAME.json

W is a workspace of Clothing Co-Parsing at half size (`wss init`), FILE the weights of MobileNetV2. Images, at 192x288, go
through the backbone once; then the reduction to 256 channels, the walk and the classifier of DeepLab-v2 are trained on scribbles
by partial cross-entropy. Nothing is tuned; scores are of images not trained on, after the last step. For some of those images it
is also told where steps of the walk lead (`wss.metrics.step_shares`), by the classes of their masks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import cv2
import numpy as np
import torch
from timing import processor
from torch import Tensor
from torch.nn import functional

from wss.methods import RwSs
from wss.methods.rw_ss import WalkingSegmenter
from wss.metrics import confusion_matrix, iou, miou, step_shares
from wss.networks import NetworkSpec, load_pretrained
from wss.stages.splits import split_ids
from wss.store import Store

SIZE = (288, 192)
NETWORK = NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", padding="same", output_stride=16)
HEADS = {
    "pce": RwSs(width=256, walk=False),
    "walk": RwSs(width=256),
    "walk, scale 1/16": RwSs(width=256, scale=1 / 16),
    "walk, qkv": RwSs(width=256, embed="qkv"),
}
STEPS, LEARNING_RATE, BATCH, POINTS = 400, 1e-3, 8, 512
WALKED_IMAGES = 20
PIPELINE = "title: labels\nstages:\n  - stage: samples\n  - {stage: prepare, inputs: {samples: samples}}\n"


class Data:
    """Features of all images, labelled pixels of those to train on and masks of the others."""

    def __init__(self, workspace: Path, weights: str) -> None:
        samples, labels = prepared(workspace)
        self.classes = len(samples.meta["classes"])
        torch.manual_seed(0)
        model = RwSs(walk=False).build(NETWORK, self.classes).eval()
        load_pretrained(model, weights)
        train, val = (split_ids(samples, name) for name in ("train", "val"))
        self.points = [points(labels.get("labels", i)) for i in train]
        self.features = torch.cat([encoded(model, samples.get("image", i)) for i in train])
        self.held_out = torch.cat([encoded(model, samples.get("image", i)) for i in val])
        self.masks = [np.array(samples.get("mask", i)) for i in val]


def prepared(workspace: Path) -> tuple[Store, Store]:
    """Samples and labels of a workspace, made where they are missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.yaml"
        path.write_text(PIPELINE)
        command = [sys.executable, "-m", "wss", "run", str(path), "--json", "--workspace", str(workspace)]
        nodes = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    stores = {node["stage"]: Store(Path(node["store"])) for node in nodes}
    return stores["samples"], stores["prepare"]


@torch.inference_mode()
def encoded(model: WalkingSegmenter, image: np.ndarray) -> Tensor:
    """The backbone's features (1,320,18,12), float16."""
    picture = cv2.resize(np.array(image), SIZE[::-1], interpolation=cv2.INTER_AREA)
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    return model.network.forward_features(model.normalise(rgb)).half().clone()


def points(labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Places (P,2) in -1..1, x first, and classes (P,) of labelled pixels."""
    rows, columns = np.nonzero(labels != 255)
    places = np.stack([(2 * columns + 1) / labels.shape[1] - 1, (2 * rows + 1) / labels.shape[0] - 1], 1)
    return torch.from_numpy(places.astype(np.float32)), torch.from_numpy(labels[rows, columns].astype(np.int64))


def draw(data: Data, generator: torch.Generator) -> tuple[list[int], Tensor, Tensor]:
    """Random images, and some labelled pixels of each: places (B,1,P,2) and classes (B,P), 255 where there are fewer."""
    chosen = torch.randint(len(data.points), (BATCH,), generator=generator).tolist()
    places, classes = torch.zeros(BATCH, 1, POINTS, 2), torch.full((BATCH, POINTS), 255)
    for row, index in enumerate(chosen):
        where, what = data.points[index]
        some = torch.randperm(len(what), generator=generator)[:POINTS]
        places[row, 0, : len(some)], classes[row, : len(some)] = where[some], what[some]
    return chosen, places, classes


def trained(method: RwSs, data: Data, seed: int) -> tuple[WalkingSegmenter, float]:
    """A head, and the mean of its loss over the last 100 steps."""
    torch.manual_seed(seed)
    model = method.build(NETWORK, data.classes).train()
    generator = torch.Generator().manual_seed(seed)
    head = [parameter for name, parameter in model.named_parameters() if "backbone" not in name]
    optimiser = torch.optim.AdamW(head, weight_decay=5e-4)
    losses = []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS) ** 0.9 * min(1, (step + 1) / 20)
        chosen, places, classes = draw(data, generator)
        walk = model.walk(model.reduction(data.features[chosen].float()))
        logits = model.network.classify(walk.features)
        found = functional.grid_sample(logits, places, padding_mode="border", align_corners=False)[:, :, 0]
        loss = functional.cross_entropy(found, classes, ignore_index=255)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return model.eval(), mean(losses[-100:])


@torch.inference_mode()
def scored(model: WalkingSegmenter, data: Data) -> dict[str, Any]:
    """Scores on held-out images, and where the walk leads on some of them."""
    total = np.zeros((data.classes, data.classes), np.int64)
    shares = []
    every = max(1, len(data.masks) // WALKED_IMAGES)
    for number, (features, mask) in enumerate(zip(data.held_out, data.masks, strict=True)):
        looks = model.random_walk is not None and number % every == 0
        walk = model.walk(model.reduction(features[None].float()), transition=looks)
        logits = model.network.classify(walk.features)
        labels = functional.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)[0].argmax(0)
        total += confusion_matrix(mask, labels.numpy().astype(np.uint8), data.classes)
        if looks:
            true = cv2.resize(mask, walk.before.shape[:1:-1], interpolation=cv2.INTER_NEAREST)
            shares.append(step_shares(walk.log_transition[0].numpy(), true.flatten()))
    record: dict[str, Any] = {"miou": miou(total), "iou_per_class": iou(total).tolist()}
    if model.random_walk is not None:
        record["alpha"] = model.random_walk.alpha.item()
        for name in ("stays", "reach", "alike", "chance"):
            record[name] = mean(getattr(each, name) for each in shares)
    return record


def summary(runs: list[dict[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Means over seeds of the numbers that all runs of a group have, and the standard deviation of the score."""
    rows = []
    for key in dict.fromkeys(tuple(run[name] for name in by) for run in runs):
        mine = [run for run in runs if tuple(run[name] for name in by) == key]
        numbers = [n for n, value in mine[0].items() if isinstance(value, float) and all(n in run for run in mine)]
        row = {**dict(zip(by, key, strict=True)), "n": len(mine)}
        row |= {name: mean(run[name] for run in mine) for name in numbers}
        row["std"] = stdev(run["miou"] for run in mine) if len(mine) > 1 else None
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = Data(options.workspace, options.weights)
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        for name in options.heads:
            model, loss = trained(HEADS[name], data, seed)
            runs.append({"head": name, "seed": seed, "loss": loss, **scored(model, data)})
            shown = [f"{key} {value:.3f}" for key, value in runs[-1].items() if isinstance(value, float)]
            print(f"{name:<18} seed {seed}: {', '.join(shown)}", flush=True)
    heads = " ".join(f"'{name}'" if " " in name else name for name in options.heads)
    result = {
        "command": "python benchmarks/rw_ss_heads.py --weights FILE --workspace W "
        f"--heads {heads} --seeds {' '.join(map(str, options.seeds))}",
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "summary": summary(runs, ["head"]),
        "runs": runs,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
