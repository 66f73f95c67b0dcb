import pytest
import torch

from tests.reference.edge_loss import edge_loss_reference
from wss.errors import WssError
from wss.losses import edge_loss


def case(seed=0, batch=2, maps=3, size=(5, 7)):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, maps, *size, generator=rng, dtype=torch.float64)
    edges = (torch.rand(batch, *size, generator=rng) < 0.2).double()
    valid = torch.rand(batch, *size, generator=rng) < 0.8
    return logits, edges, valid


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_equation(seed):
    logits, edges, valid = case(seed)
    got = edge_loss(logits, edges, valid, negative_weight=1.3, side_weight=0.4)
    assert float(got) == pytest.approx(edge_loss_reference(logits, edges, valid, 1.3, 0.4), rel=1e-9)


def test_without_a_mask_all_pixels_count():
    logits, edges, _ = case()
    assert torch.equal(edge_loss(logits, edges), edge_loss(logits, edges, torch.ones_like(edges, dtype=torch.bool)))


def test_gradcheck():
    logits, edges, valid = case(size=(3, 4))
    assert torch.autograd.gradcheck(lambda x: edge_loss(x, edges, valid), logits.requires_grad_())


def test_by_hand():
    """Logits 0 cost log 2 each: one edge weighs 3/4, three others 1.1/4 each, over four pixels."""
    edges = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    loss = edge_loss(torch.zeros(1, 1, 1, 4), edges)
    assert float(loss) == pytest.approx((0.75 + 3 * 1.1 * 0.25) / 4 * 0.6931472, rel=1e-6)


def test_pixels_that_do_not_count_get_no_gradient():
    logits, edges, valid = case()
    edge_loss(logits.requires_grad_(), edges, valid).backward()
    assert not logits.grad.masked_select(~valid[:, None]).any()
    assert logits.grad.masked_select(valid[:, None]).all()


@pytest.mark.parametrize("edges", [torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
def test_one_class_only_is_no_loss(edges):
    """An image without edges weighs its pixels by the share of edges, which is 0, and the other way round."""
    assert float(edge_loss(torch.randn(1, 2, 4, 4), edges)) == 0


def test_no_valid_pixel_is_a_differentiable_zero():
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = edge_loss(logits, torch.ones(1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_layout_does_not_matter():
    logits, edges, valid = case()
    strided = logits.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.allclose(edge_loss(strided, edges, valid), edge_loss(logits, edges, valid))


def test_shapes_must_agree():
    with pytest.raises(WssError, match="agree"):
        edge_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4))
    with pytest.raises(WssError, match="agree"):
        edge_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3), torch.ones(1, 3, 2, dtype=torch.bool))
