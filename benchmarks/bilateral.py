"""Bilateral filtering of 21 channels, against pydensecrf and against the same filter channel by channel.

    python benchmarks/bilateral.py --data DIR --out benchmarks/results/bilateral-NAME.json

sigma_rgb 15, sigma_xy 100. pydensecrf does not offer its filter alone: its time is that of an iteration with the bilateral
kernel less that of an iteration without kernels. Variants take turns within each repeat, in one process; ratios are of CPU time.
"""

from __future__ import annotations

import importlib.util
import time
from statistics import median
from typing import Any

import numpy as np
import timing
import torch

from wss.ops import BilateralFilter

SIGMA_RGB, SIGMA_XY = 15.0, 100.0
MORE = 3
"""Iterations between the two calls whose difference is taken for pydensecrf."""


def pydensecrf_build(image: torch.Tensor, energy: np.ndarray, bilateral: bool) -> Any:
    from pydensecrf.densecrf import DenseCRF2D

    crf = DenseCRF2D(image.shape[2], image.shape[1], timing.CLASSES)
    crf.setUnaryEnergy(energy)
    if bilateral:
        pixels = np.array(image.permute(1, 2, 0).numpy(), order="C")
        crf.addPairwiseBilateral(sxy=SIGMA_XY, srgb=SIGMA_RGB, rgbim=pixels, compat=4)
    return crf


def pydensecrf_filter_s(crf: Any, bare: Any) -> tuple[float, float]:
    """Wall and CPU seconds of one filter."""
    spent = []
    for engine in (crf, bare):
        for iterations in (1, 1 + MORE):
            wall, cpu = time.perf_counter(), time.process_time()
            engine.inference(iterations)
            spent.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall_s, cpu_s = (((spent[1][i] - spent[0][i]) - (spent[3][i] - spent[2][i])) / MORE for i in (0, 1))
    return wall_s, cpu_s


def one_by_one(bilateral: BilateralFilter, x: torch.Tensor) -> list[torch.Tensor]:
    return [bilateral.filter(channel) for channel in x.split(1, dim=1)]


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    one_thread = torch.get_num_threads() == 1
    with_pydensecrf = one_thread and importlib.util.find_spec("pydensecrf") is not None
    logits = timing.scores(height, width)
    probs = torch.softmax(logits, 1)
    three = torch.cat([probs[:, :3], torch.zeros_like(probs[:, 3:])], 1)
    energy = np.ascontiguousarray(-torch.log_softmax(logits, 1)[0].reshape(timing.CLASSES, -1).numpy())
    timings = timing.Timings()
    sigmas = (SIGMA_RGB, SIGMA_XY)
    for image in timing.pictures(options.data, options.images, height, width):
        images = image[None].float()
        for _ in range(options.repeats):
            if with_pydensecrf:
                crf = timings.measure("pydensecrf, build", pydensecrf_build, image, energy, True)
                timings.note("pydensecrf, filter", *pydensecrf_filter_s(crf, pydensecrf_build(image, energy, False)))
            built = timings.measure("build", BilateralFilter, images, *sigmas)
            compat = BilateralFilter(images, *sigmas, mode="compat")
            timings.measure("filter, compat", compat.filter, probs, calls=3)
            timings.measure("filter, symmetric", built.filter, probs, calls=3)
            if one_thread:
                timings.measure("filter, symmetric, 3 of 21 occur", built.filter, three, calls=3)
                timings.measure("filter, symmetric, one by one", one_by_one, built, probs)
                timings.measure("filter, symmetric, 8 channels", built.filter, probs[:, :8], calls=3)
        if one_thread:
            accurate = timings.measure("build, accurate", BilateralFilter, images, *sigmas, mode="accurate")
            timings.measure("filter, accurate", accurate.filter, probs)
            portable = timings.measure("build, torch", BilateralFilter, images, *sigmas, backend="torch")
            timings.measure("filter, symmetric, torch", portable.filter, probs)
    ratios = {
        "pydensecrf / wss, build": timings.ratio("pydensecrf, build", "build"),
        "pydensecrf / wss, filter (compat)": timings.ratio("pydensecrf, filter", "filter, compat"),
        "pydensecrf / wss, filter (symmetric)": timings.ratio("pydensecrf, filter", "filter, symmetric"),
        "one by one / together": timings.ratio("filter, symmetric, one by one", "filter, symmetric"),
        "21 channels / 8": timings.ratio("filter, symmetric", "filter, symmetric, 8 channels"),
    }
    ratios["21 channels / 3 that occur"] = timings.ratio("filter, symmetric", "filter, symmetric, 3 of 21 occur")
    bound: dict[str, Any] = {}
    if one_thread:
        pixels, row = height * width, 4 * 24
        vertices = compat._lattice().vertices()
        # Pixels: their places twice, the planes read and written. Vertices: cleared, splatted to, blurred in two passes, sliced.
        moved = pixels * (2 * 48 + 2 * 4 * timing.CLASSES) + vertices * row * 8
        spent_ms, triad = median(timings.cpu["filter, compat"]), timing.bandwidth()
        bound = {
            "triad, GB/s": round(triad / 1e9, 1),
            "vertices per pixel": round(vertices / pixels, 3),
            "MB per filter (compat)": round(moved / 1e6, 1),
            "GB/s": round(moved / spent_ms / 1e6, 1),
            "share of triad": round(moved / spent_ms * 1e3 / triad, 2),
        }
    return {
        "bound": bound,
        "times": timings.rows(),
        "ratios": {k: v for k, v in ratios.items() if v is not None},
    }


def main() -> None:
    assert __doc__
    timing.run(
        __doc__,
        measure,
        "K = 21, sigma_rgb 15, sigma_xy 100; medians over repeats and pictures, variants in turn; ratios are of CPU time",
    )


if __name__ == "__main__":
    main()
