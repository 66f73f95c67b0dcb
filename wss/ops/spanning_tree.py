"""Minimum spanning trees of images, and averages over pixels weighted by their distance along the tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.sparse.linalg import splu
from torch import Tensor

from wss.errors import DataError, UsageError
from wss.kernels import tree

Backend = Literal["auto", "native", "scipy"]


@dataclass(frozen=True)
class SpanningTree:
    """Spanning trees of a batch of images of one size, on the CPU. The root is the first pixel.

    Attributes:
        order: int32 (B,N), list of the N = H W pixels (row-major indices) in which parents come before their children.
        parent: int32 (B,N), for each pixel of that list the position of its parent in the list. The root is its own
            parent.
        length: float32 (B,N), length of the edge to the parent; 0 for the root.
        height: H.
        width: W.
        backend: ``native`` or ``scipy``: built the trees and computes sums over them.
    """

    order: Tensor
    parent: Tensor
    length: Tensor
    height: int
    width: int
    backend: Literal["native", "scipy"]


@torch.no_grad()
def spanning_tree(
    features: Tensor, *, valid: Tensor | None = None, backend: Backend = "auto", jobs: int | None = None
) -> SpanningTree:
    """Minimum spanning trees of the four-connected pixel grid; squared feature differences are the lengths of edges.

    Edges of equal length have a fixed order: edges to the right before edges down, each row by row. So the tree is
    unique even where the image is flat.

    Args:
        features: float (B,C,H,W). Lengths are computed in float32.
        valid: bool (B,H,W), False on padding. Edges to padding are infinitely long, so nothing passes along them. None
            is True everywhere.
        backend: ``native`` (compiled) or ``scipy``. Both run on the CPU and give the same result. ``auto`` is native if
            it is installed.
        jobs: Number of images at a time with ``native``; None takes ``torch.get_num_threads()``.

    Raises:
        UsageError: Shapes or names are unusable.
        DataError: Features of valid pixels are not finite.

    Source: Liang et al. 2022, "Tree Energy Loss", arXiv:2203.10739, after Song et al. 2019, "Learnable Tree Filter".
    """
    if features.ndim != 4 or not features.is_floating_point() or 0 in features.shape[1:]:
        raise UsageError(f"features must be floating point (B,C,H,W), not empty; got {tuple(features.shape)}")
    batch, _, height, width = features.shape
    if valid is not None and (valid.shape != (batch, height, width) or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {(batch, height, width)}; got {valid.dtype} {tuple(valid.shape)}")
    if backend not in ("auto", "native", "scipy"):
        raise UsageError(f"backend is auto, native or scipy; got {backend!r}")
    chosen: Literal["native", "scipy"] = (
        "native" if backend == "native" or (backend == "auto" and tree.available()) else "scipy"
    )
    lengths = _lengths(features.to(torch.float32), valid).cpu().contiguous()
    if lengths.isnan().any():
        raise DataError("features must be finite on valid pixels: look for a diverged network")
    if chosen == "native":
        arrays = tree.build(lengths, height, width, jobs or torch.get_num_threads())
    else:
        arrays = _by_scipy(lengths.numpy(), height, width)
    return SpanningTree(*arrays, height, width, chosen)


@torch.no_grad()
def tree_filter(values: Tensor, trees: SpanningTree, *, sigma: float = 1.0, jobs: int | None = None) -> Tensor:
    """Average over all pixels: y_i = sum_j a_ij x_j / sum_j a_ij with a_ij = exp(-D_ij / sigma).

    D_ij is the length of the path from i to j along the tree. Two passes over the tree, from the leaves and from the
    root, compute all averages in time linear in the number of pixels. The filter runs on the CPU in float64, for values
    on any device, and gives no gradient.

    Args:
        values: x, float (B,C,H,W).
        trees: Trees of the same batch and size.
        sigma: Scale of lengths, positive. A larger value averages over longer paths.
        jobs: Number of images at a time with native trees; None takes ``torch.get_num_threads()``.

    Returns:
        y, of the shape, dtype and device of the values and within their range. Padding (``valid`` of ``spanning_tree``)
        keeps its values.

    Raises:
        UsageError: Shapes disagree, or sigma is not positive.

    Source: Liang et al. 2022, arXiv:2203.10739; the passes are those of Yang 2015, "Stereo Matching Using Tree
        Filtering".
    """
    batch, channels, height, width = values.shape if values.ndim == 4 else (-1, 0, 0, 0)
    if (batch, height, width) != (len(trees.order), trees.height, trees.width):
        raise UsageError(
            f"values must be (B,C,H,W) of {len(trees.order)} images of {trees.height}x{trees.width}; got {tuple(values.shape)}"
        )
    if not sigma > 0:
        raise UsageError(f"sigma must be positive; got {sigma}")
    weight = torch.exp(trees.length.double() / -sigma)
    source = values.detach().double().flatten(2).transpose(1, 2).cpu()
    source = torch.cat([source, torch.ones_like(source[..., :1])], 2).contiguous()
    if trees.backend == "native":
        sums = tree.sums(trees.order, trees.parent, weight, source, jobs or torch.get_num_threads())
    else:
        arrays = (x.numpy() for x in (trees.order, trees.parent, weight, source))
        per_image = [torch.from_numpy(_sums(*image)) for image in zip(*arrays, strict=True)]
        sums = torch.stack(per_image) if per_image else source
    means = sums[..., :channels] / sums[..., channels:]
    return means.transpose(1, 2).reshape(values.shape).to(values)


def _lengths(features: Tensor, valid: Tensor | None) -> Tensor:
    """Lengths of the edges, (B,E): first the edges to the right, then the edges down, each row by row."""
    lengths = []
    for dim in (3, 2):
        count = features.shape[dim] - 1
        length = (features.narrow(dim, 1, count) - features.narrow(dim, 0, count)).square().sum(1)
        if valid is not None:
            inside = valid.narrow(dim - 1, 1, count) & valid.narrow(dim - 1, 0, count)
            length = length.where(inside, torch.inf)
        lengths.append(length.flatten(1))
    return torch.cat(lengths, 1)


def _by_scipy(lengths: NDArray[np.float32], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    pixel = np.arange(height * width).reshape(height, width)
    start = np.concatenate([pixel[:, :-1].ravel(), pixel[:-1].ravel()])
    end = np.concatenate([pixel[:, 1:].ravel(), pixel[1:].ravel()])
    orders, parents = np.zeros((2, len(lengths), pixel.size), dtype=np.int32)
    edges = np.zeros(orders.shape, dtype=np.float32)
    for b, image in enumerate(lengths):
        # Ranks instead of lengths: scipy takes 0 as a missing edge, and ranks are all different.
        ranks = np.empty(len(image))
        ranks[np.argsort(image, kind="stable")] = np.arange(1, len(image) + 1)
        graph = csr_matrix((ranks, (start, end)), shape=(pixel.size, pixel.size))
        order, before = breadth_first_order(minimum_spanning_tree(graph), 0, directed=False)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        here, above = order[1:], before[order[1:]]
        low, across = np.minimum(here, above), (here // width == above // width)
        orders[b], parents[b, 1:] = order, place[above]
        edges[b, 1:] = image[np.where(across, low - low // width, height * (width - 1) + low)]
    return torch.from_numpy(orders), torch.from_numpy(parents), torch.from_numpy(edges)


def _sums(order: NDArray[Any], parent: NDArray[Any], weight: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Sums over one tree, (N,C). Both passes, from the leaves and from the root, solve a triangular system."""
    count = len(order)
    listed = np.arange(count)
    entries = np.concatenate([np.ones(count), -weight[1:]])
    places = (np.concatenate([listed, parent[1:]]), np.concatenate([listed, listed[1:]]))
    upwards = splu(
        csc_matrix((entries, places), shape=(count, count)),
        permc_spec="NATURAL",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    rest = 1 - weight**2
    rest[0] = 1
    sums = np.empty_like(values)
    sums[order] = upwards.solve(rest[:, None] * upwards.solve(values[order]), trans="T")
    return sums
