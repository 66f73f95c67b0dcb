"""Assignments of rows to columns with the most pairs and, among these, the least cost, updated as rows come and go."""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError

OUTSIDE = 1 << 40
"""Cost of a row without partner. It is larger than all other costs together, so the number of pairs comes first."""

Backend = Literal["auto", "native", "python"]


class Candidates(NamedTuple):
    """Pairs that an assignment may use, grouped by row.

    Attributes:
        begin: int64 (R+1,); row r has the pairs ``begin[r]`` to ``begin[r+1] - 1``.
        partners: int32 (P,), the column of each pair.
        costs: int64 (P,), the cost of each pair, at least 0. Integers keep sums exact. The costs of any assignment must
            sum to less than ``OUTSIDE``.
        columns: Number of columns.
    """

    begin: NDArray[np.int64]
    partners: NDArray[np.int32]
    costs: NDArray[np.int64]
    columns: int


def assigned(candidates: Candidates, present: NDArray[np.bool_], backend: Backend = "auto") -> NDArray[np.bool_]:
    """Assign the present rows of each step to columns, one to one, with the most pairs and then the least total cost.

    Each step starts from the assignment of the previous step and repairs it for the rows that came or went. So steps
    with small differences are fast.

    Args:
        candidates: The pairs.
        present: bool (T,R), True for the rows that are present in each step.
        backend: ``native`` (compiled) or ``python``; both give the same result. ``auto`` is native if it is installed.

    Returns:
        bool (T,R), True for rows with a partner.

    Raises:
        UsageError: The backend is unknown, or ``native`` is not installed.

    Source: shortest augmenting paths on reduced costs, Jonker and Volgenant 1987, "A shortest augmenting path algorithm for dense
        and sparse linear assignment problems". Each row also has a private column at the cost ``OUTSIDE``, which no
        other row can take. If a row goes, its column becomes free. The shortest path from this column finds a new row
        for it or for another column.
    """
    from wss.kernels import assignment

    if backend not in ("auto", "native", "python"):
        raise UsageError(f"backend is auto, native or python; got {backend!r}")
    if backend == "native" or (backend == "auto" and assignment.available()):
        return assignment.assigned(*candidates, present, OUTSIDE)
    problem = _Assignment(candidates)
    result = np.zeros(present.shape, bool)
    before = np.zeros(present.shape[1], bool)
    for now, matched in zip(present, result, strict=True):
        for row in np.flatnonzero(now & ~before).tolist():
            problem.add(row)
        for row in np.flatnonzero(before & ~now).tolist():
            problem.remove(row)
        matched[:] = np.array(problem.column_of) >= 0
        before = now
    return result


class _Assignment:
    """The optimal assignment of the rows that are present.

    Dual variables guarantee that it is optimal. The dual of a column is ``price``: at most 0, and 0 without partner.
    The dual of a row is the cost of its pair minus the column's price: at most ``OUTSIDE``, and ``OUTSIDE`` without
    partner. No pair costs less than the sum of its two duals.
    """

    def __init__(self, candidates: Candidates) -> None:
        begin, partners, costs, columns = candidates
        marks, values = partners.tolist(), costs.tolist()
        self.of_row = [list(zip(marks[a:b], values[a:b], strict=True)) for a, b in pairwise(begin.tolist())]
        self.of_column: list[list[tuple[int, int]]] = [[] for _ in range(columns)]
        for row, pairs in enumerate(self.of_row):
            for column, cost in pairs:
                self.of_column[column].append((row, cost))
        self.price = [0] * columns
        self.owner = [-1] * columns
        self.column_of = [-1] * len(self.of_row)
        self.paid = [0] * len(self.of_row)
        self.present = [False] * len(self.of_row)

    def add(self, new: int) -> None:
        """Add a row. Another row may lose its partner."""
        self.present[new] = True
        distance: dict[int, int] = {}
        before: dict[int, tuple[int, int]] = {}
        scanned: list[int] = []
        heap: list[tuple[int, int]] = []
        row, start = new, 0
        leaving, shortest, end = new, OUTSIDE, -1
        while True:
            for column, cost in self.of_row[row]:
                length = start + cost - self.price[column]
                if length < distance.get(column, shortest):
                    distance[column] = length
                    before[column] = (row, cost)
                    heapq.heappush(heap, (length, column))
            while heap and heap[0][0] > distance[heap[0][1]]:
                heapq.heappop(heap)
            if not heap or heap[0][0] >= shortest:
                break
            length, column = heapq.heappop(heap)
            row = self.owner[column]
            if row < 0:
                end, shortest = column, length
                break
            scanned.append(column)
            start = length - self.paid[row] + self.price[column]
            if start + OUTSIDE < shortest:
                leaving, shortest = row, start + OUTSIDE
        for column in scanned:
            self.price[column] += distance[column] - shortest
        if end < 0:
            end, self.column_of[leaving] = self.column_of[leaving], -1
        while end >= 0:
            row, cost = before[end]
            self.owner[end], self.paid[row] = row, cost
            end, self.column_of[row] = self.column_of[row], end

    def remove(self, old: int) -> None:
        """Remove a row. Its column, or another one that becomes free, may get a row that had no partner."""
        first = self.column_of[old]
        self.present[old], self.column_of[old] = False, -1
        if first < 0:
            return
        self.owner[first] = -1
        distance: dict[int, int] = {}
        before: dict[int, tuple[int, int]] = {}
        scanned = [(first, 0)]
        heap: list[tuple[int, int]] = []
        column, start = first, 0
        leaving, shortest, end = first, -self.price[first], -1
        while True:
            for row, cost in self.of_column[column]:
                if not self.present[row]:
                    continue
                own = self.column_of[row]
                dual = OUTSIDE if own < 0 else self.paid[row] - self.price[own]
                length = start + cost - self.price[column] - dual
                if length < distance.get(row, shortest):
                    distance[row] = length
                    before[row] = (column, cost)
                    heapq.heappush(heap, (length, row))
            while heap and heap[0][0] > distance[heap[0][1]]:
                heapq.heappop(heap)
            if not heap or heap[0][0] >= shortest:
                break
            start, row = heapq.heappop(heap)
            column = self.column_of[row]
            if column < 0:
                end, shortest = row, start
                break
            scanned.append((column, start))
            if start - self.price[column] < shortest:
                leaving, shortest = column, start - self.price[column]
        for column, length in scanned:
            self.price[column] += shortest - length
        if end < 0:
            end, self.owner[leaving] = self.owner[leaving], -1
        while end >= 0:
            column, cost = before[end]
            self.column_of[end], self.paid[end] = column, cost
            end, self.owner[column] = self.owner[column], end
