import numpy as np
import pytest

from tests.reference.energies import best_expansion, energy, minimum
from wss.errors import DataError, UsageError
from wss.ops.graph_cut import alpha_expansion, min_cut, potts_energy


def _graph(seed, nodes, labels, edges, forbid=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    unary = rng.random((nodes, labels)) * scale
    forbidden = rng.random((nodes, labels)) < forbid
    forbidden[np.arange(nodes), rng.integers(labels, size=nodes)] = False
    unary[forbidden] = np.inf
    pairs = rng.integers(nodes, size=(edges, 2))  # with loops, and pairs that come twice in either direction
    return unary, pairs, rng.random(edges)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("forbid", "scale"), [(0.0, 1.0), (0.4, 1.0), (0.2, 6.0), (0.0, 0.0)])
def test_two_labels_reach_the_minimum(seed, forbid, scale):
    unary, edges, weights = _graph(seed, 8, 2, 14, forbid, scale)
    labels = min_cut(unary, edges, weights)
    assert energy(unary, edges, weights, labels) == pytest.approx(minimum(unary, edges, weights), abs=1e-7)
    assert potts_energy(unary, edges, weights, labels) == pytest.approx(energy(unary, edges, weights, labels))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("forbid", [0.0, 0.3])
def test_no_expansion_move_improves_the_result(seed, forbid):
    unary, edges, weights = _graph(seed, 6, 3, 10, forbid)
    labels = alpha_expansion(unary, edges, weights)
    found = energy(unary, edges, weights, labels)
    assert found == pytest.approx(best_expansion(unary, edges, weights, labels), abs=1e-7)
    assert minimum(unary, edges, weights) <= found + 1e-9
    assert found <= 2 * minimum(unary, edges, weights) + 1e-7
    assert np.isfinite(found)


@pytest.mark.parametrize("seed", range(10))
def test_the_energy_never_rises(seed):
    unary, edges, weights = _graph(seed, 40, 5, 100)
    initial = np.random.default_rng(seed).integers(5, size=40)
    energies = [
        potts_energy(unary, edges, weights, alpha_expansion(unary, edges, weights, initial=initial, iterations=n))
        for n in range(4)
    ]
    assert energies[0] == potts_energy(unary, edges, weights, initial)
    assert energies == sorted(energies, reverse=True)
    assert energies[1] < energies[0]


def test_a_chain_worked_by_hand():
    unary = np.array([[0, np.inf], [1, 1], [1, 1.5], [np.inf, 0]])
    edges = np.array([[0, 1], [1, 2], [2, 3]])
    assert min_cut(unary, edges, np.array([1.0, 0.2, 1.0])).tolist() == [0, 0, 1, 1]  # 0 + 1 + 1.5 + 0 + 0.2
    assert min_cut(unary, edges, np.array([1.0, 0.8, 1.0])).tolist() == [0, 0, 0, 1]  # 0 + 1 + 1 + 0 + 1
    assert alpha_expansion(unary, edges, np.array([1.0, 0.2, 1.0])).tolist() == [0, 0, 1, 1]


def test_of_equal_minima_the_one_with_fewer_ones():
    unary = np.zeros((3, 2))
    assert min_cut(unary, np.array([[0, 1], [1, 2]]), np.ones(2)).tolist() == [0, 0, 0]
    unary[0, 0] = 1  # changing the whole chain costs nothing, changing node 0 alone costs as much as leaving it
    assert min_cut(unary, np.array([[0, 1], [1, 2]]), np.ones(2)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("largest", [1e300, 1e15, 1e-300])
def test_costs_of_any_size(largest):
    unary = np.array([[0, 1.0], [0.3, 0], [1.0, 0]]) * largest
    edges, weights = np.array([[0, 1], [1, 2]]), np.array([0.5, 0.1]) * largest
    assert min_cut(unary, edges, weights).tolist() == [0, 0, 1] == alpha_expansion(unary, edges, weights).tolist()


def test_large_costs_do_not_drown_small_ones():
    unary = np.array([[0, 1e12], [1e-3, 0], [1e12, 0], [0, 2e-3]])
    edges, weights = np.array([[0, 1], [1, 2], [2, 3]]), np.array([3e-3, 1e-3, 1e-3])
    assert min_cut(unary, edges, weights).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("function", [min_cut, alpha_expansion])
def test_without_edges_each_node_takes_its_cheapest_label(function):
    unary = np.array([[1, 0], [0, 1], [0, np.inf], [np.inf, 5.0]])
    assert function(unary, np.empty((0, 2), int), np.empty(0)).tolist() == [1, 0, 0, 1]


def test_edges_of_no_weight_and_nodes_apart():
    unary = np.array([[1.0, 0, 2], [0, 1, 2], [2, 2, 0], [3, 3, 3]])
    assert alpha_expansion(unary, np.array([[0, 1]]), np.zeros(1)).tolist() == [1, 0, 2, 0]
    assert alpha_expansion(unary, np.array([[0, 1]]), np.full(1, 2.0)).tolist() in ([0, 0, 2, 0], [1, 1, 2, 0])


def test_one_label_and_no_node():
    unary = np.array([[3.0], [0]])
    assert alpha_expansion(unary, np.array([[0, 1]]), np.ones(1)).tolist() == [0, 0]
    assert alpha_expansion(np.empty((0, 4)), np.empty((0, 2), int), np.empty(0)).shape == (0,)


def test_a_label_that_is_forbidden_everywhere_is_not_used():
    unary, edges, weights = _graph(0, 30, 4, 60)
    unary[:, 2] = np.inf
    assert 2 not in alpha_expansion(unary, edges, weights)


def test_relabelling_permutes_a_clear_result():
    unary, edges, weights = _graph(3, 12, 3, 20)
    order = np.array([2, 0, 1])
    labels = alpha_expansion(unary, edges, weights * 0.05)
    assert (order[alpha_expansion(unary[:, order], edges, weights * 0.05)] == labels).all()


@pytest.mark.parametrize(
    ("unary", "edges", "weights", "error", "message"),
    [
        (np.zeros(3), np.zeros((0, 2), int), np.zeros(0), UsageError, r"\(N, K\)"),
        (np.zeros((2, 2)), np.zeros((1, 3), int), np.zeros(1), UsageError, r"\(E, 2\)"),
        (np.zeros((2, 2)), np.zeros((1, 2)), np.zeros(1), UsageError, "integers"),
        (np.zeros((2, 2)), np.array([[0, 1]]), np.zeros(2), UsageError, "one per edge"),
        (np.zeros((2, 2)), np.array([[0, 2]]), np.zeros(1), UsageError, "there are 2"),
        (np.zeros((2, 2)), np.array([[0, 1]]), np.array([-1.0]), UsageError, "negative"),
        (np.zeros((2, 2)), np.array([[0, 1]]), np.array([np.inf]), UsageError, "finite"),
        (np.full((2, 2), np.nan), np.array([[0, 1]]), np.ones(1), DataError, "NaN"),
        (np.array([[0, 0], [np.inf, np.inf]]), np.array([[0, 1]]), np.ones(1), DataError, "node 1"),
    ],
)
@pytest.mark.parametrize("function", [min_cut, alpha_expansion])
def test_refuses_what_is_no_energy(function, unary, edges, weights, error, message):
    with pytest.raises(error, match=message):
        function(unary, edges, weights)


def test_refuses_a_start_that_is_no_labelling():
    unary = np.array([[0, np.inf], [0, 1]])
    edges, weights = np.array([[0, 1]]), np.ones(1)
    for initial, message in (([0], r"\(2,\)"), ([0, 2], "0..1"), ([1, 0], "forbids"), ([0.0, 1.0], "integers")):
        with pytest.raises(UsageError, match=message):
            alpha_expansion(unary, edges, weights, initial=np.array(initial))
    with pytest.raises(UsageError, match="two labels"):
        min_cut(np.zeros((2, 3)), edges, weights)
