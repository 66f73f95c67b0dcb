"""Centre lines of scribbles and regions, as graphs with arc lengths and as polylines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from wss.scribbles.rasters import check_raster, components
from wss.scribbles.strokes import Stroke


@dataclass(frozen=True)
class Skeleton:
    """The centre line of one connected component.

    Attributes:
        pixels: intp (N, 2), rows and columns, N >= 1, all inside the component, in the order of the branches.
        steps: float64 (N,), the arc length that each pixel adds to its branch; 0 for the very first pixel.
        graph: Symmetric (N, N), distances between neighbouring pixels: 1, or sqrt(2) along diagonals.
        branches: Pixel indices of its paths, longest first. The first path runs from end to end. Each other path starts at a
            pixel of an earlier path and repeats this pixel as its first one.
        width: The brush's width in pixels, estimated from area and length.
    """

    pixels: NDArray[np.intp]
    steps: NDArray[np.float64]
    graph: csr_array
    branches: tuple[tuple[int, ...], ...]
    width: float


@dataclass(frozen=True)
class Tree:
    """Shortest paths from one pixel of a skeleton to all others.

    Attributes:
        distance: float64 (N,), arc length from the root.
        parent: intp (N,), the neighbour on the way to the root; -1 for the root.
        reach: float64 (N,), the largest distance among this pixel and all pixels whose paths to the root pass through it.
    """

    distance: NDArray[np.float64]
    parent: NDArray[np.intp]
    reach: NDArray[np.float64]


def skeleton_of(inside: NDArray[np.bool_]) -> Skeleton:
    """Thin a connected component to its centre line.

    Side branches that are not longer than the brush width are removed, because they are artefacts of thinning at corners.

    Args:
        inside: bool (H, W), True on the component; connected, at least one pixel.
    """
    from skimage.morphology import (
        skeletonize,
    )  # imported here: it takes a quarter of a second, and few commands need it

    thinned: NDArray[np.bool_] = skeletonize(inside)  # type: ignore[no-untyped-call]
    pixels = np.argwhere(thinned if thinned.any() else inside)
    graph = _neighbours(pixels, inside.shape)
    # The pixel farthest from an arbitrary pixel is an end of a longest path.
    tree = shortest_paths(graph, int(dijkstra(graph, indices=0).argmax()))
    branches = _branches(tree)
    lengths = [float(tree.distance[branch[-1]] - tree.distance[branch[0]]) for branch in branches]

    total, area = sum(lengths), float(inside.sum())
    width = (np.sqrt(total**2 + 4 * area) - total) / 2  # a square tip of this width along this length has this area
    kept = [b for b, length in zip(branches, lengths, strict=True) if b is branches[0] or width < 2 or length > width]
    order = np.array([node for branch in kept for node in branch[branch is not kept[0] :]])
    steps = tree.distance[order] - np.where(tree.parent[order] < 0, 0.0, tree.distance[tree.parent[order]])
    renumbered = np.full(len(pixels), -1)
    renumbered[order] = np.arange(len(order))
    return Skeleton(
        pixels=pixels[order],
        steps=steps,
        graph=graph[order][:, order],
        branches=tuple(tuple(renumbered[branch].tolist()) for branch in kept),
        width=float(width),
    )


def shortest_paths(graph: csr_array, root: int) -> Tree:
    """The shortest-path tree of a connected skeleton graph."""
    distance, parent = dijkstra(graph, indices=root, return_predecessors=True)
    parents = np.where(parent < 0, -1, parent).astype(np.intp)
    reach = distance.tolist()
    up = parents.tolist()
    for node in np.argsort(-distance, kind="stable").tolist():
        if up[node] >= 0 and reach[node] > reach[up[node]]:
            reach[up[node]] = reach[node]
    return Tree(distance, parents, np.array(reach, np.float64))


def skeleton_paths(mask: NDArray[np.uint8]) -> list[Stroke]:
    """Turn a raster scribble into strokes along its centre lines.

    A component without branches becomes one stroke. At a junction, the longest path through it is one stroke, and each
    remaining arm is another. A closed loop becomes one closed stroke. Points are the pixel centres at which the direction
    changes.

    Args:
        mask: uint8 (H, W), class indices and 255 for unlabelled.

    Returns:
        Strokes by ascending label, in raster order of the components, with the width of the component.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W).
    """
    check_raster(mask, "a raster scribble")
    strokes = []
    for label, (rows, columns), inside in components(mask):
        skeleton = skeleton_of(inside)
        for path in _join_tips(skeleton):
            corners = _without_straight_runs(skeleton.pixels[path])
            points = (corners[:, ::-1] + (columns.start, rows.start)).astype(np.float64)
            strokes.append(Stroke(label, points, max(1, round(skeleton.width))))
    return strokes


def nearest_pixel(pixels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """For each position of an image, the index of the nearest of the given pixels.

    Args:
        pixels: intp (N, 2) rows and columns, N >= 1, all different.
        shape: Height and width of the image.

    Returns:
        intp (H, W), indices into ``pixels``; exact on the pixels themselves, within the accuracy of a 5x5 chamfer
        distance elsewhere.
    """
    background = np.ones(shape, np.uint8)
    background[tuple(pixels.T)] = 0
    _, zones = cv2.distanceTransformWithLabels(background, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index = np.zeros(int(zones.max()) + 1, np.intp)
    index[zones[tuple(pixels.T)]] = np.arange(len(pixels))
    nearest: NDArray[np.intp] = index[zones]
    return nearest


def _neighbours(pixels: NDArray[np.intp], shape: tuple[int, ...]) -> csr_array:
    """Connect neighbouring pixels. Diagonal neighbours are connected only if no third pixel connects them by straight steps."""
    index = np.full((shape[0] + 2, shape[1] + 2), -1, np.intp)
    rows, columns = pixels[:, 0] + 1, pixels[:, 1] + 1
    index[rows, columns] = np.arange(len(pixels))
    heads, tails, lengths = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = index[rows + down, columns + right]
        linked = other >= 0
        if down and right:
            linked &= (index[rows + down, columns] < 0) & (index[rows, columns + right] < 0)
        heads.append(np.flatnonzero(linked))
        tails.append(other[linked])
        lengths.append(np.full(int(linked.sum()), np.hypot(down, right)))
    head, tail, length = np.concatenate(heads), np.concatenate(tails), np.concatenate(lengths)
    ends = (np.concatenate([head, tail]), np.concatenate([tail, head]))
    return csr_array((np.concatenate([length, length]), ends), shape=(len(pixels), len(pixels)))


def _branches(tree: Tree) -> list[list[int]]:
    """Cut a tree into paths, longest first: the path of a node continues to its deepest child; other children start paths."""
    up, reach = tree.parent.tolist(), tree.reach.tolist()
    following: dict[int, int] = {}
    heads: list[int] = []
    for node in np.argsort(tree.distance, kind="stable").tolist():
        above = up[node]
        if above < 0 or above in following or reach[node] < reach[above]:
            heads.append(node)
        else:
            following[above] = node
    paths = []
    for head in heads:
        path = [head] if up[head] < 0 else [up[head], head]
        while path[-1] in following:
            path.append(following[path[-1]])
        paths.append(path)
    return sorted(paths, key=lambda path: tree.distance[path[0]] - tree.distance[path[-1]])


def _join_tips(skeleton: Skeleton) -> list[list[int]]:
    """Join branches that meet at their tips. These are the two halves into which shortest paths cut a loop."""
    neighbours = skeleton.graph.indptr, skeleton.graph.indices
    paths: list[list[int]] = []
    by_tip: dict[int, int] = {}
    for branch in skeleton.branches:
        tip = branch[-1]
        around = neighbours[1][neighbours[0][tip] : neighbours[0][tip + 1]].tolist()
        met = next((n for n in around if n in by_tip and n != branch[-2:][0]), None)
        if met is None:
            by_tip[tip] = len(paths)
            paths.append(list(branch))
        else:
            paths[by_tip.pop(met)].extend(reversed(branch))
    return paths


def _without_straight_runs(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Remove the pixels of a chain at which the direction does not change. The line through the others is the same."""
    if len(pixels) < 3:
        return pixels
    steps = np.diff(pixels, axis=0)
    turns = (steps[1:] != steps[:-1]).any(1)
    corners: NDArray[np.intp] = pixels[np.concatenate([[True], turns, [True]])]
    return corners
