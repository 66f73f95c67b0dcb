import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.spanning_tree import averages, distances, lengths_of, prim
from wss.errors import UsageError
from wss.losses import tree_energy_loss, tree_targets


def _case(batch=2, classes=3, height=5, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(batch, classes, height, width, generator=generator, dtype=dtype).mul(2).softmax(1)
    colours = torch.rand(batch, 3, height, width, generator=generator)
    features = torch.rand(batch, 4, height, width, generator=generator)
    counted = torch.rand(batch, height, width, generator=generator) < 0.7
    return probs, colours, features, counted


def test_three_pixels_by_hand():
    # In a row, 0.1 and 0.2 apart in colour and alike in features: D = 0.01, 0.04, 0.05, and 0.
    probs = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]], dtype=torch.float64).reshape(1, 2, 1, 3)
    colours = torch.tensor([0.2, 0.3, 0.5]).reshape(1, 1, 1, 3)
    near, far, both = (math.exp(-d / 0.02) for d in (0.01, 0.04, 0.05))
    first = [
        (1 + 0.5 * near) / (1 + near + both),
        (near + 0.5) / (1 + near + far),
        (both + 0.5 * far) / (1 + both + far),
    ]
    alike = torch.ones(1, 2, 1, 3)
    targets = tree_targets(probs, colours, alike)
    expected = torch.full((3,), sum(first) / 3, dtype=torch.float64)
    torch.testing.assert_close(targets[0, 0, 0], expected, rtol=1e-6, atol=0)
    value = 2 * (abs(1 - expected[0]) + abs(0 - expected[0])) / 2  # the middle pixel does not count
    counted = torch.tensor([[[True, False, True]]])
    assert tree_energy_loss(probs, targets, counted=counted).item() == pytest.approx(float(value), rel=1e-6)


def test_targets_are_those_of_the_reference():
    probs, colours, features, _ = _case()
    targets = tree_targets(probs, colours, features, sigma_colour=0.1, sigma_feature=0.5)
    for b in range(2):
        found = probs[b].flatten(1).numpy()
        for maps, sigma in ((colours, 0.1), (features, 0.5)):
            lengths = lengths_of(maps[b].numpy())
            found = averages(found, distances(prim(lengths, 30), lengths, 30), sigma)
        np.testing.assert_allclose(targets[b].flatten(1).numpy(), found, rtol=1e-6)


def test_targets_stay_on_the_simplex_and_permute_with_the_classes():
    probs, colours, features, _ = _case()
    targets = tree_targets(probs.requires_grad_(), colours, features)
    assert not targets.requires_grad
    assert 0 <= targets.min() <= targets.max() <= 1
    torch.testing.assert_close(targets.sum(1), torch.ones(2, 5, 6, dtype=torch.float64))
    order = [2, 0, 1]
    torch.testing.assert_close(tree_targets(probs[:, order], colours, features), targets[:, order])


def test_padding_neither_gives_nor_receives():
    probs, colours, features, _ = _case()
    targets = tree_targets(probs, colours, features)
    wide = [torch.nn.functional.pad(maps, (0, 2, 0, 3), value=0.4) for maps in (probs, colours, features)]
    valid = torch.nn.functional.pad(torch.ones(2, 5, 6, dtype=torch.bool), (0, 2, 0, 3))
    found = tree_targets(*wide, valid=valid)
    torch.testing.assert_close(found[..., :5, :6], targets)
    assert torch.equal(found[..., 5:, :], wide[0][..., 5:, :])


def test_predictions_spread_to_where_image_and_features_are_alike():
    """Two flat halves, one sure pixel in each: the sure pixels win their halves and nothing crosses."""
    colours = torch.zeros(1, 3, 8, 8)
    colours[..., 4:] = 1
    probs = torch.full((1, 2, 8, 8), 0.5)
    probs[0, :, 2, 1] = torch.tensor([1.0, 0.0])
    probs[0, :, 6, 6] = torch.tensor([0.0, 1.0])
    targets = tree_targets(probs, colours, 10 * colours)
    expected = torch.full((8, 8), 0.5 + 0.5 / 32)
    expected[:, 4:] = 0.5 - 0.5 / 32
    torch.testing.assert_close(targets[0, 0], expected)


@pytest.mark.parametrize("some", [False, True])
def test_gradcheck(some):
    probs, colours, features, counted = _case()
    targets = tree_targets(probs, colours, features)
    given = counted if some else None
    assert gradcheck(lambda p: tree_energy_loss(p, targets, counted=given), probs.requires_grad_())
    value = tree_energy_loss(probs, targets, counted=given)
    each = (probs - targets).abs().sum(1).detach()
    assert value.item() == pytest.approx(float(each[counted].mean() if some else each.mean()))


def test_gradient_draws_predictions_to_the_targets():
    probs, colours, features, _ = _case()
    targets = tree_targets(probs, colours, features)
    leaf = probs.clone().requires_grad_()
    tree_energy_loss(leaf, targets).backward()
    assert torch.equal(leaf.grad.sign(), (probs - targets).sign())


def test_without_pixels_that_count_it_is_a_differentiable_zero():
    probs, _, _, counted = _case()
    value = tree_energy_loss(probs.requires_grad_(), probs.flip(1), counted=torch.zeros_like(counted))
    value.backward()
    assert value.item() == 0
    assert not probs.grad.any()


def test_one_class_one_pixel_and_half_precision():
    probs, colours, features, _ = _case(dtype=torch.float32)
    ones = torch.ones(2, 1, 5, 6)
    assert tree_energy_loss(ones, tree_targets(ones, colours, features)).item() == pytest.approx(0, abs=1e-6)
    pixel = [maps[:1, :, :1, :1] for maps in (probs, colours, features)]
    assert tree_energy_loss(pixel[0], tree_targets(*pixel)).item() == 0
    targets = tree_targets(probs.half(), colours.half(), features.half())
    assert targets.dtype == torch.float16
    assert tree_energy_loss(probs.half(), targets).dtype == torch.float32
    torch.testing.assert_close(targets.float(), tree_targets(probs, colours, features), rtol=0, atol=2e-2)


def test_wrong_arguments_are_named():
    probs, colours, features, counted = _case()
    with pytest.raises(UsageError, match="colours must have the images"):
        tree_targets(probs, colours[:, :, 1:], features)
    with pytest.raises(UsageError, match="features must have the images"):
        tree_targets(probs, colours, features[:1])
    with pytest.raises(UsageError, match="sigma must be positive"):
        tree_targets(probs, colours, features, sigma_feature=0)
    with pytest.raises(UsageError, match="probs and targets"):
        tree_energy_loss(probs, probs[:, 1:])
    with pytest.raises(UsageError, match="counted must be bool"):
        tree_energy_loss(probs, probs, counted=counted.float())
