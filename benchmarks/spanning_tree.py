"""Speed of spanning trees and of averages along them: the compiled kernel against SciPy, and the whole tree energy loss.

    python benchmarks/spanning_tree.py --out benchmarks/results/spanning-tree-NAME.json

Both find the same trees and the same averages, which is measured too. Medians over repeats and pictures, variants in turn; ratios
are of CPU time.
"""

from __future__ import annotations

from typing import Any

import timing
from torch import Tensor

from wss.losses import tree_energy_loss, tree_targets
from wss.ops import spanning_tree, tree_filter

SIGMA = 0.02


def loss(probs: Tensor, colours: Tensor) -> None:
    leaf = probs.clone().requires_grad_()
    tree_energy_loss(leaf, tree_targets(leaf, colours, colours)).backward()


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    probs = timing.scores(height, width).softmax(1)
    timings = timing.Timings()
    difference = 0.0
    for picture in timing.pictures(options.data, options.images, height, width):
        colours = picture[None] / 255
        for _ in range(options.repeats):
            found = {}
            for backend in ("native", "scipy"):
                trees = timings.measure(f"tree, {backend}", spanning_tree, colours, backend=backend)
                found[backend] = timings.measure(f"averages, {backend}", tree_filter, probs, trees, sigma=SIGMA)
            difference = max(difference, float((found["native"] - found["scipy"]).abs().max()))
            timings.measure("tree energy loss, forward and backward", loss, probs, colours)
    return {
        "times": timings.rows(),
        "ratios": {
            f"{part}, scipy / native": timings.ratio(f"{part}, scipy", f"{part}, native")
            for part in ("tree", "averages")
        },
        "largest difference of averages": float(f"{difference:.1e}"),
    }


def main() -> None:
    assert __doc__
    timing.run(
        __doc__,
        measure,
        f"one image, averages of {timing.CLASSES} channels, the loss with two trees; medians over repeats and pictures, "
        "variants in turn; ratios are of CPU time",
        sizes=["128x128", "513x513"],
        threads=[1],
    )


if __name__ == "__main__":
    main()
