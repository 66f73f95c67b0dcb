import math

import pytest
import torch
from torch.autograd import gradcheck

from wss.errors import WssError
from wss.losses import partial_cross_entropy


def _reference(logits, labels, weights=None):
    """The mean of -log softmax at the labelled pixels, one pixel after another."""
    total = weight_sum = 0.0
    batch, classes, height, width = logits.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                label = int(labels[b, y, x])
                if label == 255:
                    continue
                scores = [float(logits[b, k, y, x]) for k in range(classes)]
                peak = max(scores)
                log_sum = peak + math.log(sum(math.exp(s - peak) for s in scores))
                weight = 1.0 if weights is None else float(weights[label])
                total += weight * (log_sum - scores[label])
                weight_sum += weight
    return total / weight_sum


def _case(seed=0, shape=(2, 3, 4, 5)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.6] = 255
    return logits, labels


def test_by_hand():
    logits = torch.tensor([[[[0.0, 5.0]], [[math.log(3.0), 7.0]]]])
    labels = torch.tensor([[[0, 255]]])
    assert partial_cross_entropy(logits, labels).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)])
def test_reference(weights):
    logits, labels = _case()
    value = partial_cross_entropy(logits, labels, class_weights=weights)
    assert value.item() == pytest.approx(_reference(logits, labels, weights))


def test_gradient():
    logits, labels = _case()
    assert gradcheck(lambda x: partial_cross_entropy(x, labels), logits.requires_grad_())


def test_nothing_labelled_is_a_differentiable_zero():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = partial_cross_entropy(logits, torch.full((1, 2, 2), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_unlabelled_pixels_get_no_gradient():
    logits, labels = _case()
    logits.requires_grad_()
    partial_cross_entropy(logits, labels).backward()
    assert (logits.grad.abs().sum(1) > 0).equal(labels != 255)


def test_relabelling_classes_changes_nothing():
    logits, labels = _case()
    order = torch.tensor([2, 0, 1])
    renamed = torch.where(labels == 255, 255, order[labels.clamp(max=2)])
    moved = torch.empty_like(logits)
    moved[:, order] = logits
    assert torch.allclose(partial_cross_entropy(moved, renamed), partial_cross_entropy(logits, labels))


def test_reductions_agree():
    logits, labels = _case()
    each = partial_cross_entropy(logits, labels, reduction="none")
    assert each.shape == labels.shape
    assert torch.allclose(each.sum(), partial_cross_entropy(logits, labels, reduction="sum"))
    assert torch.allclose(each.sum() / (labels != 255).sum(), partial_cross_entropy(logits, labels))


def test_one_pixel_one_class_and_non_contiguous():
    assert partial_cross_entropy(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64)).item() == 0
    logits, labels = _case(shape=(2, 3, 6, 6))
    turned = partial_cross_entropy(logits.transpose(2, 3), labels.transpose(1, 2))
    assert torch.allclose(turned, partial_cross_entropy(logits, labels))


def test_shapes_and_labels_are_checked():
    with pytest.raises(WssError, match="must agree"):
        partial_cross_entropy(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5, dtype=torch.int64))
    with pytest.raises(WssError, match="below 3"):
        partial_cross_entropy(torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 7))


def _focal_reference(logits, labels, gamma, weights=None):
    """The mean of w (1 - p)^gamma -log p at the labelled pixels, one pixel after another; the weights w divide it."""
    total = weight_sum = 0.0
    for b, y, x in (labels != 255).nonzero().tolist():
        scores = [math.exp(float(score)) for score in logits[b, :, y, x]]
        label = int(labels[b, y, x])
        p = scores[label] / sum(scores)
        weight = 1.0 if weights is None else float(weights[label])
        total += weight * (1 - p) ** gamma * -math.log(p)
        weight_sum += weight
    return total / weight_sum


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)])
def test_focal_reference(gamma, weights):
    logits, labels = _case()
    value = partial_cross_entropy(logits, labels, class_weights=weights, focal_gamma=gamma)
    assert value.item() == pytest.approx(_focal_reference(logits, labels, gamma, weights))
    each = partial_cross_entropy(logits, labels, class_weights=weights, focal_gamma=gamma, reduction="none")
    assert (each == 0).equal(labels == 255)


def test_focal_by_hand():
    logits = torch.tensor([[[[0.0, 5.0]], [[math.log(3.0), 7.0]]]])  # p = 1/4
    value = partial_cross_entropy(logits, torch.tensor([[[0, 255]]]), focal_gamma=2.0)
    assert value.item() == pytest.approx(0.75**2 * math.log(4))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient(gamma):
    logits, labels = _case()
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    logits.requires_grad_()
    assert gradcheck(lambda x: partial_cross_entropy(x, labels, class_weights=weights, focal_gamma=gamma), logits)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_where_predictions_are_certain(gamma):
    logits = torch.tensor([[[[1e4, -1e4, 0.0]], [[0.0, 1e4, 0.0]]]], requires_grad=True)
    partial_cross_entropy(logits, torch.tensor([[[0, 0, 255]]]), focal_gamma=gamma).backward()
    assert logits.grad.isfinite().all()


def test_no_gamma_is_the_plain_loss_and_a_negative_one_is_refused():
    logits, labels = _case()
    assert torch.equal(partial_cross_entropy(logits, labels, focal_gamma=0), partial_cross_entropy(logits, labels))
    with pytest.raises(WssError, match="must not be negative"):
        partial_cross_entropy(logits, labels, focal_gamma=-1)


def test_weighted_gradient():
    logits, labels = _case()
    weights = torch.tensor([0.2, 0.0, 3.0], dtype=torch.float64)
    assert gradcheck(lambda x: partial_cross_entropy(x, labels, class_weights=weights), logits.requires_grad_())
