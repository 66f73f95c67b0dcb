import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.losses import maximum_entropy_loss


def _case():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    return logits, torch.rand(2, 4, 5, generator=generator) < 0.6


def test_by_hand():
    # probabilities 1/4 and 3/4
    logits = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).reshape(1, 2, 1, 1)
    assert maximum_entropy_loss(logits).item() == pytest.approx(math.log(4) - 0.75 * math.log(3))
    assert maximum_entropy_loss(torch.zeros(1, 5, 2, 2)).item() == pytest.approx(math.log(5))
    sure = torch.tensor([1000.0, -1000.0]).reshape(1, 2, 1, 1).requires_grad_()
    maximum_entropy_loss(sure).backward()
    assert not sure.grad.any()


def test_reference():
    logits, valid = _case()
    expected = eigenspace.entropy(logits.softmax(1).numpy())
    np.testing.assert_allclose(maximum_entropy_loss(logits, reduction="none"), expected, rtol=1e-12)
    assert maximum_entropy_loss(logits).item() == pytest.approx(expected.mean())
    inside = expected[valid.numpy()]
    assert maximum_entropy_loss(logits, valid=valid).item() == pytest.approx(inside.mean())
    assert maximum_entropy_loss(logits, valid=valid, reduction="sum").item() == pytest.approx(inside.sum())


def test_gradient_makes_predictions_more_confident():
    logits, valid = _case()
    logits.requires_grad_()
    for reduction in ("mean", "sum", "none"):
        assert gradcheck(lambda x, r=reduction: maximum_entropy_loss(x, valid=valid, reduction=r), (logits,))
    value = maximum_entropy_loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    moved = logits.detach() - gradient
    assert maximum_entropy_loss(moved) < value
    assert moved.softmax(1).amax(1).mean() > logits.detach().softmax(1).amax(1).mean()


def test_without_valid_pixels_it_is_a_differentiable_zero():
    logits, valid = _case()
    logits.requires_grad_()
    value = maximum_entropy_loss(logits, valid=torch.zeros_like(valid))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_one_class_half_precision_and_relabelling():
    logits, _ = _case()
    assert maximum_entropy_loss(logits[:, :1]).item() == 0
    assert maximum_entropy_loss(logits.half()).dtype == torch.float32
    torch.testing.assert_close(maximum_entropy_loss(logits[:, [2, 0, 1]]), maximum_entropy_loss(logits))


def test_wrong_arguments_are_named():
    logits, valid = _case()
    with pytest.raises(UsageError, match=r"\(B,K,H,W\)"):
        maximum_entropy_loss(logits[0])
    with pytest.raises(UsageError, match="valid must be bool"):
        maximum_entropy_loss(logits, valid=valid.float())
    with pytest.raises(UsageError, match="reduction"):
        maximum_entropy_loss(logits, reduction="max")
