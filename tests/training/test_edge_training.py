import numpy as np
import pytest
import torch

from tests.datasets.bsds_files import blocks, lines
from wss.errors import WssError
from wss.networks.small_edges import SmallEdgeNet
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.edges import DISPUTED, EDGE, NO_EDGE, EdgeHooks, EdgeTrainingParams, edge_labels, fit_edges

AUGMENT = AugmentParams(crop=32, scale=(0.8, 1.2), rotate_deg=10)
CPU = torch.device("cpu")


def column(place, size=(6, 12)):
    marked = np.zeros(size, bool)
    marked[:, place] = True
    return marked


def test_labels_by_hand():
    people = [column(3), column(4), column(9), np.zeros((6, 12), bool)]
    near = edge_labels(people, 0.5, 1)  # 3 and 4 support each other, nobody supports 9
    assert (near[:, [3, 4]] == EDGE).all()
    assert (near[:, 9] == DISPUTED).all()
    assert (near[:, [0, 2, 5, 8, 10]] == NO_EDGE).all()
    exact = edge_labels(people, 0.5, 0)
    assert (exact[:, [3, 4, 9]] == DISPUTED).all()
    assert (edge_labels(people, 0.25, 0)[:, [3, 4, 9]] == EDGE).all()


def network(seed=0):
    torch.manual_seed(seed)
    return SmallEdgeNet(widths=(8, 8, 8, 8), decoder=8)


def data(seed=0):
    rng = np.random.default_rng(1)
    samples = {}
    for name in "abcd":
        image, segments = blocks(rng)
        samples[name] = (image, {"labels": edge_labels([lines(segments)], 0.3, 0)})
    return TrainingSet(list(samples), samples.__getitem__, AUGMENT, seed)


def train(params, hooks=None, state=None, model=None):
    model = model or network()
    rows = fit_edges(model, data(), params, CPU, hooks or EdgeHooks(), state)
    return model, rows


def test_it_learns_where_colours_change():
    params = EdgeTrainingParams(epochs=40, batch_size=4, lr=1e-2, warmup_iters=5, average=0.9)
    model, rows = train(params)
    assert len(rows) == 40
    assert rows[-1]["step"] == 40
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["lr"] < 2e-4
    image, segments = blocks(np.random.default_rng(7))
    with torch.no_grad():
        edges = model(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0, -1]
    marked = torch.from_numpy(lines(segments))
    assert not model.training
    assert edges[marked].mean() > edges[~marked].mean() + 0.05


def test_a_resumed_training_ends_with_the_same_weights(monkeypatch):
    monkeypatch.setattr("wss.training.edges.CHECKPOINT_INTERVAL_S", 0.0)
    params = EdgeTrainingParams(epochs=3, batch_size=2, warmup_iters=2)
    states = []

    def save(state):
        states.append(torch.utils._pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, state))

    whole, rows = train(params, EdgeHooks(save=save))
    assert [state["step"] for state in states] == [1, 2, 3, 4, 5]
    resumed, again = train(params, state=states[2], model=network(seed=9))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]


def test_the_seed_decides():
    params = EdgeTrainingParams(epochs=1, batch_size=2)
    first, again, other = (train(params, model=network(seed))[0].result.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_divergence_is_told():
    model = network()
    with torch.no_grad():
        model.result.weight.fill_(float("nan"))
    with pytest.raises(WssError, match="no longer finite at step 1"):
        train(EdgeTrainingParams(epochs=1, batch_size=2), model=model)
