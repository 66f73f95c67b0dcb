"""Graph cuts: exact minimisation of two-label energies, and alpha-expansion for more labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from wss.errors import DataError, UsageError

_LARGEST = 2**30 - 1  # a residual capacity is at most the sum of both directions, which must fit into int32


def potts_energy(unary: NDArray[Any], edges: NDArray[Any], weights: NDArray[Any], labels: NDArray[Any]) -> float:
    """The energy sum_i unary[i, x_i] + sum_(i,j) w_ij [x_i != x_j] of one labelling.

    Args:
        unary: (N, K), cost of each label at each node; inf forbids a label.
        edges: Integers (E, 2), pairs of nodes.
        weights: (E,), cost of different labels at the two ends of an edge.
        labels: Integers (N,) in 0..K-1.

    Returns:
        The energy; inf if a node has a forbidden label.
    """
    cut = labels[edges[:, 0]] != labels[edges[:, 1]]
    return float(unary[np.arange(len(labels)), labels].sum() + weights[cut].sum())


def min_cut(unary: NDArray[Any], edges: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.int64]:
    """Minimise sum_i unary[i, x_i] + sum_(i,j) w_ij [x_i != x_j] over x in {0, 1}^N, exactly up to rounding.

    Maximum flow needs integers. Costs are rounded to multiples of a unit, which is 2^-30 of the largest capacity in the
    graph. The energy of the result exceeds the minimum by at most (N + E) units. Some nodes have a certain label from
    the start: an infinite cost, or own costs that outweigh all their edges, decide it. They do not enter the graph. So
    the graph has no infinite capacity, and no capacity is larger than the weights around one or two nodes, even if
    costs are large.

    Args:
        unary: (N, 2), costs; inf forbids a label, at most one per node.
        edges: Integers (E, 2), pairs of nodes. A pair that occurs twice counts twice.
        weights: (E,), finite and not negative.

    Returns:
        Labels, int64 (N,). If there are several minima, the one with the fewest ones.

    Raises:
        UsageError: Shapes or types are unusable, an edge refers to a node that does not exist, or a weight is negative.
        DataError: Costs hold NaN or -inf, or forbid every label of a node.

    Source: Greig, Porteous, Seheult: Exact maximum a posteriori estimation for binary images, 1989.
    """
    unary, edges, weights = _checked(unary, edges, weights)
    if unary.shape[1] != 2:
        raise UsageError(f"min_cut chooses between two labels; got unary {unary.shape}: use alpha_expansion")
    arcs = np.concatenate([edges, edges[:, ::-1]])
    return _minimise(unary, arcs, np.concatenate([weights, weights]))


def alpha_expansion(
    unary: NDArray[Any],
    edges: NDArray[Any],
    weights: NDArray[Any],
    *,
    initial: NDArray[Any] | None = None,
    iterations: int = 10,
) -> NDArray[np.int64]:
    """Reduce sum_i unary[i, x_i] + sum_(i,j) w_ij [x_i != x_j] by expansion moves over all labels in turn.

    A move changes a set of nodes to one label; a minimum cut finds the best set. A move that does not lower the energy
    is not made, so the energy never rises. The loop ends when a whole round over the labels changes nothing. Then no
    expansion move improves the result, and its energy is at most twice the minimum.

    Args:
        unary: (N, K), costs, K >= 1; inf forbids a label at a node.
        edges: Integers (E, 2), pairs of nodes. A pair that occurs twice counts twice.
        weights: (E,), finite and not negative.
        initial: Integers (N,), labels to start from. None starts from the cheapest label of each node.
        iterations: Largest number of rounds over the labels.

    Returns:
        Labels, int64 (N,).

    Raises:
        UsageError: Shapes or types are unusable, an edge refers to a node that does not exist, a weight is negative, or
            ``initial`` has a forbidden label.
        DataError: Costs hold NaN or -inf, or forbid every label of a node.

    Source: Boykov, Veksler, Zabih: Fast approximate energy minimization via graph cuts, 2001, with the construction of
        Kolmogorov and Zabih, What energy functions can be minimized via graph cuts?, 2004, which needs no auxiliary nodes.
    """
    unary, edges, weights = _checked(unary, edges, weights)
    if iterations < 0:
        raise UsageError(f"iterations must not be negative; got {iterations}")
    labels: NDArray[np.int64] = unary.argmin(1) if initial is None else _start(initial, unary)
    energy = potts_energy(unary, edges, weights, labels)
    for _ in range(iterations):
        before = energy
        for label in range(unary.shape[1]):
            moved = np.where(_expand(unary, edges, weights, labels, label), label, labels)
            lower = potts_energy(unary, edges, weights, moved)
            if lower < energy:
                labels, energy = moved, lower
        if energy == before:
            break
    return labels


def _expand(
    unary: NDArray[np.float64],
    edges: NDArray[np.int64],
    weights: NDArray[np.float64],
    labels: NDArray[np.int64],
    label: int,
) -> NDArray[np.bool_]:
    """Nodes that change to ``label`` in the best expansion move, bool (N,)."""
    first, second = labels[edges[:, 0]], labels[edges[:, 1]]
    # x and y are 1 if the ends of an edge change to the label. The cost is a for (0,0), b for (0,1), c for (1,0), 0 for
    # (1,1). This equals a + (c - a) x - c y + (b + c - a) (1 - x) y; b + c >= a by the triangle inequality.
    a, b, c = weights * (first != second), weights * (first != label), weights * (second != label)
    size = len(labels)
    change = np.bincount(edges[:, 0], c - a, size) - np.bincount(edges[:, 1], c, size)
    costs = np.stack([unary[np.arange(size), labels], unary[:, label] + change], 1)
    changes: NDArray[np.bool_] = _minimise(costs, edges[:, ::-1], b + c - a) == 1
    return changes


def _minimise(unary: NDArray[np.float64], arcs: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Minimise sum_i unary[i, x_i] + sum_(i,j) w_ij x_i (1 - x_j) over x in {0, 1}^N."""
    size = len(unary)
    tail, head = arcs[:, 0], arcs[:, 1]
    gain = unary[:, 0] - unary[:, 1]  # gain of label 1 over label 0; infinite if one of them is forbidden
    result = np.full(size, -1)
    result[gain > np.bincount(tail, weights, size)] = 1
    result[-gain > np.bincount(head, weights, size)] = 0
    to_zero, from_one = result[head] == 0, result[tail] == 1
    gain = gain - np.bincount(tail[to_zero], weights[to_zero], size)
    gain = gain + np.bincount(head[from_one], weights[from_one], size)
    open_nodes = np.flatnonzero(result < 0)
    if not len(open_nodes):
        return result
    number = np.full(size, -1)
    number[open_nodes] = np.arange(len(open_nodes))
    inner = (number[tail] >= 0) & (number[head] >= 0)
    gain = gain[open_nodes]
    result[open_nodes] = _cut(gain, number[tail[inner]], number[head[inner]], weights[inner])
    return result


def _cut(
    gain: NDArray[np.float64], tail: NDArray[np.int64], head: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Nodes on the source's side of the minimum cut, bool (N,). They have the label 1."""
    size = len(gain)
    source, sink = size, size + 1
    nodes = np.arange(size)
    rows = np.concatenate([tail, np.full(size, source), nodes])
    columns = np.concatenate([head, nodes, np.full(size, sink)])
    values = np.concatenate([weights, np.maximum(gain, 0), np.maximum(-gain, 0)])
    real = csr_matrix(coo_matrix((values, (rows, columns)), (size + 2, size + 2)))  # sums arcs given twice
    if not real.data.max(initial=0) > 0:
        return np.zeros(size, bool)
    capacity = real.copy()
    capacity.data = np.rint(real.data / real.data.max() * _LARGEST).astype(np.int32)
    capacity.eliminate_zeros()
    residual = capacity - maximum_flow(capacity, source, sink).flow
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    reached = np.zeros(size + 2, bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return reached[:size]


def _checked(
    unary: NDArray[Any], edges: NDArray[Any], weights: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Check the energy and convert it to float64, without edges from a node to itself."""
    unary, weights = np.asarray(unary, np.float64), np.asarray(weights, np.float64)
    edges = np.asarray(edges)
    if unary.ndim != 2 or unary.shape[1] < 1:
        raise UsageError(f"unary must be (N, K) with K >= 1; got {unary.shape}")
    if edges.ndim != 2 or edges.shape[1] != 2 or (edges.dtype.kind not in "iu" and edges.size):
        raise UsageError(f"edges must be integers (E, 2); got {edges.dtype} {edges.shape}")
    if weights.shape != (len(edges),):
        raise UsageError(f"weights must be ({len(edges)},), one per edge; got {weights.shape}")
    edges = edges.astype(np.int64)
    if edges.size and not 0 <= edges.min() <= edges.max() < len(unary):
        raise UsageError(f"edges name nodes {edges.min()} to {edges.max()}, but there are {len(unary)}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise UsageError("weights must be finite and not negative: other energies are not submodular")
    if np.isnan(unary).any() or np.isneginf(unary).any():
        raise DataError("unary holds NaN or -inf: look for a logarithm of zero or of a negative number")
    forbidden = np.flatnonzero(np.isinf(unary).all(1))
    if len(forbidden):
        raise DataError(f"unary forbids every label of node {forbidden[0]}; leave one label with a finite cost")
    apart = edges[:, 0] != edges[:, 1]
    return unary, edges[apart], weights[apart]


def _start(initial: NDArray[Any], unary: NDArray[np.float64]) -> NDArray[np.int64]:
    labels = np.asarray(initial)
    if labels.shape != (len(unary),) or labels.dtype.kind not in "iu":
        raise UsageError(f"initial must be integers ({len(unary)},); got {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < unary.shape[1]:
        raise UsageError(f"initial labels must be in 0..{unary.shape[1] - 1}; got {labels.min()} to {labels.max()}")
    labels = labels.astype(np.int64)
    if np.isinf(unary[np.arange(len(labels)), labels]).any():
        raise UsageError("initial gives a node a label that unary forbids there")
    return labels
