"""Random-walk hitting probabilities, forward and backward, against plain sparse LU and scikit-image's random walker.

    python benchmarks/hitting.py --out benchmarks/results/hitting-NAME.json

One image with four scribbled classes; boundaries are the gradient of a photograph (--data) or of a generated picture, up to
3, as a network's bounded scores are. "Walls" are 40 times higher and need rescaling, which plain LU lacks. Plain LU is what
one writes first: the matrix of 4 exp(B_x) Z_x - sum Z_x' = 0, scipy.sparse.linalg.splu as it comes or with the ordering for
symmetric patterns, a solve per pass. scikit-image's walker is another model, without a backward pass: its time is for
orientation. Variants take turns within each repeat, in one process; ratios are of CPU time.
"""

from __future__ import annotations

import warnings
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import timing
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from skimage.segmentation import random_walker

from wss.ops import hitting_probabilities

CLASSES = 4
BACKENDS = ("native", "scipy", "torch")
SIZES = ["96x128", "128x128", "256x256", "512x512"]
ORDERED = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}


def boundaries(image: torch.Tensor) -> torch.Tensor:
    """(1,H,W), 0 to about 3."""
    grey = image.double().mean(0) / 255
    down, right = torch.gradient(grey)
    return (20 * (down.square() + right.square()).sqrt()).clamp(max=3)[None]


def scribbles(height: int, width: int) -> torch.Tensor:
    """(1,H,W) four strokes, a few per cent of the pixels."""
    labels = torch.full((1, height, width), 255)
    for k in range(CLASSES):
        top, left = height * (1 + 4 * (k // 2)) // 8, width * (1 + 4 * (k % 2)) // 8
        labels[0, top : top + max(2, height // 50), left : left + width // 4] = k
    return labels


def plain(boundary: torch.Tensor, labels: torch.Tensor, gradient: torch.Tensor, options: dict[str, Any]) -> Any:
    """P (K,H,W) and the gradient with respect to B (H,W), with one factorisation."""
    scores, known = boundary[0].numpy(), labels[0].numpy()
    height, width = scores.shape
    pixel = np.arange(height * width).reshape(height, width)
    free = known == 255
    rows, columns = [pixel.ravel()], [pixel.ravel()]
    values = [np.where(free, 4 * np.exp(scores), 1).ravel()]
    for a, b in (
        (pixel[:-1], pixel[1:]),
        (pixel[1:], pixel[:-1]),
        (pixel[:, :-1], pixel[:, 1:]),
        (pixel[:, 1:], pixel[:, :-1]),
    ):
        start, end = a.ravel(), b.ravel()
        rows.append(start)
        columns.append(end)
        values.append(-free.ravel()[start].astype(float))
    matrix = csc_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))))
    matrix.eliminate_zeros()
    factor = splu(matrix, **options)
    hot = np.stack([(known == k).ravel() for k in range(CLASSES)], 1).astype(float)
    z = factor.solve(hot)
    total = z.sum(1, keepdims=True)
    probs = z / total
    upstream = gradient[0].numpy().reshape(CLASSES, -1).T
    adjoint = factor.solve((upstream - (upstream * probs).sum(1, keepdims=True)) / total, trans="T")
    derivative = -(adjoint * z).sum(1) * np.where(free, 4 * np.exp(scores), 0).ravel()
    return probs.T.reshape(CLASSES, height, width), derivative.reshape(height, width)


def ours(boundary: torch.Tensor, labels: torch.Tensor, gradient: torch.Tensor, backend: Any) -> Any:
    leaf = boundary.clone().requires_grad_()
    probs = hitting_probabilities(leaf, labels, CLASSES, backend=backend)
    (derivative,) = torch.autograd.grad(probs, leaf, gradient)
    return probs[0].detach().numpy(), derivative[0].numpy()


def scikit_image(image: torch.Tensor, labels: torch.Tensor, mode: str) -> Any:
    seeds = torch.where(labels[0] == 255, 0, labels[0] + 1).numpy()
    grey = image.double().mean(0).numpy() / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return random_walker(grey, seeds, beta=100, mode=mode, return_full_prob=True)


def difference(result: Any, truth: Any) -> list[float]:
    """Largest of P, and of the gradient as a share of its largest entry."""
    return [float(f"{abs(a - b).max() / max(abs(b).max(), 1e-300):.1e}") for a, b in zip(result, truth, strict=True)]


def operations_of(height: int, width: int) -> float:
    """Floating-point operations of nested dissection: every front eliminates its own pixels from those around it."""

    @cache
    def front(h: int, w: int, top: bool, bottom: bool, left: bool, right: bool) -> float:
        border = w * (top + bottom) + h * (left + right)
        if h * w <= 6:
            own, rest = h * w, 0.0
        elif h >= w:
            own, middle = w, (h - 1) // 2
            rest = front(middle, w, top, True, left, right) + front(h - middle - 1, w, True, bottom, left, right)
        else:
            own, middle = h, (w - 1) // 2
            rest = front(h, middle, top, bottom, left, True) + front(h, w - middle - 1, top, bottom, True, right)
        return rest + 2 * (own**3 / 3 + own**2 * border + own * border**2)

    return front(height, width, False, False, False, False)


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    labels = scribbles(height, width)
    gradient = torch.rand(1, CLASSES, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    timings = timing.Timings()
    errors: dict[str, list[float]] = {}
    for image in timing.pictures(options.data, options.images, height, width):
        easy = boundaries(image)
        for backend in BACKENDS:
            ours(easy, labels, gradient, backend)  # once per size: ordering and plan
        for _ in range(options.repeats):
            truth = timings.measure("splu", plain, easy, labels, gradient, {})
            found = timings.measure("splu, MMD_AT_PLUS_A", plain, easy, labels, gradient, ORDERED)
            errors["splu, MMD_AT_PLUS_A"] = difference(found, truth)
            for backend in BACKENDS:
                found = timings.measure(f"wss, {backend}", ours, easy, labels, gradient, backend)
                errors[f"wss, {backend}"] = difference(found, truth)
                timings.measure(f"wss, {backend}, walls", ours, 40 * easy, labels, gradient, backend)
            if height * width <= 256 * 256:
                timings.measure("scikit-image bf, forward only", scikit_image, image, labels, "bf")
            timings.measure("scikit-image cg_j, forward only", scikit_image, image, labels, "cg_j")
    ratios = {}
    for backend in BACKENDS:
        for other in (
            "splu",
            "splu, MMD_AT_PLUS_A",
            "scikit-image bf, forward only",
            "scikit-image cg_j, forward only",
        ):
            ratios[f"{other} / wss, {backend}"] = timings.ratio(other, f"wss, {backend}")
    spent_ms, peak = median(timings.cpu["wss, native"]), timing.operations()
    needed = operations_of(height, width) if "wss, native" in timings.cpu else 0.0
    bound = {
        "product of matrices, GFLOP/s": round(peak / 1e9, 1),
        "GFLOP of the elimination": round(needed / 1e9, 4),
        "GFLOP/s over forward and backward": round(needed / spent_ms / 1e6, 2),
        "share of forward and backward at the speed of the product": round(needed / peak * 1e3 / spent_ms, 2),
    }
    return {
        "bound": bound,
        "times": timings.rows(),
        "ratios": {k: v for k, v in ratios.items() if v is not None},
        "difference to splu in P and gradient": errors,
    }


def main() -> None:
    assert __doc__
    timing.run(
        __doc__,
        measure,
        "forward and backward, float64, 1 image, 4 labels; medians over repeats and pictures, variants in turn; ratios are of "
        "CPU time; the paper reports 800 ms per image of about 96x128",
        sizes=SIZES,
        threads=[1],
    )


if __name__ == "__main__":
    main()
