import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.boundary_loss import boundary_loss
from wss.errors import UsageError
from wss.losses import boundary_regression_loss


def _case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(2, 5, 7, generator=generator, dtype=dtype)
    edges = torch.rand(2, 5, 7, generator=generator, dtype=dtype)
    valid = torch.rand(2, 5, 7, generator=generator) > 0.4
    return predicted, edges, valid


def test_two_pixels_by_hand():
    predicted, edges = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[1.0, 0.2]]])
    assert boundary_regression_loss(predicted, edges).item() == pytest.approx((0.25 + 0.64) / 2)
    first = torch.tensor([[[True, False]]])
    assert boundary_regression_loss(predicted, edges, valid=first).item() == pytest.approx(0.25)


def test_reference():
    predicted, edges, valid = _case()
    maps = [m.numpy() for m in (predicted, edges, valid)]
    assert boundary_regression_loss(predicted, edges, valid=valid).item() == pytest.approx(boundary_loss(*maps))
    everywhere = np.ones(valid.shape, bool)
    assert boundary_regression_loss(predicted, edges).item() == pytest.approx(boundary_loss(*maps[:2], everywhere))


def test_gradients():
    predicted, edges, valid = _case()
    assert gradcheck(lambda p: boundary_regression_loss(p, edges, valid=valid), predicted.requires_grad_())
    edges.requires_grad_()
    boundary_regression_loss(predicted, edges, valid=valid).backward()
    assert edges.grad is None
    assert (predicted.grad[~valid] == 0).all()
    assert (predicted.grad[valid] != 0).all()


def test_what_lies_outside_does_not_count():
    predicted, edges, valid = _case()
    value = boundary_regression_loss(predicted, edges, valid=valid)
    changed = edges.where(valid, 0.123)
    assert boundary_regression_loss(predicted, changed, valid=valid) == value
    shifted = predicted.transpose(1, 2).contiguous().transpose(1, 2)  # another memory layout
    assert not shifted.is_contiguous()
    assert boundary_regression_loss(shifted, edges, valid=valid) == value


def test_nothing_valid_is_a_differentiable_zero():
    predicted, edges, valid = _case()
    value = boundary_regression_loss(predicted.requires_grad_(), edges, valid=torch.zeros_like(valid))
    value.backward()
    assert value.item() == 0
    assert (predicted.grad == 0).all()


def test_half_precision_is_computed_in_float32():
    predicted, edges, _ = _case(torch.float32)
    loss = boundary_regression_loss(predicted.bfloat16(), edges)
    assert loss.dtype == torch.float32
    assert loss == boundary_regression_loss(predicted.bfloat16().float(), edges)


def test_refuses():
    predicted, edges, valid = _case()
    with pytest.raises(UsageError, match=r"\(B,H,W\)"):
        boundary_regression_loss(predicted[:, None], edges[:, None])
    with pytest.raises(UsageError, match=r"\(2, 5, 6\)"):
        boundary_regression_loss(predicted, edges[..., :6])
    with pytest.raises(UsageError, match="uint8"):
        boundary_regression_loss(predicted, (edges * 255).to(torch.uint8))
    with pytest.raises(UsageError, match="valid"):
        boundary_regression_loss(predicted, edges, valid=valid.long())
