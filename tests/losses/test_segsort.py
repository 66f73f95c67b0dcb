import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize

from tests.reference.segsort import mean_loss
from wss.errors import UsageError
from wss.losses import segsort, segsort_loss


def _case(pixels=23, segments=5, banked=3, channels=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(pixels, channels, generator=generator, dtype=dtype), dim=1)
    prototypes = normalize(torch.randn(segments + banked, channels, generator=generator, dtype=dtype), dim=1)
    own = torch.randint(-1, segments, (pixels,), generator=generator)
    kind = torch.randint(0, 3, (segments, segments + banked), generator=generator)
    positive, negative = kind == 0, kind == 1
    positive[:, :segments].fill_diagonal_(True)
    positive[1] = False  # a segment that takes no part
    positive[2, :2] = positive[2, 3:] = False  # one without positive segments but itself
    return embeddings, prototypes, own, positive, negative


@pytest.mark.parametrize("concentration", [6.0, 16.0])
def test_reference(concentration):
    case = _case()
    expected = mean_loss(*(part.tolist() for part in case), concentration)
    value = segsort_loss(*case, concentration=concentration)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    each = segsort_loss(*case, concentration=concentration, reduction="none")
    own = case[2]
    counted = (own >= 0) & (own != 1)
    assert (each[~counted] == 0).all()
    assert each.sum().item() == pytest.approx(expected * counted.sum().item())
    total = segsort_loss(*case, concentration=concentration, reduction="sum")
    assert total.item() == pytest.approx(each.sum().item())


def test_two_segments_by_hand():
    """A pixel at 60 degrees from its own segment, 0 from a positive one and 90 from a negative one."""
    pixel = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    prototypes = torch.tensor([[0.5, math.sqrt(0.75)], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    positive, negative = torch.tensor([[True, True, False]]), torch.tensor([[False, False, True]])
    own = torch.zeros(1, dtype=torch.int64)
    value = segsort_loss(pixel, prototypes, own, positive, negative, concentration=2.0)
    assert value.item() == pytest.approx(math.log1p(math.exp(-2)))  # the own segment does not count
    positive[0, 1] = False
    value = segsort_loss(pixel, prototypes, own, positive, negative, concentration=2.0)
    assert value.item() == pytest.approx(math.log1p(math.exp(-1)))  # now it is all there is


def test_gradients():
    embeddings, prototypes, own, positive, negative = _case()
    embeddings.requires_grad_()
    prototypes.requires_grad_()
    for reduction in ("mean", "none"):
        assert gradcheck(
            lambda e, p, what=reduction: segsort_loss(e, p, own, positive, negative, concentration=8.0, reduction=what),
            (embeddings, prototypes),
        )


def test_parts_make_no_difference(monkeypatch):
    case = _case(dtype=torch.float32)
    case[0].requires_grad_()
    whole = segsort_loss(*case, concentration=8.0)
    (gradient,) = torch.autograd.grad(whole, case[0])
    monkeypatch.setattr(segsort, "_ENTRIES", {"cpu": 20})
    value = segsort_loss(*case, concentration=8.0)
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(torch.autograd.grad(value, case[0])[0], gradient)


def test_parts_have_the_segments_that_count_for_their_pixels(monkeypatch):
    """A relation within images: where images lie one after another, a part meets the segments of one or two of them."""
    own = torch.arange(12).repeat_interleave(4)
    image = torch.arange(12) // 3
    same, alike = image[:, None] == image, (torch.arange(12) % 3 == 0)[:, None] == (torch.arange(12) % 3 == 0)
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(48, 4, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
    prototypes = normalize(torch.randn(12, 4, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
    case = (embeddings, prototypes, own, same & alike, same & ~alike)
    whole = segsort_loss(*case, concentration=8.0)
    expected = torch.autograd.grad(whole, case[:2])
    monkeypatch.setattr(segsort, "_ENTRIES", {"cpu": 12 * 12})
    ranges = [columns for _, columns in segsort._parts(own, same, "cpu")]
    assert ranges == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]
    value = segsort_loss(*case, concentration=8.0)
    torch.testing.assert_close(value, whole)
    for gradient, other in zip(torch.autograd.grad(value, case[:2]), expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_a_step_along_the_gradient_draws_to_positive_and_away_from_negative():
    embeddings, prototypes, own, positive, negative = _case(pixels=1)
    own = torch.zeros_like(own)
    positive = torch.zeros_like(positive)
    positive[0, 3], negative[0] = True, False
    negative[0, 4] = True
    embeddings.requires_grad_()
    segsort_loss(embeddings, prototypes, own, positive, negative, concentration=8.0).backward()
    moved = -embeddings.grad[0]
    assert moved @ (prototypes[3] - prototypes[4]) > 0
    torch.testing.assert_close(moved / moved.norm(), normalize(prototypes[3] - prototypes[4], dim=0))


def test_no_pixel_that_counts_is_a_differentiable_zero():
    for change in ("own", "positive", "empty"):
        embeddings, prototypes, own, positive, negative = _case()
        embeddings.requires_grad_()
        if change == "own":
            own = torch.full_like(own, -1)
        elif change == "positive":
            positive = torch.zeros_like(positive)
        else:
            positive, negative = positive[:0], negative[:0]
            own = torch.full_like(own, -1)
        value = segsort_loss(embeddings, prototypes, own, positive, negative, concentration=8.0)
        value.backward()
        assert value.item() == 0
        assert (embeddings.grad == 0).all()


def test_opposite_segments_at_the_largest_concentration():
    pixel = torch.tensor([[1.0, 0.0]], requires_grad=True)
    prototypes = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    positive, negative = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    value = segsort_loss(pixel, prototypes, torch.zeros(1, dtype=torch.int64), positive, negative, concentration=40.0)
    value.backward()
    assert value.item() == pytest.approx(80)
    torch.testing.assert_close(pixel.grad, torch.tensor([[80.0, 0.0]]))


def test_layout_and_half_precision():
    embeddings, prototypes, own, positive, negative = _case(dtype=torch.float32)
    value = segsort_loss(embeddings, prototypes, own, positive, negative, concentration=6.0)
    spread = embeddings.T.contiguous().T
    assert not spread.is_contiguous()
    torch.testing.assert_close(segsort_loss(spread, prototypes, own, positive, negative, concentration=6.0), value)
    half = segsort_loss(embeddings.bfloat16(), prototypes.bfloat16(), own, positive, negative, concentration=6.0)
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert segsort_loss(embeddings, prototypes, own, positive, negative, concentration=6.0) == value


def test_refuses():
    embeddings, prototypes, own, positive, negative = _case()
    rest = {"concentration": 6.0}
    with pytest.raises(UsageError, match=r"prototypes \(T,C\)"):
        segsort_loss(embeddings, prototypes[:, 1:], own, positive, negative, **rest)
    with pytest.raises(UsageError, match="a segment per pixel"):
        segsort_loss(embeddings, prototypes, own[1:], positive, negative, **rest)
    with pytest.raises(UsageError, match=r"bool \(S,8\)"):
        segsort_loss(embeddings, prototypes, own, positive[:, 1:], negative, **rest)
    with pytest.raises(UsageError, match="int64"):
        segsort_loss(embeddings, prototypes, own, positive, negative.long(), **rest)
    with pytest.raises(UsageError, match="differ in shape"):
        segsort_loss(embeddings, prototypes, own, positive, negative[1:], **rest)
    with pytest.raises(UsageError, match="at most 40; got 50"):
        segsort_loss(embeddings, prototypes, own, positive, negative, concentration=50)
    with pytest.raises(UsageError, match="got 'all'"):
        segsort_loss(embeddings, prototypes, own, positive, negative, reduction="all", **rest)
