import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.dice import dice
from wss.errors import UsageError
from wss.losses import dice_loss


def _case(classes=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(2, classes, 5, 6, generator=generator, dtype=dtype).mul(2).softmax(1)
    labels = torch.randint(0, classes, (2, 5, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return probs, labels


def test_by_hand():
    # class 0: overlap 1/2, squares 1/4 + 1/16, labels 1; class 1: overlap 3/4, squares 1/4 + 9/16, labels 1
    probs = torch.tensor([[0.5, 0.25, 0.9], [0.5, 0.75, 0.1]], dtype=torch.float64).reshape(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, 255]]])
    expected = 1 - (2 * 0.5 / (0.3125 + 1) + 2 * 0.75 / (0.8125 + 1)) / 2
    assert dice_loss(probs, labels, smooth=1e-12).item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_reference(classes):
    probs, labels = _case(classes)
    assert dice_loss(probs, labels).item() == pytest.approx(dice(probs.numpy(), labels.numpy(), 1e-5), abs=1e-12)


def test_gradcheck():
    probs, labels = _case()
    assert gradcheck(lambda p: dice_loss(p, labels, smooth=0.1), probs.requires_grad_())


def test_pixels_that_do_not_count_have_no_part():
    probs, labels = _case()
    leaf = probs.clone().requires_grad_()
    value = dice_loss(leaf, labels)
    value.backward()
    outside = (labels == 255)[:, None].expand_as(probs)
    assert not leaf.grad[outside].any()
    assert leaf.grad[~outside].abs().min() > 0
    assert torch.equal(dice_loss(torch.where(outside, torch.nan, probs), labels), value)


def test_extremes():
    probs, labels = _case()
    truth = labels.clamp(max=2)
    hot = torch.nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2).double()
    assert dice_loss(hot, truth).item() == pytest.approx(0, abs=1e-12)
    assert dice_loss(hot.roll(1, 1), truth).item() == pytest.approx(1, abs=1e-5)
    leaf = probs.clone().requires_grad_()
    value = dice_loss(leaf, torch.full_like(labels, 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))
    assert 0 < dice_loss(torch.full((1, 2, 1, 1), 0.5), torch.zeros(1, 1, 1, dtype=torch.int64)).item() < 1


def test_classes_that_are_not_there_hardly_pull():
    """Labelled nowhere and predicted a little everywhere: nearly 1, with next to no gradient."""
    probs = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 20, 20).clone()
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[:, :10] = 1
    probs.requires_grad_()
    dice_loss(probs, labels).backward()
    assert probs.grad[:, 2].abs().max() < 1e-3 * probs.grad[:, 1].abs().max()


def test_half_precision_relabelling_and_memory_format():
    probs, labels = _case(dtype=torch.float32)
    value = dice_loss(probs, labels)
    assert dice_loss(probs.half(), labels).dtype == torch.float32
    assert dice_loss(probs.half(), labels).item() == pytest.approx(value.item(), rel=1e-2)
    order = torch.tensor([2, 0, 1])
    relabelled = torch.where(labels == 255, 255, order.argsort()[labels.clamp(max=2)])
    torch.testing.assert_close(dice_loss(probs[:, order], relabelled), value)
    torch.testing.assert_close(dice_loss(probs.contiguous(memory_format=torch.channels_last), labels), value)


def test_wrong_arguments_are_named():
    probs, labels = _case()
    with pytest.raises(UsageError, match="must agree"):
        dice_loss(probs, labels[:, 1:])
    with pytest.raises(UsageError, match="smooth must be positive"):
        dice_loss(probs, labels, smooth=0)
