import numpy as np
import pytest
import torch

from wss.losses import partial_cross_entropy, rawks_loss
from wss.methods import Batch, Phase, Rawks
from wss.methods.coarse import coarse_labels
from wss.networks import NetworkSpec
from wss.ops import colour_gradient, hitting_probabilities
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.loop import Hooks, LoopSettings, fit


def _batch(height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rgb = (torch.rand(2, 3, height, width, generator=generator) * 40).round()
    rgb[:, :, :, width // 2 :] += 150
    labels = torch.full((2, height, width), 255)
    labels[:, 10:13, 2:6], labels[:, 10:13, -6:-2] = 0, 1
    return Batch(rgb, labels, torch.ones(2, height, width, dtype=torch.bool), {})


def _model(method):
    torch.manual_seed(1)
    return method.build(NetworkSpec(name="unet", dropout=0), 3)


def test_coarse_labels_keep_every_stroke_and_take_the_majority():
    labels = torch.full((1, 5, 8), 255)
    labels[0, 0, 0] = 2  # one pixel of a cell is enough
    labels[0, 0, 4], labels[0, 1, 4:6] = 0, 1  # two of class 1 against one of class 0
    labels[0, 4, 7] = 1  # in the margin, in a cell that is cut off
    assert coarse_labels(labels, 4, 3).tolist() == [[[2, 1], [255, 1]]]
    assert torch.equal(coarse_labels(labels, 1, 3), labels)
    tie = torch.tensor([[[2, 1], [255, 255]]])
    assert coarse_labels(tie, 2, 3).tolist() == [[[1]]]


@pytest.mark.parametrize(("stride", "size"), [(1, (32, 32)), (4, (32, 48)), (4, (30, 41))])
def test_the_loss_is_equation_11_on_the_grid(stride, size):
    method, batch = Rawks(alpha=0.7, stride=stride), _batch(*size)
    model = _model(method).eval()
    found = method.losses(model, batch, {"rawks", "pce"})
    boundary, logits = model.boundary(batch.rgb), model.logits(batch.rgb)
    assert boundary.shape == (2, -(-size[0] // stride), -(-size[1] // stride))
    assert float(boundary.detach().min()) >= 0
    walk = hitting_probabilities(boundary, coarse_labels(batch.labels, stride, 3), 3)
    torch.testing.assert_close(found["rawks"], rawks_loss(walk, logits, alpha=0.7))
    torch.testing.assert_close(found["pce"], partial_cross_entropy(model(batch.rgb), batch.labels))


def test_crossing_a_wall_costs_the_same_on_every_grid():
    torch.manual_seed(3)
    model, rgb = _model(Rawks(stride=4)).eval(), _batch().rgb
    with torch.no_grad():
        scores = torch.nn.functional.softplus(model.boundary_network(model.normalise(rgb)))[:, 0]
        torch.testing.assert_close(model.boundary(rgb, 1), scores / 4)
        model.boundary_network = torch.nn.Conv2d(3, 1, 1)
        torch.nn.init.zeros_(model.boundary_network.weight)  # the same everywhere
        across = [float(model.boundary(rgb, stride)[0, 0].sum()) for stride in (1, 2, 4)]
    torch.testing.assert_close(across[:2], across[1:])


def test_both_networks_learn_jointly_and_only_q_with_fixed_propagation():
    method, batch = Rawks(stride=2), _batch()
    for term, learns in (("rawks", True), ("fixed", False)):
        model = _model(method)
        method.losses(model, batch, {term})[term].backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.network.parameters())
        moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.boundary_network.parameters())
        assert moved == learns


def test_padding_counts_for_nothing():
    method, batch = Rawks(stride=2), _batch()
    model = _model(method).eval()
    valid = batch.valid.clone()
    valid[:, :, 28:] = False
    cut = Batch(batch.rgb, batch.labels.masked_fill(~valid, 255), valid, {})
    other = cut.rgb.clone()
    before = method.losses(model, cut, {"rawks"})["rawks"]
    logits, boundary = model.logits(other), model.boundary(other)
    walk = hitting_probabilities(boundary[:, :, :14], coarse_labels(cut.labels, 2, 3)[:, :, :14], 3)
    torch.testing.assert_close(before, rawks_loss(walk, logits[:, :, :, :14], alpha=method.alpha))


def test_nothing_labelled_is_a_differentiable_zero():
    method, batch = Rawks(stride=2), _batch()
    empty = Batch(batch.rgb, torch.full_like(batch.labels, 255), batch.valid, {})
    model = _model(method)
    found = method.losses(model, empty, method.term_names)
    assert all(float(value.detach()) == 0 for value in found.values())
    sum(found.values()).backward()


def test_training_lowers_the_loss_and_then_leaves_the_boundaries_alone():
    batch = _batch()
    images = batch.rgb.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    labels = batch.labels.to(torch.uint8).numpy()
    data = TrainingSet(
        ["0", "1"], lambda i: (images[int(i)], {"labels": labels[int(i)]}), AugmentParams(crop=None, flip=0), seed=0
    )
    method = Rawks(stride=1)
    common = {"optimiser": "adamw", "lr": 0.003, "head_multiplier": 1.0}
    phases = (
        Phase(epochs=10, terms={"rawks": 1.0}, **common),
        Phase(epochs=2, terms={"fixed": 1.0}, freeze=("boundary_network",), **common),
    )
    model, kept = _model(method), []
    hooks = Hooks(
        lambda: {},
        lambda state: kept.append({n: v.clone() for n, v in state["model"].items()}),
        lambda rows: None,
        lambda n, note: None,
    )
    rows = fit(model, method, phases, data, LoopSettings(2, 0, torch.device("cpu"), validate_every=0), hooks)
    assert rows[9]["rawks"] < rows[0]["rawks"]
    for name, value in model.boundary_network.state_dict().items():
        assert torch.equal(value, kept[-1][f"boundary_network.{name}"]), name


@pytest.mark.parametrize("stride", [1, 3])
def test_boundaries_that_start_from_the_image(stride):
    """What the network says is multiplied by the gradient, per cell by that of all pixels that a walk crosses there."""
    batch = _batch(20, 26)
    flat, seeing = Rawks(stride=stride), Rawks(stride=stride, edge_strength=1e3, edge_power=3)
    plain, model = _model(flat).eval(), _model(seeing).eval()
    model.load_state_dict(plain.state_dict())
    gradient = 1e3 * colour_gradient(batch.rgb).numpy() ** 3
    padded = np.pad(gradient, ((0, 0), (0, -20 % stride), (0, -26 % stride)))
    rows, columns = (side // stride for side in padded.shape[1:])
    crossed = padded.reshape(2, rows, stride, columns, stride).sum((2, 4)) / stride
    with torch.no_grad():
        ratio = model.boundary(batch.rgb) / plain.boundary(batch.rgb)
    np.testing.assert_allclose(ratio, crossed.clip(0.01, 1e3), rtol=1e-4)


def test_walks_that_start_from_the_image_stop_at_its_edges_before_any_training():
    rgb = torch.full((1, 3, 32, 40), 60.0)
    rgb[..., 20:] = 90
    scribble = torch.full((1, 32, 40), 255)
    scribble[:, :, 1], scribble[:, :, 22] = 0, 1  # half way between them lies far from the edge at 20
    model = _model(Rawks(stride=1, edge_strength=1e6)).eval()
    with torch.no_grad():
        found = hitting_probabilities(model.boundary(rgb), scribble, 3).argmax(1)
    assert (found[:, :, 1:19] == 0).float().mean() > 0.95
    assert (found[:, :, 21:] == 1).all()


def test_the_boundary_network_learns_on_top_of_the_image():
    method, batch = Rawks(stride=1, edge_strength=1e6), _batch()
    model = _model(method)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.losses(model, batch, {"rawks"})["rawks"]
    loss.backward()
    gradients = [p.grad for p in model.boundary_network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
