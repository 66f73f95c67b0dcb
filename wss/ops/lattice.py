"""The permutohedral lattice in torch, for any device: definition of the native kernels and fallback without them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import embedding_bag

from wss import devices
from wss.errors import UsageError
from wss.kernels.geometry import Geometry
from wss.kernels.native import FORWARD, MEAN, REVERSE, THERE_AND_BACK

_PIECE = 64
"""Largest number of pixels of a vertex that a GPU sums in one piece. Without pieces, a flat sky would occupy a single
warp."""

_GOLDEN = -7046029254386353131
"""2^64 / golden ratio as a signed number: the factor of multiplicative hashing."""


class TorchLattice:
    """One lattice for a batch of images. Each image has its own range of keys, so images do not mix.

    Pixels are rows, image after image. Vertex 0 is a dummy whose values stay zero. Missing neighbours and pixels
    outside the region of interest refer to it. On a GPU, building the lattice waits for the number of vertices (twice
    with two blurs); filtering never waits.

    Args:
        geometry: The embedding.
        images: (B,3,H,W) float32. Only the shape is used if ``geometry.dims`` is 2.
        roi: (B,H,W) bool, or None.

    Attributes:
        corners: (B*H*W, d+1) int32, vertices of each pixel's simplex.
        weights: (B*H*W, d+1) float32, barycentric weights.
        neighbours: (d+1, M, 3) int32. For each direction and vertex: the previous vertex, the vertex itself, the next
            one.

    Source: Adams, Baek, Davis: Fast high-dimensional filtering using the permutohedral lattice, 2010.
    """

    def __init__(self, geometry: Geometry, images: Tensor, roi: Tensor | None) -> None:
        self.factor = geometry.factor
        keys, self.weights = _place(geometry, images)
        if roi is not None:
            outside = ~roi.reshape(-1, 1)
            keys.masked_fill_(outside, -1)
            self.weights.masked_fill_(outside, 0)
        steps = [geometry.step(j) for j in range(geometry.dims + 1)]
        vertices, corners = _distinct(keys.flatten())
        if geometry.blurs > 1:
            touched = vertices
            vertices = torch.unique(torch.cat([touched, *(touched[1:] + sign * s for s in steps for sign in (1, -1))]))
            corners = torch.searchsorted(vertices, touched).index_select(0, corners)
        self.corners = corners.to(torch.int32).view_as(keys)
        self.neighbours = _neighbours(vertices, steps)
        self._half_one_half = torch.full(self.neighbours.shape[1:], 0.5, device=keys.device)
        self._half_one_half[:, 1].fill_(1)
        # Splatting reads the pixels in the order of vertices.
        self._starts, self._pixels, self._by_vertex = _by_vertex(self.corners, self.weights, len(vertices))
        self._pieces: Tensor | None = None
        if not devices.on_host(keys):
            self._cut()

    def vertices(self) -> int:
        """Number of vertices of all images."""
        return self.neighbours.shape[1] - 1

    def scaled(self, scale: Tensor) -> TorchLattice:
        """A copy whose weights of each pixel are multiplied by ``scale``, (B*H*W,), in splat and slice."""
        other = copy.copy(self)
        other.weights = self.weights.to(scale.dtype) * scale[:, None]
        other._by_vertex = self._by_vertex.to(scale.dtype) * scale.index_select(0, self._pixels)
        return other

    def splat(self, rows: Tensor) -> Tensor:
        """Sum pixels (B*H*W, C) into vertices (M, C)."""
        weights = self._by_vertex.to(rows.dtype)
        if self._pieces is None:
            return embedding_bag(self._pixels, rows, self._starts, mode="sum", per_sample_weights=weights)
        pieces = embedding_bag(self._pixels, rows, self._pieces, mode="sum", per_sample_weights=weights)
        numbers = torch.arange(len(pieces), dtype=torch.int32, device=rows.device)
        return embedding_bag(numbers, pieces, self._pieces_of_vertex, mode="sum")

    def slice(self, values: Tensor) -> Tensor:
        """Interpolate vertices (M, C) at the pixels (B*H*W, C)."""
        return embedding_bag(self.corners, values, mode="sum", per_sample_weights=self.weights.to(values.dtype))

    def blur(self, values: Tensor, order: int) -> Tensor:
        """Blur with (1/2, 1, 1/2) along each direction in turn; ``order`` is one of the constants of ``wss.kernels.native``."""
        if order == MEAN:
            return (self.blur(values, FORWARD) + self.blur(values, REVERSE)).mul_(0.5)
        if order == THERE_AND_BACK:
            return self.blur(self.blur(values, FORWARD), REVERSE)
        weights = self._half_one_half.to(values.dtype)
        directions = range(len(self.neighbours))
        for j in directions if order == FORWARD else reversed(directions):
            values = embedding_bag(self.neighbours[j], values, mode="sum", per_sample_weights=weights)
        return values

    def filter(self, x: Tensor, order: int) -> tuple[Tensor, Tensor]:
        """Return W x for x (B,C,H,W), and a bool scalar that is True if x is finite."""
        values = self.splat(rows_of(x))
        finite = torch.isfinite(values).all()
        # scaled at the vertices, because there are fewer vertices than pixels
        return planes_of(self.slice(self.blur(values, order).mul_(self.factor)), x), finite

    def _cut(self, longest: int = _PIECE) -> None:
        """Prepare splats in two steps: sums over pieces of at most ``longest`` pixels, then over a vertex's pieces."""
        cuts = torch.arange(0, len(self._pixels), longest, dtype=torch.int32, device=self._pixels.device)
        # A position that occurs twice starts an empty piece. So the number of pieces is known without a look at values.
        self._pieces = torch.sort(torch.cat([self._starts, cuts])).values
        self._pieces_of_vertex = torch.searchsorted(self._pieces, self._starts, out_int32=True)


def rows_of(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B*H*W, C), contiguous."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def planes_of(rows: Tensor, like: Tensor) -> Tensor:
    """(B*H*W, C) -> (B,C,H,W), contiguous, with the batch and size of ``like``."""
    batch, _, height, width = like.shape
    planes = rows.new_empty(batch, rows.shape[1], height, width)
    # One image at a time: torch copies one transposed matrix several times faster than a batch of them.
    for image, part in zip(planes.flatten(2), rows.view(batch, height * width, -1), strict=True):
        image.copy_(part.t())
    return planes


def _place(geometry: Geometry, images: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and weights, (B*H*W, d+1) each, of the corners of the simplex around every pixel, by remainder."""
    batch, _, height, width = images.shape
    d = geometry.dims
    if batch * geometry.span >= 2**63:
        raise UsageError(
            f"the lattices of {batch} images of {width}x{height} do not fit one 64-bit key: use at most "
            f"{2**63 // geometry.span} images at a time, or larger standard deviations"
        )
    if batch * height * width * (d + 1) >= 2**31:
        raise UsageError(
            f"the lattices of {batch} images of {width}x{height} have too many vertices for 32-bit numbers: use at most "
            f"{2**31 // (height * width * (d + 1))} images at a time, or smaller ones"
        )
    device = images.device
    features = [torch.arange(width, device=device).float(), torch.arange(height, device=device).float()[:, None]]
    if d == 5:
        features += images.float().unbind(1)
    # The code below holds one plane of pixels per coordinate, which vectorises. Comparisons of planes give the order of
    # a pixel's coordinates.
    remainder = torch.empty(d + 1, batch, height, width, device=device)
    total = torch.zeros((), device=device)
    for i in range(d, 0, -1):
        scaled = features[i - 1] * geometry.scale[i - 1]
        remainder[i] = total - i * scaled
        total = total + scaled
    remainder[0] = total

    # Round to the nearest point whose coordinates are multiples of d + 1. If their sum is not zero, the coordinates with
    # the largest rounding errors, at the ends of the order, move by one multiple.
    multiples = (remainder * (1 / (d + 1))).round_()
    remainder.sub_(multiples, alpha=d + 1)
    rank = torch.arange(d, -1, -1, dtype=torch.int8, device=device).view(-1, 1, 1, 1).repeat(1, batch, height, width)
    for i in range(1, d + 1):
        for j in range(i):
            before = (remainder[j] >= remainder[i]).view(torch.int8)
            rank[i] += before
            rank[j] -= before
    rank += multiples.sum(0).to(torch.int8)
    move = (rank < 0).to(torch.int8) - (rank > d).to(torch.int8)
    rank.add_(move, alpha=d + 1)
    multiples += move
    remainder.sub_(move, alpha=d + 1).div_(d + 1)

    ordered = list(remainder.flatten(1))
    for last in range(d, 0, -1):
        for j in range(last):
            ordered[j : j + 2] = torch.maximum(*ordered[j : j + 2]), torch.minimum(*ordered[j : j + 2])
    weights = torch.stack(
        [1 + ordered[d] - ordered[0], *(ordered[d - r] - ordered[d - r + 1] for r in range(1, d + 1))], 1
    )

    first = (
        torch.arange(batch, device=device)
        .mul_(geometry.span)
        .add_(geometry.origin)
        .view(-1, 1, 1)
        .repeat(1, height, width)
    )
    code = torch.zeros(batch, height, width, dtype=torch.int32, device=device)
    for i in range(d):
        first += multiples[i].long().mul_((d + 1) * geometry.stride[i])
        code.add_(rank[i], alpha=(d + 1) ** i)
    keys = _steps_by_ranks(geometry, device).index_select(0, code.flatten()).add_(first.view(-1, 1))
    return keys, weights


def _steps_by_ranks(geometry: Geometry, device: torch.device) -> Tensor:
    """Key differences between the first corner of a simplex and all its corners, ((d+1)^d, d+1).

    A row belongs to one combination of ranks of the coordinates 0 ... d-1. From remainder r to r + 1 the coordinate of
    rank d - r falls by d, and all others grow by 1.
    """
    d = geometry.dims
    code = torch.arange((d + 1) ** d, device=device)
    steps = code.new_zeros(len(code), d + 1)
    for r in range(1, d + 1):
        steps[:, r] = steps[:, r - 1] + sum(geometry.stride)
        for i in range(d):
            fell = torch.div(code, (d + 1) ** i, rounding_mode="floor") % (d + 1) == d + 1 - r
            steps[:, r].sub_(fell.long(), alpha=(d + 1) * geometry.stride[i])
    return steps


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sorted distinct keys with -1 in front, and the index of each key among them."""
    dummy = keys.new_full((1,), -1)
    if not devices.on_host(keys):
        vertices, places = torch.unique(torch.cat([dummy, keys]), return_inverse=True)
        return vertices, places[1:]
    # Sorting all keys is slow on a CPU. A hash table finds nearly all distinct keys; the last key wins a slot. The few
    # keys that lost their slot are sorted.
    bits = max(8, len(keys).bit_length() - 1)
    slots = keys.mul(_GOLDEN).bitwise_right_shift_(64 - bits).bitwise_and_(2**bits - 1)
    table = keys.new_full((2**bits,), -1).scatter_(0, slots, keys)
    lost = (table.index_select(0, slots) != keys).nonzero()[:, 0]
    used = (table >= 0).nonzero()[:, 0]
    vertices = torch.unique(torch.cat([dummy, table[used], keys[lost]]))
    numbers = torch.zeros(2**bits, dtype=torch.int64)
    numbers[used] = torch.searchsorted(vertices, table[used])
    places = numbers.index_select(0, slots)
    places[lost] = torch.searchsorted(vertices, keys[lost])
    return vertices, places


def _neighbours(vertices: Tensor, steps: list[int]) -> Tensor:
    """Compute ``TorchLattice.neighbours``. ``vertices`` are sorted keys; the first is the dummy."""
    own = torch.arange(len(vertices), device=vertices.device)
    neighbours = own.new_zeros(len(steps), len(vertices), 3, dtype=torch.int32)
    for direction, step in zip(neighbours, steps, strict=True):
        targets = vertices + step
        after = torch.searchsorted(vertices, targets).clamp_(max=len(vertices) - 1)
        after = torch.where(vertices.index_select(0, after) == targets, after, 0)
        after[:1].fill_(0)
        before = torch.zeros_like(after).scatter_(0, after, own)
        before[:1].fill_(0)
        direction.copy_(torch.stack([before, own, after], 1))
    return neighbours


def _by_vertex(corners: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of pixel and corner, sorted by vertex: the start of each vertex, the pixels, their weights."""
    pixels, per_pixel = corners.shape
    if devices.on_host(corners):  # the transposition of a sparse matrix is a counting sort
        ends = np.arange(0, pixels * per_pixel + 1, per_pixel, dtype=np.int32)
        matrix = csr_matrix((weights.flatten().numpy(), corners.flatten().numpy(), ends), shape=(pixels, count)).tocsc()
        return tuple(torch.from_numpy(a) for a in (matrix.indptr[:-1], matrix.indices, matrix.data))  # type: ignore[return-value]
    ordered, order = torch.sort(corners.flatten(), stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count, dtype=torch.int32, device=corners.device), out_int32=True)
    return starts, torch.div(order, per_pixel, rounding_mode="floor").int(), weights.flatten().index_select(0, order)
