"""DenseCRF mean-field, 10 iterations, 21 classes, against pydensecrf: from logits to probabilities, lattices included.

    python benchmarks/mean_field.py --data DIR --out benchmarks/results/mean-field-NAME.json

Presets: `loss` (sigma_rgb 15, sigma_xy 100) and the usual post-processing ones, whose finer kernels mean larger lattices.
Variants take turns within each repeat, in one process; ratios are of CPU time. `agreement` is the share of pixels with equal
arg max. `bound` compares the bytes that an iteration moves, were each array read and written once per pass, with the bandwidth of
a triad measured in the same run: near 1 memory is the bound, far below it operations and the wait for single rows are.
"""

from __future__ import annotations

import importlib.util
from statistics import median
from typing import Any

import timing
import torch

from wss.kernels import native
from wss.ops import BilateralFilter, mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf

NAMES = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")
PRESETS = {
    "loss": (3, 3, 4, 100, 15),
    "largefov": (3, 3, 5, 50, 10),
    "msc": (3, 3, 4, 83, 5),
    "sec": (3, 3, 10, 80, 13),
    "vgg16": (2, 2, 4, 65, 3),
    "resnet101": (3, 1, 4, 67, 3),
}


ROW = 4 * 24
"""Bytes of the channels of a vertex or pixel: 21 classes, padded to whole vectors."""


def bytes_of_iteration(image: torch.Tensor, values: tuple[float, ...]) -> tuple[float, dict[str, float]]:
    """Bytes moved by one iteration, and vertices per pixel of both lattices."""
    _, xy_std, _, bi_xy_std, bi_rgb_std = values
    pixels = image.shape[1] * image.shape[2]
    images = image[None].float()
    colour = BilateralFilter(images, bi_rgb_std, bi_xy_std, mode="compat", backend="native")._lattice().vertices()
    position = BilateralFilter(images, None, xy_std, mode="compat", backend="native")._lattice().vertices()
    # Pixels: places in both lattices and the unary. Vertices: sliced, cleared, splatted to (read and written), and blurred in two
    # passes (read and written).
    moved = pixels * (48 + 24 + ROW) + (colour + position) * ROW * 8
    return float(moved), {"colour": round(colour / pixels, 3), "position": round(position / pixels, 3)}


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    one_thread = torch.get_num_threads() == 1
    with_pydensecrf = one_thread and importlib.util.find_spec("pydensecrf") is not None
    logits = timing.scores(height, width)
    three = logits.clone()
    three[:, 3:] = -torch.inf
    timings = timing.Timings()
    agreement: dict[str, float] = {}
    for image in timing.pictures(options.data, options.images, height, width):
        images = image[None]
        for _ in range(options.repeats):
            for preset, values in PRESETS.items():
                parameters: dict[str, Any] = dict(zip(NAMES, values, strict=True))
                ours = timings.measure(f"{preset}, wss", mean_field, logits, images, **parameters)[0]
                if with_pydensecrf:
                    theirs = timings.measure(
                        f"{preset}, pydensecrf", mean_field_pydensecrf, logits[0], image, **parameters
                    )
                    equal = float((ours.argmax(0) == theirs.argmax(0)).float().mean())
                    agreement[preset] = min(equal, agreement.get(preset, 1.0))
                if one_thread:
                    timings.measure(
                        f"{preset}, wss, one iteration", mean_field, logits, images, iterations=1, **parameters
                    )
                    timings.measure(f"{preset}, wss, 3 classes occur", mean_field, three, images, **parameters)
            if one_thread:
                few = dict(zip(NAMES, PRESETS["loss"], strict=True))
                timings.measure("loss, wss, 8 classes", mean_field, logits[:, :8], images, **few)
    ratios: dict[str, Any] = {f"pydensecrf / wss, {p}": timings.ratio(f"{p}, pydensecrf", f"{p}, wss") for p in PRESETS}
    ratios |= {
        f"21 classes / 3 that occur, {p}": timings.ratio(f"{p}, wss", f"{p}, wss, 3 classes occur") for p in PRESETS
    }
    ratios["21 classes / 8"] = timings.ratio("loss, wss", "loss, wss, 8 classes")
    ratios |= {f"agreement, {p}, worst picture": round(v, 6) for p, v in agreement.items()}
    bound: dict[str, Any] = {}
    if one_thread and native.available():
        bound["triad, GB/s"] = round(timing.bandwidth() / 1e9, 1)
        for preset, values in PRESETS.items():
            moved, cells = bytes_of_iteration(image, values)
            times = timings.cpu
            spent_ms = median(
                (ten - one) / 9
                for ten, one in zip(times[f"{preset}, wss"], times[f"{preset}, wss, one iteration"], strict=True)
            )
            bound[preset] = {
                "vertices per pixel": cells,
                "MB per iteration": round(moved / 1e6, 1),
                "ms per iteration": round(spent_ms, 2),
                "GB/s": round(moved / spent_ms / 1e6, 1),
                "share of triad": round(moved / spent_ms / 1e6 / bound["triad, GB/s"], 2),
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
        "K = 21, 10 iterations; medians over repeats and pictures, variants in turn; ratios are of CPU time",
    )


if __name__ == "__main__":
    main()
