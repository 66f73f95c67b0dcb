import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.hitting import loss_map
from wss.errors import DataError, UsageError
from wss.losses import rawks_loss, uncertainty_weights
from wss.ops import hitting_probabilities, reachable


def _case(seed=0, shape=(2, 3, 4, 5)):
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(1)
    return probs, torch.randn(shape, generator=generator, dtype=torch.float64)


def test_by_hand():
    # P = (1/2, 1/2), Q = (1/4, 3/4): H = log 2, KL = log 2 - (log 3) / 2 + ... = log(2 / sqrt(3)), w = 2^-alpha.
    probs = torch.full((1, 2, 1, 1), 0.5, dtype=torch.float64)
    logits = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).reshape(1, 2, 1, 1)
    value = rawks_loss(probs, logits, alpha=2.0)
    assert value.item() == pytest.approx(0.25 * math.log(2 / math.sqrt(3)) + math.log(2))
    assert uncertainty_weights(probs, alpha=2.0).item() == pytest.approx(0.25)


def _single_pixels(shape=(2, 4, 5)):
    """Masks (B,H,W) in which one pixel counts, in the order of memory."""
    return torch.eye(math.prod(shape), dtype=torch.bool).reshape(-1, *shape)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 5.0])
def test_reference(alpha):
    probs, logits = _case()
    probs[0, :, 1, 2] = torch.tensor([0.0, 1.0, 0.0])
    probs[1, :, 0, 0] = torch.tensor([0.5, 0.5, 0.0])
    expected = np.stack([loss_map(p, q, alpha) for p, q in zip(probs.numpy(), logits.numpy(), strict=True)])
    assert rawks_loss(probs, logits, alpha=alpha).item() == pytest.approx(expected.mean(), rel=1e-12)
    each = [rawks_loss(probs, logits, alpha=alpha, valid=valid).item() for valid in _single_pixels()]
    np.testing.assert_allclose(np.reshape(each, expected.shape), expected, rtol=1e-12)


def test_alpha_zero_is_soft_cross_entropy():
    probs, logits = _case()
    expected = torch.nn.functional.cross_entropy(logits, probs)
    assert rawks_loss(probs, logits, alpha=0.0).item() == pytest.approx(expected.item())


def test_gradient_to_both():
    probs, logits = _case()
    valid = torch.rand(2, 4, 5) < 0.7
    assert gradcheck(
        lambda p, q: rawks_loss(p, q, alpha=1.5, valid=valid), (probs.requires_grad_(), logits.requires_grad_())
    )


def test_invalid_pixels_do_not_count():
    probs, logits = _case()
    valid = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    counted = [rawks_loss(probs, logits, alpha=1.0, valid=v).item() for v in _single_pixels() if (v & valid).any()]
    assert rawks_loss(probs, logits, alpha=1.0, valid=valid).item() == pytest.approx(np.mean(counted))
    logits.requires_grad_()
    rawks_loss(probs, logits, alpha=1.0, valid=valid).backward()
    assert (logits.grad.abs().sum(1) > 0).equal(valid)


def test_nothing_labelled_is_a_differentiable_zero():
    boundary = torch.rand(2, 3, 4, requires_grad=True)
    scribble = torch.full((2, 3, 4), 255)
    logits = torch.randn(2, 3, 3, 4, requires_grad=True)
    probs = hitting_probabilities(boundary, scribble, 3)
    value = rawks_loss(probs, logits, alpha=1.0, valid=reachable(boundary, scribble))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    assert torch.equal(boundary.grad, torch.zeros_like(boundary))


def test_joint_gradient_reaches_the_boundaries():
    """Through zeros of P: labelled pixels and a class that the image has no scribble of."""
    boundary = torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    scribble = torch.full((1, 4, 5), 255)
    scribble[0, 0, 0], scribble[0, 3, 4], scribble[0, 1, 3] = 0, 2, 2
    logits = torch.randn(1, 4, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(b, q):
        return rawks_loss(hitting_probabilities(b, scribble, 4), q, alpha=1.5)

    assert gradcheck(loss, (boundary.requires_grad_(), logits.requires_grad_()))


def test_relabelling_classes_changes_nothing():
    probs, logits = _case()
    order = [2, 0, 1]
    torch.testing.assert_close(
        rawks_loss(probs[:, order], logits[:, order], alpha=1.0), rawks_loss(probs, logits, alpha=1.0)
    )


def test_half_precision_one_class_and_non_contiguous():
    probs, logits = _case()
    assert rawks_loss(probs.float(), logits.half(), alpha=1.0).dtype == torch.float32
    assert rawks_loss(torch.ones(1, 1, 2, 2), torch.randn(1, 1, 2, 2), alpha=1.0).item() == 0
    turned = rawks_loss(probs.transpose(2, 3), logits.transpose(2, 3), alpha=1.0)
    torch.testing.assert_close(turned, rawks_loss(probs, logits, alpha=1.0))


def test_wrong_arguments_are_named():
    probs, logits = _case()
    cases = [
        (UsageError, r"\(B,K,H,W\)", (probs[:, 1:], logits), {"alpha": 1.0}),
        (UsageError, "valid must be bool", (probs, logits), {"alpha": 1.0, "valid": torch.ones(2, 4, 5)}),
        (UsageError, "alpha", (probs, logits), {"alpha": -1.0}),
        (DataError, "not logits", (logits, logits), {"alpha": 1.0}),
    ]
    for error, message, arguments, settings in cases:
        with pytest.raises(error, match=message):
            rawks_loss(*arguments, **settings)
