import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.losses import transition_consistency_loss
from wss.ops import transition_matrix


def _case(shape=(2, 6, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    pair = [(2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(2) for _ in range(2)]
    valid = torch.ones(shape[:2], dtype=torch.bool)
    valid[0, 1:3], valid[-1, -1] = False, False
    return *pair, valid


def test_by_hand():
    # Two positions; rows (1/2, 1/2) against (1/4, 3/4): KL of the target to it is 1/4 log(1/2) + 3/4 log(3/2).
    found = torch.full((1, 2, 2), 0.5, dtype=torch.float64)
    target = torch.tensor([[[0.25, 0.75], [0.25, 0.75]]], dtype=torch.float64)
    target[0, 1] = 0.5
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    value = transition_consistency_loss(found, target, gamma=0.1)
    assert value.item() == pytest.approx(divergence / 2 + 0.1 * 0.25)
    summed = transition_consistency_loss(found, target, gamma=0.1, reduction="batchmean")
    assert summed.item() == pytest.approx(divergence + 0.1 * 0.25)
    entries = transition_consistency_loss(found, target, gamma=0.1, reduction="entries")
    assert entries.item() == pytest.approx(divergence / 4 + 0.1 * 0.25)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("direction", ["target-found", "found-target"])
@pytest.mark.parametrize("masked", [False, True])
def test_reference(log, direction, masked):
    found, target, valid = _case()
    given = valid if masked else None
    rows = valid if masked else torch.ones_like(valid)
    parts = eigenspace.consistency(found.numpy(), target.numpy(), rows.numpy(), 0.3, direction == "found-target")
    pair = (found.log(), target.log()) if log else (found, target)
    options = {"log": log, "gamma": 0.3, "direction": direction, "valid": given}
    traces = sum(trace for _, trace in parts) / 2
    every = [d for divergences, _ in parts for d in divergences]
    each = [sum(d) / len(d) + trace for d, trace in parts]
    value = transition_consistency_loss(*pair, **options)
    assert value.item() == pytest.approx(sum(every) / len(every) + traces, rel=1e-9)
    entries = transition_consistency_loss(*pair, **options, reduction="entries")
    assert entries.item() == pytest.approx(sum(every) / len(every) / 6 + traces, rel=1e-9)
    per_image = transition_consistency_loss(*pair, **options, reduction="batchmean")
    assert per_image.item() == pytest.approx(sum(every) / 2 + traces, rel=1e-9)
    np.testing.assert_allclose(transition_consistency_loss(*pair, **options, reduction="none"), each, rtol=1e-9)


@pytest.mark.parametrize("direction", ["target-found", "found-target"])
@pytest.mark.parametrize("log", [False, True])
def test_gradient_and_none_to_the_target(direction, log):
    found, target, valid = _case((1, 4, 4))
    pair = (found.log(), target.log()) if log else (found, target)
    leaf, constant = pair[0].detach().requires_grad_(), pair[1].detach().requires_grad_()
    assert gradcheck(
        lambda p: transition_consistency_loss(p, pair[1], log=log, gamma=0.3, direction=direction, valid=valid), (leaf,)
    )
    transition_consistency_loss(leaf, constant, log=log, direction=direction).backward()
    assert leaf.grad.abs().sum() > 0
    assert constant.grad is None


def test_equal_matrices_agree_and_others_do_not():
    found, target, _ = _case()
    assert transition_consistency_loss(found, found).item() == 0
    assert transition_consistency_loss(found, target, gamma=0).item() > 0.1
    moved = found.roll(1, 2)  # the same eigenvalues are not enough
    assert transition_consistency_loss(moved, found, gamma=0).item() > 0.1


def test_confident_features_keep_their_gradient_with_logarithms():
    features = torch.zeros(1, 2, 1, 2)
    features[0, 0, 0, 0], features[0, 1, 0, 1] = 30, 30
    features.requires_grad_()
    target = torch.full((1, 2, 2), math.log(0.5))
    value = transition_consistency_loss(transition_matrix(features, log=True), target, log=True, gamma=0)
    value.backward()
    assert value.item() == pytest.approx(450 + math.log(0.5), rel=1e-5)
    assert features.grad.abs().max() > 1


def test_without_valid_rows_it_is_a_differentiable_zero():
    found, target, valid = _case()
    for reduction in ("mean", "batchmean", "entries", "none"):
        leaf = found.clone().requires_grad_()
        value = transition_consistency_loss(leaf, target, valid=torch.zeros_like(valid), reduction=reduction)
        value.sum().backward()
        assert value.abs().sum().item() == 0
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_half_precision_is_computed_in_single():
    found, target, _ = _case()
    assert transition_consistency_loss(found.half(), target.half()).dtype == torch.float32


def test_wrong_arguments_are_named():
    found, target, valid = _case()
    for message, pair, options in [
        (r"\(B,N,N\)", (found[:, 1:], target), {}),
        ("valid must be bool", (found, target), {"valid": valid.long()}),
        ("gamma", (found, target), {"gamma": -1.0}),
        ("direction", (found, target), {"direction": "forward"}),
        ("reduction", (found, target), {"reduction": "max"}),
    ]:
        with pytest.raises(UsageError, match=message):
            transition_consistency_loss(*pair, **options)
