"""Cost of the gated CRF loss, forward and backward: pairs by shifts against unfolded windows, and against the dense CRF loss.

    python benchmarks/gated_crf.py --threads 1 --out benchmarks/results/gated-crf-NAME.json

The unfolded windows are what the equation says in tensors of (2r + 1)^2 copies of S, with autograd. Medians over repeats and
pictures, variants in turn; ratios are of CPU time. Peak memory is what one call allocates at most, as the profiler counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timing
import torch
from torch import Tensor
from torch.nn.functional import unfold
from torch.profiler import ProfilerActivity, profile

from wss.losses import dense_crf_loss, gated_crf_loss

RADIUS, SIGMA_RGB, SIGMA_XY = 5, 25.5, 6.0


def windows(maps: Tensor) -> Tensor:
    """(B,C,(2r+1)^2,H,W), 0 outside the image."""
    side = 2 * RADIUS + 1
    return unfold(maps, side, padding=RADIUS).view(*maps.shape[:2], side**2, *maps.shape[2:])


def unfolded(probs: Tensor, images: Tensor) -> Tensor:
    y, x = torch.meshgrid(torch.arange(images.shape[2]), torch.arange(images.shape[3]), indexing="ij")
    place = (torch.stack([y, x]) / SIGMA_XY)[None].expand(len(images), -1, -1, -1)
    features = torch.cat([images / SIGMA_RGB, place], 1)
    inside = windows(torch.ones_like(images[:, :1]))
    inside[:, :, inside.shape[2] // 2] = 0
    affinity = (-0.5 * (windows(features) - features[:, :, None]).square().sum(1, keepdim=True)).exp() * inside
    agreement = (windows(probs) * probs[:, :, None]).sum(1, keepdim=True)
    return (affinity * (1 - agreement)).sum() / probs[:, 0].numel()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gated crf": gated_crf_loss,
    "gated crf, unfolded": unfolded,
    "gated crf, scale 0.25": lambda p, i: gated_crf_loss(p, i, scale=0.25),
    "dense crf": dense_crf_loss,
}


def step(loss: Callable[[Tensor, Tensor], Tensor], probs: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = probs.clone().requires_grad_()
    value = loss(leaf, images)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def peak(work: Callable[[], Any]) -> float:
    """Megabytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    held = largest = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            largest = max(largest, held)
    return round(largest / 1e6, 1)


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    probs = timing.scores(height, width).softmax(1)
    timings = timing.Timings()
    difference = 0.0
    for picture in timing.pictures(options.data, options.images, height, width):
        images = picture[None].float()
        for _ in range(options.repeats):
            found = {name: timings.measure(name, step, loss, probs, images) for name, loss in LOSSES.items()}
        value, gradient = found["gated crf"]
        other, expected = found["gated crf, unfolded"]
        difference = max(
            difference,
            abs(float(value - other)) / float(other),
            float((gradient - expected).abs().max() / expected.abs().max()),
        )
    return {
        "times": timings.rows(),
        "ratios": {
            f"{slow} / {fast}": timings.ratio(slow, fast)
            for slow, fast in (("gated crf, unfolded", "gated crf"), ("gated crf", "dense crf"))
        },
        "peak_mb": {name: peak(lambda loss=loss: step(loss, probs, images)) for name, loss in LOSSES.items()},
        "largest relative difference from unfolded, value and gradient": float(f"{difference:.1e}"),
    }


def main() -> None:
    assert __doc__
    results = timing.run(
        __doc__,
        measure,
        f"one image of {timing.CLASSES} classes, forward and backward, radius {RADIUS}; medians over repeats and pictures, "
        "variants in turn; ratios are of CPU time",
        sizes=["128x128", "257x257"],
        threads=[1],
    )
    for result in results:
        print(result["size"], result["peak_mb"])


if __name__ == "__main__":
    main()
