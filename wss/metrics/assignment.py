"""Assignments of one kind of thing to another that keep as many pairs as can be, at the least total cost."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

OUTSIDE = 1 << 40
"""Cost of a row without partner: no saving in the costs of other pairs is worth one pair less."""


def assigned_until(
    begin: NDArray[np.int64],
    partners: NDArray[np.int32],
    costs: NDArray[np.int64],
    columns: int,
) -> NDArray[np.int64]:
    """Assign ever more rows to columns, one to one: the most pairs that there can be, and of those the cheapest.

    One pass gives the assignment of the first row, of the first two, and so on, because a row that once gives way to a
    later one never finds a partner again.

    Args:
        begin: int64 (N+1,), where each row's pairs begin in the next two, and the end.
        partners: int32 (P,), columns that the rows may have.
        costs: int64 (P,), at least 0, those of any assignment together below ``OUTSIDE``; whole numbers, so that sums are exact.
        columns: How many there are.

    Returns:
        int64 (N,): row r has a partner among the first n rows when r < n <= result[r].

    Source: shortest augmenting paths on reduced costs, Jonker and Volgenant 1987, "A shortest augmenting path algorithm for dense
        and sparse linear assignment problems". Each row has a column of its own at the cost ``OUTSIDE``, which no other may take.
    """
    marks, values = partners.tolist(), costs.tolist()
    pairs = [list(zip(marks[a:b], values[a:b], strict=True)) for a, b in pairwise(begin.tolist())]
    price = [0] * columns  # at most 0, and 0 for columns without partner
    owner = [-1] * columns
    column_of = [-1] * len(pairs)
    paid = [0] * len(pairs)
    until = np.full(len(pairs), len(pairs), np.int64)
    for new in range(len(pairs)):
        distance: dict[int, int] = {}
        before: dict[int, tuple[int, int]] = {}
        scanned: list[int] = []
        heap: list[tuple[int, int]] = []
        row, start = new, 0
        leaving, shortest = new, OUTSIDE
        end = -1
        while True:
            for column, cost in pairs[row]:
                length = start + cost - price[column]
                if length < distance.get(column, shortest):
                    distance[column] = length
                    before[column] = (row, cost)
                    heapq.heappush(heap, (length, column))
            while heap and heap[0][0] > distance[heap[0][1]]:
                heapq.heappop(heap)
            if not heap or heap[0][0] >= shortest:
                break
            length, column = heapq.heappop(heap)
            row = owner[column]
            if row < 0:
                end, shortest = column, length
                break
            scanned.append(column)
            start = length - paid[row] + price[column]
            if start + OUTSIDE < shortest:
                leaving, shortest = row, start + OUTSIDE
        for column in scanned:
            price[column] += distance[column] - shortest
        if end < 0:
            until[leaving] = new
            end, column_of[leaving] = column_of[leaving], -1
        while end >= 0:
            owner[end], cost = before[end]
            row = owner[end]
            paid[row] = cost
            end, column_of[row] = column_of[row], end
    return until
