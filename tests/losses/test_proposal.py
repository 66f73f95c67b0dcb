import math

import pytest
import torch
from torch.autograd import gradcheck

from wss.errors import UsageError
from wss.losses import proposal_loss


def _case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype)
    proposals = torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype).mul(2).softmax(1)
    mask = torch.rand(2, 4, 5, generator=generator) > 0.4
    return logits, proposals, mask


def test_one_pixel_by_hand():
    logits = torch.tensor([math.log(3.0), 0.0]).reshape(1, 2, 1, 1)  # S = (3/4, 1/4)
    proposals = torch.tensor([0.5, 0.5]).reshape(1, 2, 1, 1)
    entropy = -0.5 * math.log(0.75) - 0.5 * math.log(0.25)
    assert proposal_loss(logits, proposals).item() == pytest.approx(entropy)
    assert proposal_loss(logits, proposals, divergence="kl").item() == pytest.approx(entropy - math.log(2))


@pytest.mark.parametrize("divergence", ["ce", "kl"])
def test_reference(divergence):
    logits, proposals, mask = _case()
    total, count = 0.0, 0
    for b, y, x in mask.nonzero().tolist():
        scores = [math.exp(v) for v in logits[b, :, y, x].tolist()]
        for score, proposal in zip(scores, proposals[b, :, y, x].tolist(), strict=True):
            total -= proposal * math.log(score / sum(scores))
            total += proposal * math.log(proposal) if divergence == "kl" else 0
        count += 1
    assert 0 < count < mask.numel()
    value = proposal_loss(logits, proposals, mask=mask, divergence=divergence)
    assert value.item() == pytest.approx(total / count)


def test_gradients_of_both_are_the_difference():
    logits, proposals, mask = _case()
    for divergence in ("ce", "kl"):
        leaf, fixed = logits.clone().requires_grad_(), proposals.clone().requires_grad_()
        proposal_loss(leaf, fixed, mask=mask, divergence=divergence).backward()
        expected = (logits.softmax(1) - proposals) * mask[:, None] / mask.sum()
        torch.testing.assert_close(leaf.grad, expected)
        assert fixed.grad is None
    assert gradcheck(lambda v: proposal_loss(v, proposals, mask=mask), logits.requires_grad_())


def test_agreement_costs_nothing_in_kl_even_where_proposals_are_certain():
    logits, _, _ = _case()
    assert proposal_loss(logits, logits.softmax(1), divergence="kl").item() == pytest.approx(0, abs=1e-12)
    certain = torch.zeros_like(logits)
    certain[:, 1] = 1
    values = [proposal_loss(logits, certain, divergence=divergence) for divergence in ("ce", "kl")]
    torch.testing.assert_close(*values)


def test_empty_mask_is_a_differentiable_zero():
    logits, proposals, mask = _case()
    value = proposal_loss(logits.requires_grad_(), proposals, mask=torch.zeros_like(mask))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_half_precision_and_one_class():
    logits, proposals, mask = _case(torch.float32)
    half = proposal_loss(logits.bfloat16(), proposals, mask=mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, proposal_loss(logits, proposals, mask=mask), rtol=1e-2, atol=1e-2)
    assert proposal_loss(logits[:, :1], torch.ones(2, 1, 4, 5)).item() == 0


def test_refuses():
    logits, proposals, mask = _case()
    with pytest.raises(UsageError, match=r"\(B,K,H,W\)"):
        proposal_loss(logits, proposals[:, :2])
    with pytest.raises(UsageError, match="mask"):
        proposal_loss(logits, proposals, mask=mask.long())
    with pytest.raises(UsageError, match="ce or kl"):
        proposal_loss(logits, proposals, divergence="js")
