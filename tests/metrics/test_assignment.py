import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from wss.metrics.assignment import assigned_until

NONE = 10**6


def cheapest(table):
    """Pairs and total cost of the best assignment of a dense table, where ``NONE`` stands for no pair."""
    rows, columns = linear_sum_assignment(table)
    kept = table[rows, columns] < NONE
    return int(kept.sum()), int(table[rows, columns][kept].sum())


def sparse(table):
    rows, columns = np.nonzero(table < NONE)
    begin = np.searchsorted(rows, np.arange(len(table) + 1))
    return begin.astype(np.int64), columns.astype(np.int32), table[rows, columns].astype(np.int64), table.shape[1]


@pytest.mark.parametrize("seed", range(12))
def test_every_prefix_has_the_most_pairs_and_the_least_cost(seed):
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(1, 30, 2)
    table = generator.integers(0, (5, 1000)[seed % 2], (rows, columns))
    table[generator.random(table.shape) < 0.8] = NONE
    until = assigned_until(*sparse(table))
    assert until.dtype == np.int64
    for count in range(1, rows + 1):
        alive = np.flatnonzero(until[:count] >= count)
        assert cheapest(table[:count]) == cheapest(table[alive]) if len(alive) else cheapest(table[:count])[0] == 0
        assert cheapest(table[:count])[0] == len(alive)


def test_a_row_gives_way_to_a_closer_one():
    table = np.array([[5], [3], [4], [1]])
    assert assigned_until(*sparse(table)).tolist() == [1, 3, 2, 4]


def test_pairs_are_rearranged_rather_than_lost():
    table = np.array([[0, 900], [0, NONE]])  # the second row's only partner is the first one's best
    assert assigned_until(*sparse(table)).tolist() == [2, 2]


def test_rows_without_partners_and_nothing_at_all():
    assert assigned_until(*sparse(np.full((3, 2), NONE))).tolist() == [0, 1, 2]
    assert assigned_until(*sparse(np.full((0, 2), NONE))).tolist() == []
    assert assigned_until(*sparse(np.full((2, 0), NONE))).tolist() == [0, 1]
