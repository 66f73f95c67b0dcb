import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from wss.errors import UsageError
from wss.kernels import assignment
from wss.metrics.assignment import Candidates, assigned

NONE = 10**6
BACKENDS = ["python", pytest.param("native", marks=pytest.mark.skipif(not assignment.available(), reason="not built"))]


def cheapest(table):
    """Pairs and total cost of the best assignment of a dense table, where ``NONE`` stands for no pair."""
    rows, columns = linear_sum_assignment(table)
    kept = table[rows, columns] < NONE
    return int(kept.sum()), int(table[rows, columns][kept].sum())


def sparse(table):
    rows, columns = np.nonzero(table < NONE)
    begin = np.searchsorted(rows, np.arange(len(table) + 1))
    return Candidates(
        begin.astype(np.int64), columns.astype(np.int32), table[rows, columns].astype(np.int64), table.shape[1]
    )


def example(seed):
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(1, 30, 2)
    table = generator.integers(0, (5, 1000)[seed % 2], (rows, columns))
    table[generator.random(table.shape) < 0.8] = NONE
    present = generator.random((12, rows)) < generator.random((12, 1))
    return table, present


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(16))
def test_every_step_has_the_most_pairs_and_the_least_cost(seed, backend):
    table, present = example(seed)
    matched = assigned(sparse(table), present, backend)
    assert not (matched & ~present).any()
    for rows, partnered in zip(present, matched, strict=True):
        assert cheapest(table[partnered]) == cheapest(table[rows])
        assert cheapest(table[rows])[0] == partnered.sum()


@pytest.mark.skipif(not assignment.available(), reason="not built")
@pytest.mark.parametrize("seed", range(16))
def test_the_backends_agree(seed):
    """Also where several assignments are equally good."""
    table, present = example(seed)
    assert np.array_equal(assigned(sparse(table), present, "python"), assigned(sparse(table), present, "native"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_gives_way_to_a_closer_one_and_comes_back(backend):
    table = np.array([[5], [3], [4], [1]])
    present = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0]], bool)
    partners = [np.flatnonzero(step).tolist() for step in assigned(sparse(table), present, backend)]
    assert partners == [[0], [1], [3], [2], [0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_pairs_are_rearranged_rather_than_lost(backend):
    table = np.array([[0, 900], [0, NONE]])  # the second row's only partner is the first one's best
    assert assigned(sparse(table), np.ones((1, 2), bool), backend).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_partners_and_nothing_at_all(backend):
    assert not assigned(sparse(np.full((3, 2), NONE)), np.ones((2, 3), bool), backend).any()
    assert assigned(sparse(np.full((0, 2), NONE)), np.ones((2, 0), bool), backend).shape == (2, 0)
    assert assigned(sparse(np.full((2, 0), NONE)), np.ones((1, 2), bool), backend).tolist() == [[False, False]]


def test_unknown_backends_are_refused():
    with pytest.raises(UsageError, match="auto, native or python"):
        assigned(sparse(np.array([[1]])), np.ones((1, 1), bool), "cuda")
