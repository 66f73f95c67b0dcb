"""Assignments of rows to columns that keep as many pairs as possible, at the least total cost, while rows come and go."""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError

OUTSIDE = 1 << 40
"""Cost of a row without partner: no saving in the costs of other pairs is worth one pair less."""

Backend = Literal["auto", "native", "python"]


class Candidates(NamedTuple):
    """Pairs that an assignment may use, grouped by row.

    Attributes:
        begin: int64 (R+1,), the pairs of row r are ``begin[r]`` to ``begin[r+1] - 1``.
        partners: int32 (P,), their columns.
        costs: int64 (P,), at least 0; the costs of any assignment sum to less than ``OUTSIDE``. Whole numbers keep sums exact.
        columns: Number of columns.
    """

    begin: NDArray[np.int64]
    partners: NDArray[np.int32]
    costs: NDArray[np.int64]
    columns: int


def assigned(candidates: Candidates, present: NDArray[np.bool_], backend: Backend = "auto") -> NDArray[np.bool_]:
    """Assign the rows that are present in each step to columns, one to one: the most pairs, and of those the cheapest.

    Each step starts from the assignment of the step before and repairs it where rows went or came, so that steps that differ
    little cost little.

    Args:
        candidates: The pairs.
        present: bool (T,R), the rows of each step.
        backend: ``native`` (compiled) or ``python``, with the same result; ``auto`` is native if it is installed.

    Returns:
        bool (T,R), rows that have a partner.

    Raises:
        UsageError: Unknown backend, or ``native`` is not installed.

    Source: shortest augmenting paths on reduced costs, Jonker and Volgenant 1987, "A shortest augmenting path algorithm for dense
        and sparse linear assignment problems". Each row has a column of its own at the cost ``OUTSIDE``, which no other may take.
        A row that goes frees its column, and the shortest path from this column finds a new row for it or for another column.
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
    """The best assignment of the rows that were added and not removed.

    Duals keep it the best one. A column's is ``price``: at most 0, and 0 without partner. A row's is the cost of its pair less
    the column's price, at most ``OUTSIDE``, and ``OUTSIDE`` without partner. No pair costs less than the sum of its two.
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
        """Assign one more row; another one may lose its partner."""
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
        """Take a row out; its column, or one that this lets go, may get a row that had no partner."""
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
