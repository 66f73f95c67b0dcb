import math

import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.absent_classes import absent_classes
from wss.errors import UsageError
from wss.losses import absent_class_loss


def _case(classes=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, classes, 4, 5, generator=generator, dtype=dtype)
    present = torch.rand(3, classes, generator=generator) < 0.5
    present[0], present[1], present[2] = False, True, torch.arange(classes) % 2 == 0
    return logits, present, torch.rand(3, 4, 5, generator=generator) < 0.7


def test_by_hand():
    """Probabilities 1/8, 1/8, 3/4; and 1/2, 1/4, 1/4. The first class is there."""
    probs = torch.tensor([[1 / 8, 1 / 2], [1 / 8, 1 / 4], [3 / 4, 1 / 4]], dtype=torch.float64).view(1, 3, 1, 2)
    present = torch.tensor([[True, False, False]])
    expected = -(math.log(7 / 8) + math.log(1 / 4) + 2 * math.log(3 / 4)) / 2
    assert absent_class_loss(probs.log(), present).item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_reference(classes, seed):
    logits, present, valid = _case(classes, seed=seed)
    args = logits.softmax(1).numpy(), present.numpy()
    whole = torch.ones_like(valid)
    assert absent_class_loss(logits, present).item() == pytest.approx(absent_classes(*args, whole.numpy()))
    assert absent_class_loss(logits, present, valid=valid).item() == pytest.approx(absent_classes(*args, valid.numpy()))


def test_gradcheck_and_its_direction():
    logits, present, valid = _case()
    logits.requires_grad_()
    assert gradcheck(lambda x: absent_class_loss(x, present, valid=valid), (logits,))
    (gradient,) = torch.autograd.grad(absent_class_loss(logits, present, valid=valid), logits)
    moved, before = (logits - gradient).softmax(1), logits.softmax(1)
    absent = ~present[2]
    assert moved[2, absent].sum() < before[2, absent].sum()
    assert not gradient[:2].any()  # nothing is known of the first image, and the second has all classes
    assert not gradient[2, :, ~valid[2]].any()
    assert gradient[2, :, valid[2]].abs().amin() > 0


@pytest.mark.parametrize("named", [True, False])
def test_images_with_all_classes_or_none_give_a_differentiable_zero(named):
    logits, present, _ = _case()
    logits.requires_grad_()
    value = absent_class_loss(logits, torch.full_like(present, named))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_pixels_of_images_without_a_known_class_do_not_dilute_the_mean():
    logits, present, _ = _case()
    assert absent_class_loss(logits[2:], present[2:]).item() == pytest.approx(
        absent_class_loss(logits[[0, 2]], present[[0, 2]]).item()
    )


def test_padding_has_no_part():
    logits, present, valid = _case()
    other = torch.where(valid[:, None], logits, 50.0)
    value = absent_class_loss(logits, present, valid=valid)
    assert torch.equal(absent_class_loss(other, present, valid=valid), value)
    nothing = absent_class_loss(logits.requires_grad_(), present, valid=torch.zeros_like(valid))
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("gap", [20.0, 90.0, 1e4])
def test_a_class_that_is_wrong_and_certain_has_a_finite_penalty_and_a_gradient(gap):
    logits = torch.tensor([0.0, gap]).view(1, 2, 1, 1).requires_grad_()
    value = absent_class_loss(logits, torch.tensor([[True, False]]))
    value.backward()
    assert value.item() == pytest.approx(gap)
    assert logits.grad.flatten().tolist() == pytest.approx([-1, 1], abs=1e-6)


def test_one_class_one_pixel_half_precision_and_relabelling():
    single = torch.zeros(2, 1, 1, 1, requires_grad=True)
    value = absent_class_loss(single, torch.tensor([[True], [False]]))
    value.backward()
    assert value.item() == 0 and not single.grad.any()
    pixel = torch.zeros(1, 4, 1, 1)
    assert absent_class_loss(pixel, torch.tensor([[True, False, True, False]])).item() == pytest.approx(
        -2 * math.log(3 / 4)
    )
    logits, present, _ = _case(dtype=torch.float32)
    value = absent_class_loss(logits, present)
    assert absent_class_loss(logits.half(), present).dtype == torch.float32
    assert absent_class_loss(logits.half(), present).item() == pytest.approx(value.item(), rel=1e-2)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(absent_class_loss(logits[:, order], present[:, order]), value)


def test_wrong_arguments_are_named():
    logits, present, valid = _case()
    with pytest.raises(UsageError, match=r"\(B,K,H,W\)"):
        absent_class_loss(logits[0], present)
    with pytest.raises(UsageError, match="present must be bool"):
        absent_class_loss(logits, present[:, 1:])
    with pytest.raises(UsageError, match="present must be bool"):
        absent_class_loss(logits, present.float())
    with pytest.raises(UsageError, match="valid must be bool"):
        absent_class_loss(logits, present, valid=valid.float())
