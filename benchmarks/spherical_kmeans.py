"""Segments of SPML, and walks between similar pixels, against the straightforward ways to compute them.

    python benchmarks/spherical_kmeans.py --out benchmarks/results/spherical-kmeans-NAME.json

Sizes are those of the grid of cells: 81x81 for crops of 321 pixels, 129x129 for 513. The embedding is blobs with noise, of 64
channels. k-means of a batch against a loop over images and clusters, and against scipy.cluster.vq.kmeans2 from the same first
means, which does not keep them at unit length; walks against forming T and squaring it six times, on the grid of half that
resolution, for one image of four classes. Variants take turns within each repeat, in one process; ratios are of CPU time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import timing
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from wss.ops import segment_prototypes, similarity_walk, spherical_kmeans, split_segments
from wss.ops.spherical_kmeans import with_places

BATCH = 4
CHANNELS = 64
ITERATIONS = 10
GAMMA, BETA, SQUARINGS = 5.0, 20.0, 6


def embedding(batch: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randn(batch, CHANNELS, height // 12 + 2, width // 12 + 2, generator=generator)
    noise = torch.randn(batch, CHANNELS, height, width, generator=generator)
    return normalize(2 * interpolate(blobs, (height, width), mode="bilinear") + noise, dim=1)


def looped(cells: Tensor, first: Tensor) -> Tensor:
    """Clusters (B,N), image by image and cluster by cluster."""
    points = with_places(cells).flatten(2).transpose(1, 2).contiguous()
    found = []
    for image, clusters in zip(points, first, strict=True):
        count = int(clusters.max()) + 1
        means = torch.zeros(count, image.shape[1])
        for _ in range(ITERATIONS):
            for s in range(count):
                members = image[clusters == s]
                if len(members):
                    means[s] = normalize(members.sum(0), dim=0)
            clusters = (image @ means.T).argmax(1)
        found.append(clusters)
    return torch.stack(found)


def by_scipy(cells: Tensor, first: Tensor) -> list[np.ndarray]:
    points = with_places(cells).flatten(2).transpose(1, 2).contiguous()
    found = []
    for image, clusters in zip(points.numpy(), first.numpy(), strict=True):
        means = np.stack([image[clusters == s].mean(0) for s in range(clusters.max() + 1)])
        found.append(kmeans2(image, means, iter=ITERATIONS, minit="matrix", missing="warn")[1])
    return found


def squared(embeddings: Tensor, scores: Tensor) -> Tensor:
    """Scores after 2^SQUARINGS steps, with T and its powers formed."""
    e = embeddings[0].flatten(1)
    transition = (GAMMA * (e.T @ e - 1)).exp() ** BETA
    transition = transition / transition.sum(0)
    for _ in range(SQUARINGS):
        transition = transition @ transition
    return scores[0].flatten(1) @ transition


def measure(height: int, width: int, options: Any) -> dict[str, Any]:
    timings = timing.Timings()
    agreement: dict[str, float] = {}
    for seed in range(options.images):
        cells = embedding(BATCH, height, width, seed)
        regions = torch.arange(height * width).reshape(1, height, width).expand(BATCH, -1, -1) // 97
        coarse = embedding(1, height // 2, width // 2, seed)
        scores = torch.rand(1, 4, height // 2, width // 2, generator=torch.Generator().manual_seed(seed))
        for _ in range(options.repeats):
            for grid in (6, 12):
                first = spherical_kmeans(cells, grid=grid, iterations=0).flatten(1)
                found = timings.measure(f"k-means {grid}x{grid}, wss", spherical_kmeans, cells, grid=grid)
                other = timings.measure(f"k-means {grid}x{grid}, loop", looped, cells, first)
                timings.measure(f"k-means {grid}x{grid}, scipy", by_scipy, cells, first)
                agreement[f"{grid}x{grid}"] = round(float((found.flatten(1) == other).float().mean()), 5)
            segments = timings.measure("splitting clusters by regions", split_segments, found, regions)
            timings.measure("prototypes", segment_prototypes, cells, segments)
            timings.measure("walk, 6 steps as printed, wss", similarity_walk, coarse, scores)
            walked = timings.measure(
                "walk, 64 steps, wss", similarity_walk, coarse, scores, steps=2**SQUARINGS, normalised="after"
            )
            powers = timings.measure("walk, 6 squarings of T", squared, coarse, scores)
            powers = (powers / powers.sum(0)).reshape(walked[0].shape)
            agreement["walk, largest difference"] = float(f"{float((walked[0] - powers).abs().max()):.1e}")
    ratios = {
        f"{slow} / {fast}": timings.ratio(slow, fast)
        for slow, fast in (
            ("k-means 6x6, loop", "k-means 6x6, wss"),
            ("k-means 6x6, scipy", "k-means 6x6, wss"),
            ("k-means 12x12, loop", "k-means 12x12, wss"),
            ("k-means 12x12, scipy", "k-means 12x12, wss"),
            ("walk, 6 squarings of T", "walk, 64 steps, wss"),
        )
    }
    return {
        "times": timings.rows(),
        "ratios": ratios,
        "same clusters as the loop": agreement,
    }


def main() -> None:
    assert __doc__
    timing.run(
        __doc__,
        measure,
        f"{BATCH} images of {CHANNELS} channels for k-means and segments, 1 of half the resolution for walks; medians over "
        "repeats and embeddings, variants in turn; ratios are of CPU time",
        sizes=["81x81"],
        threads=[1],
    )


if __name__ == "__main__":
    main()
