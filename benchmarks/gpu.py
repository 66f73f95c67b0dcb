"""Everything that matters on a GPU, in at most eight minutes: does it compute the same as a CPU, and how long does it take?

    python benchmarks/gpu.py --out benchmarks/results/gpu-NAME.json
    python benchmarks/gpu.py --device cpu --tiny          # every part at tiny size, to see that the script runs

1. parity: every operator, loss and method against the CPU, values and gradients, in float32 without TF32.
2. steps: DeepLab-v2 with ResNet-101, 513x513, batch of 8, bfloat16: time of a training step of each method (forward, backward,
   SGD), what it adds to partial cross-entropy alone, peak memory, and how often a step waits for the device.
3. mean_field: 10 iterations at 321x321 and 513x513.
4. walks: random-walk hitting probabilities, forward and backward, at 96x128 and 512x512.
5. loading: time of a batch from the loader (images in memory, as the stores give them) against that of a step.

Medians of wall time with the device synchronised around each run. Without a GPU the script says so and exits with code 1, as it
does where a result differs from the CPU's. What does not fit the time is left out, and the record says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timing
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

import wss.version
from wss import losses, ops
from wss.devices import postponed
from wss.methods import METHODS, Batch, Method
from wss.networks import NetworkSpec
from wss.training.augment import AugmentParams
from wss.training.batches import EpochBatches, TrainingSet, batches

PARTS = ("parity", "steps", "mean_field", "walks", "loading")
CRF = {"pos_weight": 3.0, "pos_xy_std": 3.0, "bi_weight": 4.0, "bi_xy_std": 100.0, "bi_rgb_std": 15.0}
TOLERANCE = 2e-3
"""Largest relative difference (Euclidean norm) from the CPU. Sums in another order differ by about 1e-6; mean-field iterations,
normalisation over small batches and random walks with steep boundaries make more of it."""


@dataclass(frozen=True)
class Setting:
    """Sizes of everything, and when to stop.

    Attributes:
        device: Where to measure.
        tiny: Whether sizes are tiny.
        deadline: On the monotonic clock.
    """

    device: torch.device
    tiny: bool
    deadline: float

    @property
    def classes(self) -> int:
        return 4 if self.tiny else timing.CLASSES

    @property
    def network(self) -> NetworkSpec:
        return NetworkSpec(name="unet") if self.tiny else NetworkSpec(name="deeplab-v2", backbone="resnet101")

    @property
    def batch(self) -> int:
        return 2 if self.tiny else 8

    @property
    def side(self) -> int:
        return 48 if self.tiny else 513

    @property
    def repeats(self) -> int:
        return 1 if self.tiny else 7

    def is_over(self) -> bool:
        """True if no time is left."""
        return time.monotonic() > self.deadline

    def seconds(self, work: Callable[[], Any], at_most_s: float = 10.0) -> float:
        """Median time of a run, after one that warms up; fewer repeats where they take long."""
        found: list[float] = []
        begin = time.monotonic()
        for _ in range(self.repeats + 1):
            self.synchronise()
            start = time.perf_counter()
            work()
            self.synchronise()
            found.append(time.perf_counter() - start)
            if len(found) > 1 and time.monotonic() - begin > at_most_s:
                break
        return median(found[1:])

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def scene(count: int, height: int, width: int, classes: int) -> Batch:
    """Images of blobs with noise, four strokes on each, edges, superpixels and tags, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, height // 16 + 2, width // 16 + 2, generator=generator) * 255
    rgb = interpolate(coarse, (height, width), mode="bilinear") + 8 * torch.randn(
        count, 3, height, width, generator=generator
    )
    labels = torch.full((count, height, width), 255)
    tags = torch.zeros(count, classes, dtype=torch.bool)
    for image in range(count):
        for stroke, k in enumerate([0, *(1 + torch.randperm(classes - 1, generator=generator)[:3]).tolist()]):
            top, left = height * (1 + 4 * (stroke // 2)) // 8, width * (1 + 4 * (stroke % 2)) // 8
            labels[image, top : top + max(2, height // 100), left : left + width // 4] = k
            tags[image, k] = True
    side = max(6, height // 20)
    ids = torch.arange(height)[:, None] // side * (width // side + 1) + torch.arange(width) // side
    maps = {
        "edges": torch.rand(count, height, width, generator=generator),
        "superpixels": ids.expand(count, -1, -1).clone(),
    }
    valid = torch.ones(count, height, width, dtype=torch.bool)
    return Batch(rgb.clamp(0, 255).round(), labels, valid, maps, tags, background=0)


def moved(batch: Batch, device: torch.device) -> Batch:
    maps = {name: each.to(device) for name, each in batch.maps.items()}
    tags = None if batch.tags is None else batch.tags.to(device)
    return Batch(batch.rgb.to(device), batch.labels.to(device), batch.valid.to(device), maps, tags, batch.background)


# --- parity


Case = Callable[[Batch, Tensor, Tensor], Tensor]
"""Return a batch's logits (B,K,H,W) and unit embeddings (B,C,H,W), all on one device."""


def _filtered(mode: str) -> Case:
    return lambda batch, logits, _: ops.BilateralFilter(batch.rgb, 15.0, 30.0, batch.valid, mode=mode).filter(logits)  # type: ignore[arg-type]


def _walk(batch: Batch, logits: Tensor, _: Tensor) -> Tensor:
    return ops.hitting_probabilities(logits[:, 0].abs(), batch.labels, logits.shape[1])


def _segments(batch: Batch, embeddings: Tensor) -> ops.Segments:
    clusters = ops.spherical_kmeans(embeddings.detach(), grid=3, valid=batch.valid)
    return ops.split_segments(clusters, batch.maps["superpixels"], valid=batch.valid)


def _segsort(batch: Batch, _: Tensor, embeddings: Tensor) -> Tensor:
    segments = _segments(batch, embeddings)
    prototypes = ops.segment_prototypes(embeddings, segments)
    same = segments.image[:, None] == segments.image
    rows = embeddings.permute(0, 2, 3, 1).flatten(0, 2)
    return losses.segsort_loss(rows, prototypes, segments.ids.flatten(), same, ~same, concentration=8.0)


def _trees(batch: Batch, logits: Tensor, embeddings: Tensor) -> Tensor:
    return losses.tree_targets(logits.softmax(1), batch.rgb / 255, embeddings, valid=batch.valid)


def _vote(batch: Batch, logits: Tensor, embeddings: Tensor) -> Tensor:
    rows, labels = embeddings.permute(0, 2, 3, 1).flatten(0, 2), logits.argmax(1).flatten()
    similarity, place = ops.nearest(rows[:64], rows[64:], 3)
    return ops.vote(similarity, labels[64:][place], logits.shape[1])


def _transition(_: Batch, __: Tensor, embeddings: Tensor) -> Tensor:
    return ops.transition_matrix(embeddings[..., ::4, ::4], scale=5.0)


def _consistency(batch: Batch, logits: Tensor, embeddings: Tensor) -> Tensor:
    found = _transition(batch, logits, embeddings)
    flip = ops.Transform(flip=True)
    moved_back = ops.transform_transition(found, flip, (embeddings.shape[2] // 4, embeddings.shape[3] // 4))
    return losses.transition_consistency_loss(moved_back, found.detach())


OPERATORS: dict[str, Case] = {
    "BilateralFilter, symmetric": _filtered("symmetric"),
    "BilateralFilter, compat": _filtered("compat"),
    "BilateralFilter, accurate": _filtered("accurate"),
    "mean_field": lambda b, x, _: ops.mean_field(x, b.rgb, **CRF),
    "differentiable_mean_field": lambda b, x, _: ops.differentiable_mean_field(x, b.rgb, roi=b.valid, **CRF).exp(),
    "hitting_probabilities": _walk,
    "reachable": lambda b, x, _: ops.reachable(x[:, 0].abs(), b.labels).float(),
    "colour_gradient": lambda b, *_: ops.colour_gradient(b.rgb),
    "spherical_kmeans, split_segments": lambda b, _, e: _segments(b, e).ids.float(),
    "segment_prototypes": lambda b, _, e: ops.segment_prototypes(e, _segments(b, e)),
    "segment_labels": lambda b, x, e: ops.segment_labels(b.labels, _segments(b, e), x.shape[1]).float(),
    "nearest, vote": _vote,
    "similarity_walk": lambda _, x, e: ops.similarity_walk(e[..., ::4, ::4], x.softmax(1)[..., ::4, ::4]),
    "transition_matrix": _transition,
    "feature_walk_step": lambda _, __, e: ops.feature_walk_step(e[..., ::2, ::2], scale=5.0),
    "spanning_tree, tree_filter": _trees,
}

LOSSES: dict[str, Case] = {
    "partial_cross_entropy": lambda b, x, _: losses.partial_cross_entropy(x, b.labels),
    "dice_loss": lambda b, x, _: losses.dice_loss(x.softmax(1), b.labels),
    "dense_crf_loss": lambda b, x, _: losses.dense_crf_loss(x.softmax(1), b.rgb, roi=b.valid),
    "normalized_cut_loss": lambda b, x, _: losses.normalized_cut_loss(x.softmax(1), b.rgb, roi=b.valid),
    "kernel_cut_loss": lambda b, x, _: losses.kernel_cut_loss(x.softmax(1), b.rgb, gamma=0.1, roi=b.valid),
    "gated_crf_loss": lambda b, x, _: losses.gated_crf_loss(x.softmax(1), b.rgb),
    "constrain_to_boundary_loss": lambda b, x, _: losses.constrain_to_boundary_loss(
        x, b.rgb, iterations=3, roi=b.valid
    ),
    "tree_energy_loss": lambda b, x, e: losses.tree_energy_loss(x.softmax(1), _trees(b, x, e), counted=b.valid),
    "rawks_loss": lambda b, x, e: losses.rawks_loss(_walk(b, x, e), x, alpha=1.0, valid=b.valid),
    "uncertainty_weights": lambda b, x, e: losses.uncertainty_weights(_walk(b, x, e), alpha=1.0),
    "proposal_loss": lambda b, x, _: losses.proposal_loss(x, (2 * x.detach()).softmax(1), mask=b.valid),
    "expansion_loss": lambda b, x, _: losses.expansion_loss(x.softmax(1), b.image_tags),
    "maximum_entropy_loss": lambda b, x, _: losses.maximum_entropy_loss(x, valid=b.valid),
    "edge_loss": lambda b, x, _: losses.edge_loss(x[:, :1], b.maps["edges"], b.valid),
    "boundary_regression_loss": lambda b, x, _: losses.boundary_regression_loss(x[:, 0].sigmoid(), b.maps["edges"]),
    "feature_consistency_loss": lambda b, _, e: losses.feature_consistency_loss(e, e.detach().flip(3), valid=b.valid),
    "transition_consistency_loss": _consistency,
    "segsort_loss": _segsort,
    "mean_over_batch": lambda b, x, _: losses.mean_over_batch(x[:, 0], b.valid),
}


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative to the expected; the absolute one where that is 0."""
    if found.shape != expected.shape:
        return float("inf")
    apart, size = (found.detach().cpu().double() - expected.detach().double()).norm(), expected.detach().double().norm()
    return float(apart / size if size > 0 else apart)


def run_case(case: Case, device: torch.device, batch: Batch) -> tuple[Tensor, Tensor]:
    """Value and gradient with respect to logits and embeddings, on the CPU."""
    generator = torch.Generator().manual_seed(1)
    count, _, height, width = batch.rgb.shape
    logits = (2 * torch.randn(count, 4, height, width, generator=generator)).to(device).requires_grad_()
    embeddings = normalize(torch.randn(count, 8, height, width, generator=generator), dim=1).to(device).requires_grad_()
    value = case(moved(batch, device), logits, embeddings)
    if value.requires_grad:
        weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=value.dtype).to(device)
        (value * weight).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in (logits, embeddings)]
    return value.detach().cpu(), torch.cat([g.flatten() for g in gradients]).cpu()


def run_method(method: Method, device: torch.device, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss terms and gradients of a step of a small network without dropout, on the CPU."""
    torch.manual_seed(0)
    model = method.build(NetworkSpec(name="unet", dropout=0.0), 4).train()
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    model.to(device)
    terms = method.losses(model, moved(batch, device), sorted(method.term_names))
    torch.stack([term for term in terms.values() if term.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.stack([terms[name].detach().float() for name in sorted(terms)]).cpu(), torch.cat(gradients).cpu()


def parity(setting: Setting) -> dict[str, Any]:
    """Relative differences from the CPU by name; ``differ`` lists those above the tolerance."""
    batch = scene(2, 32, 40, 4)
    batch.valid[1, :, 36:] = False
    batch.labels[~batch.valid] = 255
    work: dict[str, Callable[[torch.device], tuple[Tensor, Tensor]]] = {}
    for kind, cases in (("operator", OPERATORS), ("loss", LOSSES)):
        work |= {f"{kind} {n}": lambda device, case=case: run_case(case, device, batch) for n, case in cases.items()}  # type: ignore[misc]
    for kind in METHODS:
        method = kind()  # type: ignore[call-arg]
        work[f"method {method.name}"] = lambda device, method=method: run_method(method, device, batch)  # type: ignore[misc]
    found: dict[str, Any] = {}
    for name, compute in work.items():
        try:
            (value, gradient), (expected, slope) = compute(setting.device), compute(torch.device("cpu"))
        except Exception as error:  # one that fails must not hide the others
            found[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        else:
            found[name] = {"value": difference(value, expected), "gradient": difference(gradient, slope)}
        print(f"  {name:44s} {found[name]}", flush=True)
    differ = [n for n, row in found.items() if "error" in row or not max(row.values()) <= TOLERANCE]
    return {"tolerance": TOLERANCE, "cases": found, "differ": differ}


# --- time and memory


def waits_in(step: Callable[[], None], device: torch.device) -> int | None:
    """Count how often a step waits for the device; None where it cannot be counted."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def measure_step(setting: Setting, method: Method, batch: Batch) -> dict[str, Any]:
    torch.manual_seed(0)
    cuda = setting.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setting.device)
    model = method.build(setting.network, setting.classes).to(setting.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)

    def step() -> None:
        with postponed(), torch.autocast(setting.device.type, torch.bfloat16):
            terms = method.losses(model, batch, sorted(method.term_names))
            loss = torch.stack([term.float() for term in terms.values() if term.requires_grad]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    seconds = setting.seconds(step)
    return {
        "ms": round(1e3 * seconds, 2),
        "peak_mib": round(torch.cuda.max_memory_allocated(setting.device) / 2**20) if cuda else None,
        "waits": waits_in(step, setting.device),
    }


def steps(setting: Setting) -> dict[str, Any]:
    """Per method: time of a step, what it adds to that of pce, peak memory, waits."""
    batch = moved(scene(setting.batch, setting.side, setting.side, setting.classes), setting.device)
    found: dict[str, Any] = {}
    for kind in METHODS:
        method = kind()  # type: ignore[call-arg]
        if setting.is_over():
            found[method.name] = {"left out": "no time"}
            continue
        try:
            row = measure_step(setting, method, batch)
        except torch.OutOfMemoryError:
            row = {"left out": "out of memory"}
        if "ms" in row and "ms" in found.get("pce", row):
            row["adds_ms"] = round(row["ms"] - found.get("pce", row)["ms"], 2)
        found[method.name] = row
        print(f"  {method.name:44s} {row}", flush=True)
    return found


def mean_field(setting: Setting) -> dict[str, Any]:
    """10 iterations, lattices included, of one image and of a batch."""
    found: dict[str, Any] = {}
    for side in (24,) if setting.tiny else (321, 513):
        for count in (1, setting.batch):
            images = scene(count, side, side, setting.classes).rgb.to(setting.device)
            logits = timing.scores(side, side)[:, : setting.classes].repeat(count, 1, 1, 1).to(setting.device)
            seconds = setting.seconds(lambda logits=logits, images=images: ops.mean_field(logits, images, **CRF))  # type: ignore[misc]
            found[f"{side}x{side}, {count}"] = {"ms_per_image": round(1e3 * seconds / count, 3)}
            print(f"  {side}x{side}, {count} at a time: {1e3 * seconds / count:.2f} ms per image", flush=True)
    return found


def walks(setting: Setting) -> dict[str, Any]:
    """Forward and backward."""
    found: dict[str, Any] = {}
    for height, width in ((12, 16),) if setting.tiny else ((96, 128), (512, 512)):
        batch = moved(scene(setting.batch, height, width, setting.classes), setting.device)
        boundary = torch.rand(batch.labels.shape, generator=torch.Generator().manual_seed(3)).to(setting.device)

        def walk(boundary: Tensor = boundary, labels: Tensor = batch.labels) -> None:
            leaf = boundary.clone().requires_grad_()
            ops.hitting_probabilities(leaf, labels, setting.classes).square().sum().backward()  # type: ignore[no-untyped-call]

        seconds = setting.seconds(walk)
        found[f"{height}x{width}"] = {"ms_per_image": round(1e3 * seconds / setting.batch, 3)}
        print(f"  {height}x{width}: {1e3 * seconds / setting.batch:.2f} ms per image", flush=True)
    return found


def loading(setting: Setting) -> dict[str, Any]:
    """Time of a batch from the loader, augmented and on the device, by number of processes."""
    made = scene(4, setting.side, setting.side, setting.classes)
    images, labels = made.rgb.permute(0, 2, 3, 1).to(torch.uint8).numpy(), made.labels.to(torch.uint8).numpy()
    count = setting.batch * (3 if setting.tiny else 20)
    data = TrainingSet(
        [str(n) for n in range(count)],
        lambda name: (images[int(name) % 4].copy(), {"labels": labels[int(name) % 4].copy()}),
        AugmentParams(crop=setting.side, flip=0.5),
        seed=0,
    )
    found: dict[str, Any] = {}
    for workers in (0,) if setting.tiny else sorted({0, min(8, os.cpu_count() or 1)}):
        sampler = EpochBatches(count, setting.batch, 1, 0)
        stream = batches(data, sampler, device=setting.device, workers=workers, channels_last=True)
        next(stream)  # starts the processes
        start = time.perf_counter()
        number = sum(1 for _ in stream)
        setting.synchronise()
        found[f"{workers} processes"] = {"ms_per_batch": round(1e3 * (time.perf_counter() - start) / number, 2)}
        print(f"  {workers} processes: {found[f'{workers} processes']}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Parity with the CPU, and times of training steps on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--minutes", type=float, default=7.0, help="what is not begun by then is left out")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            "no GPU is available to this PyTorch, so that there is nothing to measure; `--device cpu --tiny` runs every part",
            file=sys.stderr,
        )
        return 1
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    setting = Setting(device, options.tiny, time.monotonic() + 60 * options.minutes)
    parts = {"parity": parity, "steps": steps, "mean_field": mean_field, "walks": walks, "loading": loading}
    results: dict[str, Any] = {}
    begin = time.monotonic()
    for name in options.parts:
        if setting.is_over():
            results[name] = {"left out": "no time"}
            continue
        print(name, flush=True)
        results[name] = parts[name](setting)
    seconds = time.monotonic() - begin
    record = {
        "command": " ".join(["python", *sys.argv]),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else timing.processor(),
        "processor": timing.processor(),
        "cores": os.cpu_count(),
        "date": date.today().isoformat(),
        "versions": {
            "wss": wss.version.__version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "tiny": options.tiny,
        "seconds": round(seconds, 1),
        "results": results,
    }
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    differ = results.get("parity", {}).get("differ", [])
    print(
        f"{seconds:.0f} s; "
        + (f"differ from the CPU: {', '.join(differ)}" if differ else "nothing differs from the CPU")
    )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
