import pytest
import torch
from torch.autograd import gradcheck

from wss.errors import UsageError
from wss.losses import feature_consistency_loss


def _case():
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2)]
    return *pair, torch.rand(2, 4, 5, generator=generator) < 0.6


def test_mean_over_valid_positions():
    features, target, valid = _case()
    errors = [
        float(sum((features[b, c, y, x] - target[b, c, y, x]) ** 2 for c in range(3))) / 3
        for b, y, x in valid.nonzero().tolist()
    ]
    found = feature_consistency_loss(features, target, valid=valid)
    assert found.item() == pytest.approx(sum(errors) / len(errors))
    plain = feature_consistency_loss(features, target)
    assert plain.item() == pytest.approx((features - target).square().mean().item())


def test_gradient_and_none_to_the_target():
    features, target, valid = _case()
    features.requires_grad_()
    target.requires_grad_()
    assert gradcheck(lambda f: feature_consistency_loss(f, target, valid=valid), (features,))
    feature_consistency_loss(features, target).backward()
    assert target.grad is None


def test_without_valid_positions_it_is_a_differentiable_zero():
    features, target, valid = _case()
    features.requires_grad_()
    value = feature_consistency_loss(features, target, valid=torch.zeros_like(valid))
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_wrong_arguments_are_named():
    features, target, valid = _case()
    assert feature_consistency_loss(features.half(), target.half()).dtype == torch.float32
    with pytest.raises(UsageError, match=r"\(B,C,h,w\)"):
        feature_consistency_loss(features, target[:, 1:])
    with pytest.raises(UsageError, match="valid must be bool"):
        feature_consistency_loss(features, target, valid=valid.float())
