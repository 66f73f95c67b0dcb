"""Spherical k-means: clusters of the pixels of an image by their embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wss import devices
from wss.errors import UsageError


@torch.no_grad()
def spherical_kmeans(
    embeddings: Tensor,
    *,
    grid: int | tuple[int, int] = 6,
    iterations: int = 10,
    location_scale: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Cluster the pixels of each image by the cosine of their embeddings and positions.

    The vector of a pixel is its embedding, concatenated with its position (y, x) in [-0.5, 0.5] and scaled to unit
    length. An iteration computes the unit-length mean of each cluster (M-step), then assigns each pixel to the closest
    mean, the first one if several are closest (E-step). A cluster that loses all its pixels keeps its last mean and can
    win pixels back. A cluster that never had a pixel, such as a grid cell in the padding, stays empty. All images of
    the batch are clustered at once, without waiting for the device.

    Args:
        embeddings: float (B,C,H,W) of unit length over C.
        grid: Number of rows and of columns of grid cells, which are the initial clusters; one number for both.
        iterations: Number of iterations, at least 0; 0 returns the grid.
        location_scale: Factor of the positions, at least 0. A larger value gives more compact clusters; 0 ignores
            positions.
        valid: bool (B,H,W), False on padding. None means True everywhere.

    Returns:
        int64 (B,H,W): clusters 0 to rows * columns - 1, some of which may be empty; -1 where not valid. The result is
        deterministic.

    Raises:
        UsageError: Shapes, dtypes, devices or options are unusable.

    Source: Hwang et al. 2019, SegSort, section 3.2, and Ke, Hwang, Yu 2021, section 3.2; positions and initial clusters
        as in the authors' code.
    Differs: in the authors' code an empty cluster competes as a zero vector. It gets all pixels that are more than 90
        degrees from every mean.
    """
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    _check(embeddings, rows, columns, iterations, location_scale, valid)
    batch, _, height, width = embeddings.shape
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    count = rows * columns
    with torch.autocast(embeddings.device.type, enabled=False):
        places = with_places(embeddings.to(wide), location_scale).flatten(2).transpose(1, 2)
        # In the M-step the column of ones counts members. In the E-step it adds -inf for clusters without a mean.
        points = torch.cat([places, torch.ones_like(places[..., :1])], 2)
        means = points.new_zeros(batch, count, places.shape[2])
        closed = points.new_full((batch, count, 1), -torch.inf)
        clusters = _cells(height, width, rows, columns, embeddings.device).flatten().expand(batch, -1)
        outside = None if valid is None else ~valid.flatten(1)
        for _ in range(iterations):
            sums = cluster_sums(points, clusters if outside is None else clusters.masked_fill(outside, count), count)
            filled = sums[..., -1:] > 0
            means = torch.where(filled, normalize(sums[..., :-1], dim=2), means)
            closed = torch.where(filled, 0, closed)
            clusters = (points @ torch.cat([means, closed], 2).transpose(1, 2)).max(2).indices
    clusters = clusters.reshape(batch, height, width)
    return clusters.contiguous() if valid is None else torch.where(valid, clusters, -1)


def cluster_sums(points: Tensor, clusters: Tensor, count: int, *, adding: bool | None = None) -> Tensor:
    """Sums of points over clusters, deterministic.

    Args:
        points: (B,N,D).
        clusters: int64 (B,N), 0 to ``count``. Points of cluster ``count`` are left out.
        count: Number of clusters of an image.
        adding: True adds points one by one; a GPU would do so in a random order. False multiplies with membership
            matrices; a CPU takes ten times as long for this. None decides by the device.

    Returns:
        (B,count,D).
    """
    batch, number, size = points.shape
    if devices.on_host(points) if adding is None else adding:
        row = clusters + (count + 1) * torch.arange(batch, device=points.device)[:, None]
        sums = points.new_zeros(batch * (count + 1), size).index_add_(0, row.flatten(), points.flatten(0, 1))
        return sums.reshape(batch, count + 1, size)[:, :-1]
    members = points.new_zeros(batch, count + 1, number).scatter_(1, clusters[:, None], 1.0)
    return members[:, :-1] @ points


def with_places(embeddings: Tensor, scale: float = 1.0) -> Tensor:
    """Append positions (y, x) in [-0.5, 0.5] x ``scale`` to embeddings (B,C,H,W): (B,C+2,H,W) of unit length."""
    batch, _, height, width = embeddings.shape
    y = _places(height, embeddings)[:, None].expand(height, width)
    x = _places(width, embeddings).expand(height, width)
    places = scale * torch.stack([y, x]).expand(batch, -1, -1, -1)
    return normalize(torch.cat([embeddings, places], 1), dim=1)


def _places(length: int, like: Tensor) -> Tensor:
    """Positions of ``length`` pixels, evenly from -0.5 to 0.5; 0 for a single pixel."""
    steps = torch.arange(length, dtype=like.dtype, device=like.device)
    return steps / (length - 1) - 0.5 if length > 1 else steps


def _cells(height: int, width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Grid cell of each pixel, int64 (H,W). Cells lie around evenly spread points, so outer cells are half as wide."""
    y = _nearest_point(height, rows, device)
    return y[:, None] * columns + _nearest_point(width, columns, device)


def _nearest_point(length: int, points: int, device: torch.device) -> Tensor:
    """Index of the nearest of evenly spread points, int64 (length,). Integer arithmetic: the same on every device."""
    intervals = max(length - 1, 1)
    return (2 * torch.arange(length, device=device) * (points - 1) + intervals) // (2 * intervals)


def _check(
    embeddings: Tensor, rows: int, columns: int, iterations: int, location_scale: float, valid: Tensor | None
) -> None:
    if embeddings.ndim != 4 or not embeddings.is_floating_point() or 0 in embeddings.shape[1:]:
        raise UsageError(
            f"embeddings must be floating point (B,C,H,W), not empty; got {embeddings.dtype} {tuple(embeddings.shape)}"
        )
    if rows < 1 or columns < 1 or iterations < 0 or not 0 <= location_scale < float("inf"):
        raise UsageError(
            f"grid must be at least 1, iterations and location_scale at least 0; got {rows}x{columns}, {iterations} and "
            f"{location_scale}"
        )
    shape = (embeddings.shape[0], *embeddings.shape[2:])
    if valid is not None and (valid.dtype != torch.bool or valid.shape != shape or valid.device != embeddings.device):
        raise UsageError(
            f"valid must be bool {shape} on {embeddings.device}; got {valid.dtype} {tuple(valid.shape)} on {valid.device}"
        )
