"""Solve the random-walk systems of a batch with SciPy's sparse LU, one factorisation per image, images in parallel threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

_Array = npt.NDArray[Any]


class SparseElimination:
    """Factors of I - T for each image of a batch; see ``wss.ops.hitting.Elimination``.

    Rows of I - T are diagonally dominant, so that elimination without pivoting is accurate however small the result is. SuperLU
    pivots within columns: it gets the transpose, and a threshold of 0. Ordering and pattern depend on the size only and are kept.

    Args:
        steps: T, (B,4,H,W) float64: probability weights of a step up, left, right, down.
        jobs: Images factored and solved at a time.
    """

    def __init__(self, steps: Tensor, jobs: int) -> None:
        height, width = steps.shape[2:]
        self._jobs = jobs
        self._pattern = _Pattern.of(height, width)
        self._factors = self._each(self._pattern.factor, list(steps.cpu().numpy()))

    def solve(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T) z = rhs; (B,L,H,W) float64."""
        return self._apply(rhs, "T")

    def solve_transposed(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T)' z = rhs; (B,L,H,W) float64."""
        return self._apply(rhs, "N")

    def _apply(self, rhs: Tensor, trans: str) -> Tensor:
        pairs = list(zip(self._factors, rhs.cpu().numpy(), strict=True))
        solved = self._each(partial(self._pattern.substitute, trans), pairs)
        return torch.from_numpy(np.array(solved).reshape(rhs.shape)).to(rhs.device)

    def _each(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        if self._jobs == 1 or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(self._jobs, len(items))) as pool:
            return list(pool.map(work, items))


class _Pattern:
    """Positions of the entries of (I - T)' in an elimination order with little fill-in."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        count = height * width
        pixel = np.arange(count).reshape(height, width)
        exists = np.zeros((5, height, width), dtype=bool)  # up, left, itself, right, down: ascending pixels
        exists[0, 1:], exists[1, :, 1:], exists[2], exists[3, :, :-1], exists[4, :-1] = (True,) * 5
        other = pixel + np.array([-width, -1, 0, 1, width])[:, None, None]
        # Pixel by pixel, the entries of a row of I - T, which is a column of the transpose.
        row = np.broadcast_to(pixel, other.shape).transpose(1, 2, 0)[exists.transpose(1, 2, 0)]
        column = other.transpose(1, 2, 0)[exists.transpose(1, 2, 0)]
        source = np.arange(5 * count).reshape(5, height, width).transpose(1, 2, 0)[exists.transpose(1, 2, 0)]
        values = np.where(row == column, 5.0, -1.0)
        plain = csc_matrix((values, column, np.searchsorted(row, np.arange(count + 1))), shape=(count, count))
        factors = splu(plain, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        self.order = np.argsort(factors.perm_c)
        rank = factors.perm_c
        arrange = np.lexsort((rank[column], rank[row]))
        self.source = source[arrange]
        self.indices = rank[column][arrange].astype(np.int32)
        self.indptr = np.searchsorted(rank[row][arrange], np.arange(count + 1)).astype(np.int32)
        self.rank = rank

    @classmethod
    def of(cls, height: int, width: int) -> _Pattern:
        return _pattern(height, width)

    def factor(self, steps: _Array) -> Any:
        entries = np.empty((5, *self.shape))
        np.negative(steps[:2], out=entries[:2])
        entries[2] = 1
        np.negative(steps[2:], out=entries[3:])
        matrix = csc_matrix(
            (entries.ravel()[self.source], self.indices, self.indptr), shape=(len(self.rank), len(self.rank))
        )
        return splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=2, options={"SymmetricMode": True})

    def substitute(self, trans: str, pair: tuple[Any, _Array]) -> _Array:
        factor, rhs = pair
        flat = rhs.reshape(len(rhs), -1)
        result = np.zeros_like(flat)
        wanted = flat.any(1)  # labels that the image lacks cost nothing
        if wanted.any():
            result[wanted] = factor.solve(np.asfortranarray(flat[wanted][:, self.order].T), trans=trans).T[:, self.rank]
        return result.reshape(rhs.shape)


@lru_cache(maxsize=16)
def _pattern(height: int, width: int) -> _Pattern:
    return _Pattern(height, width)
