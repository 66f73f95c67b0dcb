"""DenseCRF mean-field, 10 iterations, 21 classes, against pydensecrf: from logits to probabilities, lattices included.

    python benchmarks/mean_field.py --data DIR --out benchmarks/results/mean-field-NAME.json

Presets: `loss` (sigma_rgb 15, sigma_xy 100) and the usual post-processing ones, whose finer kernels mean larger lattices.
Variants take turns within each repeat, in one process; ratios are of CPU time. `agreement` is the share of pixels with equal
arg max.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import timing
import torch

from wss.ops import mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf

NAMES = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")
PRESETS = {
    "loss": (3, 3, 4, 100, 15),
    "largefov": (3, 3, 5, 50, 10),
    "vgg16": (2, 2, 4, 65, 3),
    "resnet101": (3, 1, 4, 67, 3),
}


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    one_thread = torch.get_num_threads() == 1
    with_pydensecrf = one_thread and importlib.util.find_spec("pydensecrf") is not None
    logits = timing.scores(height, width)
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
                few = dict(zip(NAMES, PRESETS["loss"], strict=True))
                timings.measure("loss, wss, 8 classes", mean_field, logits[:, :8], images, **few)
    ratios: dict[str, Any] = {f"pydensecrf / wss, {p}": timings.ratio(f"{p}, pydensecrf", f"{p}, wss") for p in PRESETS}
    ratios["21 classes / 8"] = timings.ratio("loss, wss", "loss, wss, 8 classes")
    ratios |= {f"agreement, {p}, worst picture": round(v, 6) for p, v in agreement.items()}
    return {
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
