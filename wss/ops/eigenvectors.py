"""Leading eigenvectors of a transition matrix: the slow modes of its random walk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eig
from scipy.sparse.linalg import ArpackNoConvergence, eigs

from wss.errors import UsageError

DENSE_SIZE = 400
"""Matrices up to this size get a dense decomposition, which always converges."""


def leading_eigenvectors(
    transition: NDArray[np.floating], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right eigenvectors of the largest eigenvalues. The first one is left out, because its eigenvector is constant.

    Args:
        transition: P, float (N,N), rows sum to 1.
        count: Number of eigenvectors. Fewer are returned if N is small or not all converge.

    Returns:
        Real parts of the eigenvalues (M,), descending, and of the eigenvectors (N,M). Each eigenvector has length 1,
        and the sum of its cubes is positive, which fixes its sign.

    Raises:
        UsageError: The matrix is not square, or count is below 1.
    """
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1] or count < 1:
        raise UsageError(f"expected a square matrix and a count of at least 1, got {transition.shape} and {count}")
    size = len(transition)
    matrix = transition.astype(np.float64)
    if size <= max(DENSE_SIZE, count + 3):
        values, vectors = eig(matrix)
    else:
        start = np.random.default_rng(0).standard_normal(size)
        try:
            values, vectors = eigs(matrix, k=count + 1, which="LR", v0=start)
        except ArpackNoConvergence as partial:
            values, vectors = partial.eigenvalues, partial.eigenvectors
    order = np.argsort(-values.real, kind="stable")[1 : count + 1]
    leading = np.real(vectors[:, order])
    leading /= np.maximum(np.linalg.norm(leading, axis=0), np.finfo(np.float64).tiny)
    return values.real[order], leading * np.where((leading**3).sum(0) < 0, -1, 1)
