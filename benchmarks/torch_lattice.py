"""The lattice without compiled kernels: build, filter and mean-field in torch against the compiled ones and pydensecrf.

    python benchmarks/torch_lattice.py --data DIR --out benchmarks/results/torch-lattice-NAME.json
    python benchmarks/torch_lattice.py --quick

K = 21, sigma_rgb 15, sigma_xy 100, 10 iterations of mean-field with both kernels. Variants take turns within each repeat, in one
process; ratios are of CPU time. `batch of 4` is the time per image.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import timing
import torch
from bilateral import SIGMA_RGB, SIGMA_XY, pydensecrf_build, pydensecrf_filter_s

from wss.kernels import native
from wss.ops import BilateralFilter, mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf

CRF = {"pos_weight": 3, "pos_xy_std": 3, "bi_weight": 4, "bi_xy_std": SIGMA_XY, "bi_rgb_std": SIGMA_RGB}
QUICK = ["--sizes", "321x321", "--threads", "1", "--images", "1", "--repeats", "3"]


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    one_thread = torch.get_num_threads() == 1
    with_pydensecrf = one_thread and importlib.util.find_spec("pydensecrf") is not None
    logits = timing.scores(height, width)
    probs = torch.softmax(logits, 1)
    energy = -torch.log_softmax(logits, 1)[0].reshape(timing.CLASSES, -1).numpy()
    timings = timing.Timings()
    for image in timing.pictures(options.data, options.images, height, width):
        images = image[None].float()
        four = images.repeat(4, 1, 1, 1)
        for _ in range(options.repeats):
            for name in ("torch", "native") if native.available() else ("torch",):
                backend: Any = name
                built = timings.measure(f"build, {name}", BilateralFilter, images, SIGMA_RGB, SIGMA_XY, backend=backend)
                timings.measure(f"filter, symmetric, {name}", built.filter, probs)
                compat = BilateralFilter(images, SIGMA_RGB, SIGMA_XY, backend=backend, mode="compat")
                timings.measure(f"filter, compat, {name}", compat.filter, probs)
                timings.measure(f"mean-field, {name}", mean_field, logits, images, backend=backend, **CRF)
            if one_thread:
                begun = timings.measure(
                    "build, torch, 4 images", BilateralFilter, four, SIGMA_RGB, SIGMA_XY, backend="torch"
                )
                timings.measure("filter, torch, 4 images", begun.filter, probs.expand(4, -1, -1, -1))
            if with_pydensecrf:
                crf = timings.measure("build, pydensecrf", pydensecrf_build, image, energy.copy(), True)
                bare = pydensecrf_build(image, energy.copy(), False)
                timings.note("filter, pydensecrf", *pydensecrf_filter_s(crf, bare))
                timings.measure("mean-field, pydensecrf", mean_field_pydensecrf, logits[0], image, **CRF)
    ratios = {
        f"{part}: {slow} / {fast}": timings.ratio(f"{part.split(' ')[0]}, {slow}", f"{part}, {fast}")
        for part, slow, fast in (
            ("build", "torch", "native"),
            ("build", "pydensecrf", "torch"),
            ("mean-field", "torch", "native"),
            ("mean-field", "pydensecrf", "torch"),
        )
    }
    ratios["filter, compat: pydensecrf / torch"] = timings.ratio("filter, pydensecrf", "filter, compat, torch")
    ratios["filter, symmetric: torch / native"] = timings.ratio("filter, symmetric, torch", "filter, symmetric, native")
    return {"times": timings.rows(), "ratios": {k: v for k, v in ratios.items() if v is not None}}


def main() -> None:
    assert __doc__
    if "--quick" in sys.argv:
        at = sys.argv.index("--quick")
        sys.argv[at : at + 1] = QUICK
    timing.run(
        __doc__,
        measure,
        "K = 21, sigma_rgb 15, sigma_xy 100; medians over repeats and pictures, variants in turn; ratios are of CPU time",
    )


if __name__ == "__main__":
    main()
