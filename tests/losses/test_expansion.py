import math

import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.sec import expansion
from wss.errors import UsageError
from wss.losses import expansion_loss

DECAYS = (0.9, 0.3, 0.97)
NAMES = ("present_decay", "absent_decay", "background_decay")
TAGS = [[True, True, False, True], [True, False, False, False], [False, False, True, True]]


def _case(shape=(3, 4, 5, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1)
    return probs, torch.tensor(TAGS)


def _reference(probs, tags, background, decays, map_px=None):
    each = [
        expansion(p.flatten(1).numpy(), t.tolist(), background, decays, map_px)
        for p, t in zip(probs, tags, strict=True)
    ]
    return sum(each) / len(each)


def test_by_hand():
    """One row of four pixels: class 1 is there, class 2 is not."""
    probs = torch.tensor([[0.9, 0.5, 0.2, 0.0], [0.1, 0.4, 0.8, 0.9], [0.0, 0.1, 0.0, 0.1]], dtype=torch.float64).view(
        1, 3, 1, 4
    )
    tags = torch.tensor([[True, True, False]])
    loss = expansion_loss(probs, tags, present_decay=0.5, absent_decay=0.0, background_decay=1.0, map_px=None)
    there = (0.9 + 0.5 * 0.8 + 0.25 * 0.4 + 0.125 * 0.1) / 1.875
    expected = -math.log(there) - math.log(1 - 0.1) - math.log(1.6 / 4)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("background", [0, 2, None])
@pytest.mark.parametrize("map_px", [None, 7, 120])
def test_reference(background, map_px):
    probs, tags = _case()
    decays = dict(zip(NAMES, DECAYS, strict=True))
    value = expansion_loss(probs, tags, background=background, map_px=map_px, **decays)
    assert value.item() == pytest.approx(_reference(probs, tags, background, DECAYS, map_px), abs=1e-4)


def test_defaults_are_those_of_the_paper():
    probs, tags = _case((3, 4, 41, 41))
    assert expansion_loss(probs, tags).item() == pytest.approx(
        _reference(probs, tags, 0, (0.996, 0.0, 0.999)), abs=1e-4
    )


def test_a_decay_asks_for_the_same_share_at_any_resolution():
    probs, tags = _case((3, 4, 20, 20))
    larger = probs.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert expansion_loss(larger, tags).item() == pytest.approx(expansion_loss(probs, tags).item(), rel=1e-2)
    by_rank = [expansion_loss(p, tags, map_px=None).item() for p in (probs, larger)]
    assert abs(by_rank[0] - by_rank[1]) > 0.1


def test_gradient():
    probs, tags = _case((3, 4, 3, 3))
    inside = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(2)) < 0.7
    decays = dict(zip(NAMES, DECAYS, strict=True))
    assert gradcheck(lambda x: expansion_loss(x, tags, **decays), probs.requires_grad_())
    assert gradcheck(lambda x: expansion_loss(x, tags, roi=inside, **decays), probs)


def test_pixels_outside_the_region_do_not_count():
    probs, tags = _case()
    inside = torch.zeros(3, 5, 6, dtype=torch.bool)
    inside[:, :4, :5] = True
    inner = expansion_loss(probs[:, :, :4, :5], tags)
    assert torch.allclose(expansion_loss(probs, tags, roi=inside), inner)
    probs.requires_grad_()
    expansion_loss(probs, tags, roi=inside).backward()
    assert (probs.grad[:, :, 4:] == 0).all()
    inside[1] = False
    each = [expansion_loss(probs[i : i + 1, :, :4, :5], tags[i : i + 1]) for i in (0, 2)]
    assert torch.allclose(expansion_loss(probs, tags, roi=inside), sum(each) / 2)


def test_an_empty_region_is_a_differentiable_zero():
    probs, tags = _case()
    probs.requires_grad_()
    value = expansion_loss(probs, tags, roi=torch.zeros(3, 5, 6, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert torch.equal(probs.grad, torch.zeros_like(probs))


def test_certain_networks_get_finite_losses_and_gradients():
    probs = torch.zeros(1, 3, 4, 4)
    probs[:, 2] = 1
    probs.requires_grad_()
    value = expansion_loss(probs, torch.tensor([[True, True, False]]))
    value.backward()
    assert 10 < value.item() < 100
    assert torch.isfinite(probs.grad).all()
    assert (probs.grad[0, 2] >= 0).all()
    assert probs.grad[0, 2].max() > 0
    assert probs.grad[0, 1].max() < 0


def test_a_segmentation_that_fits_its_tags_costs_little():
    probs = torch.zeros(1, 3, 10, 10)
    probs[:, 0], probs[:, 1, :5] = 1, 1
    probs[:, 0, :5] = 0
    fits = expansion_loss(probs, torch.tensor([[True, True, False]]))
    wrong = expansion_loss(probs, torch.tensor([[True, False, True]]))
    assert fits < 1 < wrong


def test_one_pixel_one_class_half_precision_and_non_contiguous():
    assert expansion_loss(torch.ones(1, 1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(
        0, abs=1e-5
    )
    probs, tags = _case()
    value = expansion_loss(probs, tags)
    assert torch.allclose(expansion_loss(probs.transpose(2, 3), tags), value)
    half = expansion_loss(probs.bfloat16(), tags)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(value.item(), rel=0.05)


def test_what_does_not_fit_is_refused():
    probs, tags = _case()
    for arguments, options in [
        ((probs, tags[:2]), {}),
        ((probs, tags.long()), {}),
        ((probs[0], tags), {}),
        ((probs, tags), {"roi": torch.ones(3, 5, 5, dtype=torch.bool)}),
        ((probs, tags), {"present_decay": 1.2}),
    ]:
        with pytest.raises(UsageError):
            expansion_loss(*arguments, **options)
