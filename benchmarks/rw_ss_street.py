"""What RW-SS adds to pce on street photographs, where the features that walk are trained: in core-minutes.

    python benchmarks/rw_ss_street.py --weights FILE --workspace W --out benchmarks/results/rw-ss-street-NAME.json

W is a workspace of CamVid (`wss init --kind camvid`) or, with `--size 288 192`, of Clothing Co-Parsing; FILE the weights of
MobileNetV2. Images go once through the backbone's first blocks, which are frozen; its last blocks, the reduction to 256
channels, the walk and the classifier of DeepLab-v2 are trained on simulated scribbles: all of them, those of half the objects,
or points. A first phase with or without the walk is followed by second ones with or without self-supervision; after both,
scores of images not trained on, at full size. `miou_still` is the score of the same network without its walk: the lazy walk is
one at test time (`test_time.walk` of the stage predict), so that it is the score of pce. For some images it is also told where
steps of the walk lead (`wss.metrics.step_shares`), by the classes of their masks. `miou_true_steps` is the score of the same
network where each cell goes halfway to the mean of its true class instead.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
from rw_ss_heads import points, summary
from timing import processor
from torch import Tensor
from torch.nn import functional

from wss.losses import maximum_entropy_loss, partial_cross_entropy, transition_consistency_loss
from wss.methods import RwSs
from wss.methods.rw_ss import WalkingSegmenter
from wss.metrics import confusion_matrix, iou, miou, pixel_accuracy, step_shares
from wss.networks import NetworkSpec, load_pretrained
from wss.networks.layers.feature_walk import FeatureWalk, FeatureWalkResult
from wss.networks.parameters import freeze_batch_norm
from wss.ops import Transform, draw_transform, transform_transition
from wss.stages.splits import split_ids
from wss.store import Store

STRIDE = 16
NETWORK = NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", padding="same", output_stride=STRIDE)
FROZEN = 11
"""Blocks of the backbone that are not trained, and through which images go once."""
LABELS = {"all": {"drop": 0}, "drop": {"drop": 0.5}, "points": {"shrink": 1}}
WIDTH = 256
FIRST = {
    "pce": RwSs(width=WIDTH, walk=False),
    "walk": RwSs(width=WIDTH),
    "walk, scale 1/16": RwSs(width=WIDTH, scale=1 / 16),
    "lazy walk": RwSs(width=WIDTH, walk=False),
}
LEARNING_RATE = (1e-3, 3e-4)
ALPHA_RATE = 10
"""Learning rate of alpha relative to the network's."""
BATCH, POINTS = 8, 1024
PIPELINE = """
title: labels
factors:
  labels: {LEVELS}
stages:
  - stage: samples
  - {id: "prepare-${labels}", each: labels, stage: prepare, inputs: {samples: samples}, params: "${labels.options}"}
"""


@dataclass(frozen=True)
class Second:
    """A second phase.

    Attributes:
        first: What it goes on from.
        terms: Weights of its terms beside pce.
        times: How long it is, in multiples of what is asked for.
    """

    first: str
    terms: dict[str, float] = field(default_factory=dict)
    times: float = 1


SECOND = {
    "walk": Second("walk"),
    "self-supervision": Second("walk", {"consistency": 1}),
    "self-supervision, weight 0.1": Second("walk", {"consistency": 0.1}),
    "self-supervision, weight 0.01": Second("walk", {"consistency": 0.01}),
    "self-supervision, weight 0.3": Second("walk", {"consistency": 0.3}),
    "self-supervision, entropy": Second("walk", {"consistency": 1, "entropy": 0.2}),
    "lazy walk": Second("lazy walk"),
    "lazy walk, self-supervision": Second("lazy walk", {"consistency": 1}),
    "lazy walk, self-supervision, entropy": Second("lazy walk", {"consistency": 1, "entropy": 0.2}),
    "lazy walk, entropy": Second("lazy walk", {"entropy": 0.2}),
    "walk, longer": Second("walk", times=10 / 3),
    "self-supervision, longer": Second("walk", {"consistency": 1}, times=10 / 3),
    "walk, scale 1/16": Second("walk, scale 1/16"),
    "self-supervision, scale 1/16": Second("walk, scale 1/16", {"consistency": 1}),
    "self-supervision, scale 1/16, weight 0.3": Second("walk, scale 1/16", {"consistency": 0.3}),
}


class LazyFeatureWalk(FeatureWalk):
    """The walk at test time, of cosines times 5 and with alpha 0.5; in training features stay, and P is there to be compared."""

    def __init__(self) -> None:
        super().__init__(WIDTH, embed="cosine", scale=5)
        del self.alpha
        self.alpha = torch.tensor(0.5)

    def forward(self, features: Tensor, transition: bool = False) -> FeatureWalkResult:
        """See ``FeatureWalk``."""
        walk = super().forward(features, transition)
        after = walk.after / (1 + self.alpha)
        return FeatureWalkResult(features if self.training else after, features, after, walk.log_transition)


class Data:
    """What the frozen blocks make of all images, labelled pixels of those to train on and masks of the others."""

    def __init__(self, workspace: Path, weights: str, size: tuple[int, int]) -> None:
        samples, labels = prepared(workspace)
        self.size, self.grid = size, (size[0] // STRIDE, size[1] // STRIDE)
        self.weights, self.classes = weights, len(samples.meta["classes"])
        train, val = split_ids(samples, "train"), split_ids(samples, "val")[::2]
        model = network("pce", self, 0).eval()
        self.maps = torch.stack([encoded(model, samples.get("image", i), size, mirrored=True) for i in train])
        self.held_out = torch.stack([encoded(model, samples.get("image", i), size) for i in val])
        self.masks = [np.array(samples.get("mask", i)) for i in val]
        self.points = {name: [points(store.get("labels", i)) for i in train] for name, store in labels.items()}


def prepared(workspace: Path) -> tuple[Store, dict[str, Store]]:
    """Samples and the labels of each annotation, made where they are missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.yaml"
        path.write_text(
            PIPELINE.replace("LEVELS", ", ".join(f"{k}: {{options: {json.dumps(v)}}}" for k, v in LABELS.items()))
        )
        command = [sys.executable, "-m", "wss", "run", str(path), "--json", "--workspace", str(workspace)]
        nodes = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    stores = {node["id"]: Store(Path(node["store"])) for node in nodes}
    return stores["samples"], {name: stores[f"prepare-{name}"] for name in LABELS}


def network(part: str, data: Data, seed: int) -> WalkingSegmenter:
    """A network with ImageNet weights; what is new in it depends on the seed."""
    torch.manual_seed(seed)
    model = FIRST[part].build(NETWORK, data.classes)
    if part == "lazy walk":
        model.random_walk = LazyFeatureWalk()
    load_pretrained(model, data.weights)
    freeze_batch_norm(model)
    return model


@torch.inference_mode()
def encoded(model: WalkingSegmenter, image: np.ndarray, size: tuple[int, int], mirrored: bool = False) -> Tensor:
    """Float16 maps (n,C,h,w) behind the frozen blocks: of the image and, where asked for, of its mirror image."""
    picture = cv2.resize(np.array(image), size[::-1], interpolation=cv2.INTER_AREA)
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    maps = model.normalise(torch.cat([rgb, rgb.flip(3)]) if mirrored else rgb)
    for block in model.network.backbone.features[:FROZEN]:
        maps = block(maps)
    return maps.half().clone()


def features(model: WalkingSegmenter, maps: Tensor) -> Tensor:
    """The features that walk, of maps behind the frozen blocks."""
    for block in model.network.backbone.features[FROZEN:]:
        maps = block(maps)
    return model.reduction(maps)


def batches(data: Data, labels: str, seed: int, steps: int) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Random images, which of them are mirrored, and some labelled pixels: places (B,1,P,2), classes (B,P), 255 for none."""
    generator = torch.Generator().manual_seed(seed)
    known = data.points[labels]
    for _ in range(steps):
        chosen = torch.randint(len(known), (BATCH,), generator=generator).tolist()
        mirrored = torch.randint(2, (BATCH,), generator=generator)
        places, classes = torch.zeros(BATCH, 1, POINTS, 2), torch.full((BATCH, POINTS), 255)
        for row, index in enumerate(chosen):
            where, what = known[index]
            some = torch.randperm(len(what), generator=generator)[:POINTS]
            places[row, 0, : len(some)], classes[row, : len(some)] = where[some], what[some]
        places[..., 0] *= (1 - 2 * mirrored)[:, None, None]
        yield chosen, mirrored, places, classes


def train(
    model: WalkingSegmenter, data: Data, labels: str, seed: int, steps: int, second: Second | None = None
) -> float:
    """Train for a phase, the first or a second one; the mean of pce over the last quarter of its steps."""
    terms, phase = (second.terms, 1) if second else ({}, 0)
    frozen = {id(p) for block in model.network.backbone.features[:FROZEN] for p in block.parameters()}
    groups = {"weights": (1, 5e-4), "others": (1, 0.0), "alpha": (ALPHA_RATE, 0.0)}
    members: dict[str, list[Tensor]] = {name: [] for name in groups}
    for name, parameter in model.named_parameters():
        if id(parameter) not in frozen:
            members["alpha" if name.endswith("alpha") else "weights" if parameter.ndim > 1 else "others"].append(
                parameter
            )
    optimiser = torch.optim.AdamW(
        [
            {"params": members[n], "rate": rate, "weight_decay": decay}
            for n, (rate, decay) in groups.items()
            if members[n]
        ]
    )
    torch.manual_seed(seed)
    losses = []
    model.train()
    for step, (chosen, mirrored, places, classes) in enumerate(batches(data, labels, 2 * seed + phase, steps)):
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * LEARNING_RATE[phase] * (1 - step / steps) ** 0.9 * min(1, (step + 1) / 20)
        maps = data.maps[chosen, mirrored].float()
        with torch.autocast("cpu", torch.bfloat16):
            walk = model.walk(features(model, maps), "consistency" in terms)
            logits = model.network.classify(walk.features).float()
        found = functional.grid_sample(logits, places, padding_mode="border", align_corners=False)
        pce = loss = partial_cross_entropy(found, classes[:, None])
        if "entropy" in terms:
            loss = loss + terms["entropy"] * maximum_entropy_loss(logits)
        if "consistency" in terms:
            transform = draw_transform("random", data.grid[0], max_shift=0.25)
            other = data.maps[chosen, 1 - mirrored].float() if transform.flip else transform.features(maps)
            loss = loss + terms["consistency"] * consistency(model, walk.log_transition, other, transform, data.grid)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(pce.detach()))
    model.eval()
    return mean(losses[-steps // 4 :])


def consistency(
    model: WalkingSegmenter, transition: Tensor, maps: Tensor, transform: Transform, grid: tuple[int, int]
) -> Tensor:
    """Self-supervision on P, as in ``RwSs``; maps are those of the transformed image."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        target = model.walk(features(model, maps), True).log_transition
    moved = transform_transition(transition, transform, grid, log=True)
    return transition_consistency_loss(moved, target, log=True)


@torch.inference_mode()
def scored(model: WalkingSegmenter, data: Data) -> dict[str, Any]:
    """Scores on held-out images, and where the walk leads on every fourth of them."""
    total, still, guided = np.zeros((3, data.classes, data.classes), np.int64)
    shares = []
    for number, (maps, mask) in enumerate(zip(data.held_out, data.masks, strict=True)):
        looks = model.random_walk is not None and number % 4 == 0
        with torch.autocast("cpu", torch.bfloat16):
            walk = model.walk(features(model, maps.float()), looks)
            true = cv2.resize(mask, walk.before.shape[:1:-1], interpolation=cv2.INTER_NEAREST_EXACT)
            logits = model.network.classify(
                torch.cat([walk.features, walk.before, true_steps(walk.before, true)])
            ).float()
        for scores, found in zip((total, still, guided), logits, strict=True):
            labels = functional.interpolate(found[None], mask.shape, mode="bilinear", align_corners=False)[0].argmax(0)
            scores += confusion_matrix(mask, labels.numpy().astype(np.uint8), data.classes)
        if looks:
            shares.append(step_shares(walk.log_transition[0].numpy(), true.flatten()))
    record: dict[str, Any] = {"miou": miou(total), "pixel_accuracy": pixel_accuracy(total)}
    record |= {"miou_still": miou(still), "miou_true_steps": miou(guided), "iou_per_class": iou(total).tolist()}
    if model.random_walk is not None:
        record["alpha"] = model.random_walk.alpha.item()
        for name in ("stays", "reach", "alike", "chance"):
            record[name] = mean(getattr(each, name) for each in shares)
    return record


def true_steps(maps: Tensor, classes: np.ndarray) -> Tensor:
    """Features (1,C,h,w) halfway to the mean of their class; unscored cells (255) stay."""
    known = torch.from_numpy(classes.flatten().astype(np.int64))
    alike = (known[:, None] == known) & (known != 255)
    alike |= torch.eye(len(known), dtype=torch.bool)
    means = maps.float().flatten(2)[0] @ (alike.float() / alike.sum(1, keepdim=True)).T
    return (maps + means.reshape_as(maps)) / 2


def study(options: argparse.Namespace, data: Data, runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Train and score what is asked for and not among ``runs``."""
    done = {(run["labels"], run["phase"], run["part"], run["seed"]) for run in runs}
    for seed, labels, part in product(options.seeds, options.labels, options.first):
        seconds = [name for name in options.second if SECOND[name].first == part]
        missing = [name for name in seconds if (labels, 2, name, seed) not in done]
        before = (labels, 1, part, seed) in done
        if before and not missing:
            continue
        first = network(part, data, seed)
        steps, more = options.steps
        loss = train(first, data, labels, seed, steps)
        if not before:
            yield {"labels": labels, "phase": 1, "part": part, "seed": seed, "pce": loss, **scored(first, data)}
        for name in missing:
            model = copy.deepcopy(first)
            loss = train(model, data, labels, seed, round(more * SECOND[name].times), SECOND[name])
            yield {"labels": labels, "phase": 2, "part": name, "seed": seed, "pce": loss, **scored(model, data)}


def typed(options: argparse.Namespace) -> str:
    """What to type to get these numbers again."""
    parts = ["python benchmarks/rw_ss_street.py --weights FILE --workspace W"]
    for name in ("size", "steps", "labels", "first", "second", "seeds"):
        parts += [f"--{name}", *(shlex.quote(str(value)) for value in getattr(options, name))]
    return " ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--size", nargs=2, type=int, default=[192, 256], help="height and width, multiples of 16")
    parser.add_argument("--steps", nargs=2, type=int, default=[200, 60], help="of the first and of the second phases")
    parser.add_argument("--labels", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--first", nargs="+", choices=list(FIRST), default=["pce", "walk"])
    parser.add_argument("--second", nargs="*", choices=list(SECOND), default=["walk", "self-supervision, weight 0.1"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="what is in this file is not repeated")
    options = parser.parse_args()
    data = Data(options.workspace, options.weights, tuple(options.size))
    known = options.out is not None and options.out.exists()
    result: dict[str, Any] = json.loads(options.out.read_text()) if known else {"commands": [], "runs": []}
    for run in study(options, data, result["runs"]):
        name = f"{run['labels']}, seed {run['seed']}, phase {run['phase']}, {run['part']}:"
        print(name, ", ".join(f"{k} {v:.3f}" for k, v in run.items() if isinstance(v, float)), flush=True)
        result = {
            "commands": list(dict.fromkeys([*result["commands"], typed(options)])),
            "date": date.today().isoformat(),
            "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
            "torch": torch.__version__,
            "summary": summary([*result["runs"], run], ["labels", "phase", "part"]),
            "runs": [*result["runs"], run],
        }
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
