"""The permutohedral lattice in torch, on any device: what the native kernels mean, and what runs without them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from wss.errors import UsageError
from wss.kernels.geometry import Geometry
from wss.kernels.native import FORWARD, MEAN, REVERSE, THERE_AND_BACK

_PIECE = 64
"""Sums over the pixels of a vertex run in pieces of at most this many: a flat sky would keep one GPU warp busy alone."""


class TorchLattice:
    """The lattices of a batch of images as one: every image has its own range of keys.

    Pixels are rows, image after image. Vertex 0 is a dummy whose values stay zero; absent neighbours and pixels outside the
    region of interest point at it.

    Args:
        geometry: the embedding.
        images: (B,3,H,W) float32; only the shape is used when ``geometry.dims`` is 2.
        roi: (B,H,W) bool, or None.

    Attributes:
        corners: (B*H*W, d+1) vertices of each pixel's simplex.
        weights: (B*H*W, d+1) float32 barycentric weights.
        neighbours: (d+1, 2, M) vertices before and after each vertex along each direction.

    Source: Adams, Baek, Davis: Fast high-dimensional filtering using the permutohedral lattice, 2010.
    """

    def __init__(self, geometry: Geometry, images: Tensor, roi: Tensor | None) -> None:
        self.factor = geometry.factor
        keys, weights = _place(geometry, images)
        if roi is not None:
            outside = ~roi.reshape(-1, 1)
            keys = keys.masked_fill(outside, -1)
            weights = weights.masked_fill(outside, 0)
        steps = torch.tensor([geometry.step(j) for j in range(geometry.dims + 1)], device=keys.device)
        dummy = keys.new_full((1,), -1)
        vertices, corners = torch.unique(torch.cat([dummy, keys.flatten()]), return_inverse=True)
        corners = corners[1:].view_as(keys)
        if geometry.blurs > 1:
            ring = (vertices[1:, None] + torch.cat([steps, -steps])).flatten()
            touched = vertices
            vertices = torch.unique(torch.cat([touched, ring]))
            corners = torch.searchsorted(vertices, touched)[corners]
        targets = vertices + torch.stack([-steps, steps], 1)[..., None]  # (d+1, 2, M)
        found = torch.searchsorted(vertices, targets).clamp_(max=len(vertices) - 1)
        found = torch.where(vertices[found] == targets, found, 0)
        found[..., 0] = 0
        self.corners = corners
        self.weights = weights
        self.neighbours = found
        self._count = len(vertices)
        # Splatting reads pixels vertex by vertex: (vertex, corner) pairs sorted by vertex, cut into pieces.
        self._by_vertex = torch.argsort(corners.flatten(), stable=True)
        numbers = torch.arange(self._count, device=keys.device)
        starts = torch.searchsorted(corners.flatten()[self._by_vertex], numbers)
        self._pieces = torch.unique(torch.cat([starts, torch.arange(0, corners.numel(), _PIECE, device=keys.device)]))
        self._pieces = self._pieces[self._pieces < corners.numel()]
        self._vertex_pieces = torch.searchsorted(self._pieces, starts)

    def vertices(self) -> int:
        """Number of vertices, over all images."""
        return self._count - 1

    def splat(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum pixels (B*H*W, C) into vertices (M, C)."""
        weights = self.weights if weights is None else weights
        by_vertex = weights.to(rows.dtype).flatten()[self._by_vertex]
        pixels = torch.div(self._by_vertex, self.corners.shape[1], rounding_mode="floor")
        pieces = embedding_bag(pixels, rows, self._pieces, mode="sum", per_sample_weights=by_vertex)
        numbers = torch.arange(len(self._pieces), device=rows.device)
        return embedding_bag(numbers, pieces, self._vertex_pieces, mode="sum")

    def slice(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Interpolate vertices (M, C) at the pixels (B*H*W, C)."""
        weights = self.weights if weights is None else weights
        return embedding_bag(self.corners, values, mode="sum", per_sample_weights=weights.to(values.dtype))

    def blur(self, values: Tensor, order: int) -> Tensor:
        """Blur with (1/2, 1, 1/2) along each direction in turn; ``order`` is one of the constants of ``wss.kernels.native``."""
        if order == MEAN:
            return (self.blur(values, FORWARD) + self.blur(values, REVERSE)) / 2
        if order == THERE_AND_BACK:
            return self.blur(self.blur(values, FORWARD), REVERSE)
        for before, after in self.neighbours if order == FORWARD else self.neighbours.flip(0):
            values = values + 0.5 * (values[before] + values[after])
        return values

    def filter(self, x: Tensor, order: int) -> tuple[Tensor, bool]:
        """Return W x and whether x was finite; x is (B,C,H,W)."""
        values = self.splat(rows_of(x), self.weights)
        finite = bool(torch.isfinite(values).all())
        return planes_of(self.slice(self.blur(values, order)) * self.factor, x), finite


def rows_of(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B*H*W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def planes_of(rows: Tensor, like: Tensor) -> Tensor:
    """(B*H*W, C) -> (B,C,H,W), contiguous, of the batch and size of ``like``."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()


def _place(geometry: Geometry, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the keys and weights, (B*H*W, d+1) each, of the simplex around every pixel, in order of remainder."""
    batch, _, height, width = images.shape
    d = geometry.dims
    if batch * geometry.span >= 2**63:
        raise UsageError(
            f"the lattices of {batch} images of {width}x{height} do not fit one 64-bit key: use at most "
            f"{2**63 // geometry.span} images at a time, or larger standard deviations"
        )
    device = images.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    features = [x.expand(batch, -1, -1), y.expand(batch, -1, -1)]
    if d == 5:
        features += images.float().unbind(1)
    scaled = [f.reshape(-1).float() * s for f, s in zip(features, geometry.scale, strict=True)]
    elevated = [torch.zeros(())] * (d + 1)
    total = torch.zeros(batch * height * width, device=device)
    for i in range(d, 0, -1):
        elevated[i] = total - i * scaled[i - 1]
        total = total + scaled[i - 1]
    elevated[0] = total
    point = torch.stack(elevated, 1)

    # The nearest point with coordinates that are multiples of d + 1. Where their sum is not zero the coordinates that were
    # rounded worst, those at the ends of the order, move by one multiple.
    multiples = torch.round(point * (1 / (d + 1)))
    remainder = point - multiples * (d + 1)
    rank = torch.argsort(torch.argsort(remainder, dim=1, descending=True, stable=True), dim=1)
    base = multiples.long() * (d + 1)
    rank = rank + multiples.long().sum(1, keepdim=True)
    move = (d + 1) * ((rank < 0).long() - (rank > d).long())
    rank, base, remainder = rank + move, base + move, (remainder - move) / (d + 1)

    ordered = torch.zeros_like(remainder).scatter_(1, rank, remainder)
    weights = torch.cat([1 + ordered[:, -1:] - ordered[:, :1], (ordered[:, :-1] - ordered[:, 1:]).flip(1)], 1)
    # From remainder r to r + 1 every coordinate grows by 1, but the one of rank d - r falls by d.
    stride = torch.tensor([*geometry.stride, 0], device=device)
    steps = sum(geometry.stride) - (d + 1) * torch.zeros_like(rank).scatter_(1, rank, stride.expand_as(rank))
    image = torch.arange(batch, device=device).repeat_interleave(height * width)
    first = (base * stride).sum(1) + geometry.origin + image * geometry.span
    keys = torch.cat([first[:, None], first[:, None] + steps[:, 1:].flip(1).cumsum(1)], 1)
    return keys, weights
