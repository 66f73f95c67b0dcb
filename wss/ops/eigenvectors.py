"""Leading eigenvectors of a transition matrix: the slow modes of its random walk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eig
from scipy.sparse.linalg import ArpackNoConvergence, eigs

from wss.errors import UsageError

DENSE_SIZE = 400
"""Smaller matrices are decomposed whole, which never fails to converge."""


def leading_eigenvectors(
    transition: NDArray[np.floating], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right eigenvectors of the largest eigenvalues below the first one, whose eigenvector is constant.

    Args:
        transition: P, float (N,N), rows sum to 1.
        count: Eigenvectors wanted; fewer come where N or convergence gives fewer.

    Returns:
        Real parts of the eigenvalues (M,), falling, and of the eigenvectors (N,M), each of length 1 with a positive sum of cubes,
        which fixes its sign.

    Raises:
        UsageError: Not a square matrix, or less than one eigenvector.
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
    found = np.real(vectors[:, order])
    found /= np.maximum(np.linalg.norm(found, axis=0), np.finfo(np.float64).tiny)
    return values.real[order], found * np.where((found**3).sum(0) < 0, -1, 1)
