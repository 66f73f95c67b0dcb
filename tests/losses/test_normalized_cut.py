import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.regularised_losses import dense_affinity, normalised_cut
from wss.errors import DataError, UsageError
from wss.losses import normalized_cut_loss

SIGMAS = {"sigma_rgb": 30.0, "sigma_xy": 4.0}


def _case(batch=2, classes=3, height=6, width=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(batch, classes, height, width, generator=generator, dtype=dtype).mul(2).softmax(1)
    images = (torch.rand(batch, 3, height, width, generator=generator) * 60 + 80).round()
    roi = torch.rand(batch, height, width, generator=generator) > 0.1
    return probs, images, roi


def _gradient(probs, *args, **settings):
    leaf = probs.detach().clone().requires_grad_()
    value = normalized_cut_loss(leaf, *args, **settings)
    value.backward()
    return value.detach(), leaf.grad


def test_two_pixels_by_hand():
    # W = [[1, w], [w, 1]], so both degrees are 1 + w; S = (1, 0) and (1/4, 3/4).
    w = math.exp(-(0.25 + 4) / 2)
    images = torch.tensor([[100.0, 130.0], [50.0, 50.0], [0.0, 0.0]]).reshape(1, 3, 1, 2)
    probs = torch.tensor([[1.0, 0.25], [0.0, 0.75]]).reshape(1, 2, 1, 2)
    first, second = 1 + 0.5 * w + 0.0625, 0.5625
    value = normalized_cut_loss(probs, images, sigma_rgb=15, sigma_xy=2, exact=True)
    assert value.item() == pytest.approx(2 - first / (1.25 * (1 + w)) - second / (0.75 * (1 + w)))


@pytest.mark.parametrize("with_roi", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_reference(with_roi, classes):
    probs, images, roi = _case(classes=classes)
    values, gradients = [], []
    for b in range(2):
        inside = roi[b].numpy() if with_roi else None
        w = dense_affinity(images[b].numpy(), 30.0, 4.0, inside)
        s = probs[b].flatten(1).numpy() * (1.0 if inside is None else inside.ravel())
        value, gradient = normalised_cut(s, w)
        values.append(value)
        gradients.append(gradient.reshape(probs.shape[1:]) / 2)
    value, gradient = _gradient(probs, images, roi=roi if with_roi else None, exact=True, **SIGMAS)
    assert value.item() == pytest.approx(np.mean(values), abs=1e-12)
    np.testing.assert_allclose(gradient.numpy(), np.stack(gradients), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("variant", ["plain", "clamped"])
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_gradcheck(variant, scale):
    probs, images, roi = _case(classes=2, height=5, width=5)
    labels = torch.full((2, 5, 5), 255)
    labels[:, 0, 0], labels[0, 2, 3], labels[1, 4, 4] = 1, 0, 0  # both classes, or the constant one disagrees
    settings = {**SIGMAS, "roi": roi, "variant": variant, "labels": labels, "scale": scale, "exact": True}
    assert gradcheck(lambda p: normalized_cut_loss(p, images, **settings), probs.requires_grad_())


def test_finite_differences_with_the_lattice():
    probs, images, roi = _case(height=24, width=30)
    settings = {"sigma_rgb": 20.0, "sigma_xy": 10.0, "roi": roi, "backend": "torch"}
    _, gradient = _gradient(probs, images, **settings)
    step = 1e-5 * (_case(height=24, width=30, seed=4)[0] - probs)
    slope = normalized_cut_loss(probs + step, images, **settings) - normalized_cut_loss(
        probs - step, images, **settings
    )
    assert slope.item() / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-5)


def test_one_class_costs_nothing():
    _, images, roi = _case()
    value, gradient = _gradient(torch.ones(2, 1, 6, 7), images, roi=roi, **SIGMAS)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert gradient.isfinite().all()


def test_a_class_without_probability_changes_nothing():
    probs, images, roi = _case()
    value, gradient = _gradient(probs, images, roi=roi, **SIGMAS)
    more = torch.cat([probs, torch.zeros_like(probs[:, :1])], 1)
    same, wider = _gradient(more, images, roi=roi, **SIGMAS)
    assert same.item() == pytest.approx(value.item())
    torch.testing.assert_close(wider[:, :3], gradient)
    assert wider[:, 3].abs().max() == 0


def test_a_class_that_hardly_occurs_leaves_the_others_alone():
    """With 1, 2 or 20 more classes of next to no probability the gradient of the others' logits is the same."""
    probs, images, roi = _case()
    gradients = []
    for more in (0, 1, 20):
        logits = torch.cat([probs.log(), torch.full((2, more, 6, 7), -16.0, dtype=torch.float64)], 1).requires_grad_()
        normalized_cut_loss(logits.softmax(1), images, roi=roi, **SIGMAS).backward()
        gradients.append(logits.grad)
        assert (more == 0) or logits.grad[:, 3:].abs().max() < 1e-5 * logits.grad.abs().max()
    torch.testing.assert_close(gradients[1][:, :3], gradients[0], rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(gradients[2][:, :3], gradients[0], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_no_region_of_interest_is_a_differentiable_zero(scale):
    probs, images, roi = _case()
    roi[:] = False
    value, gradient = _gradient(probs, images, roi=roi, scale=scale, **SIGMAS)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_batch_is_its_images():
    probs, images, roi = _case(batch=3)
    together, gradient = _gradient(probs, images, roi=roi, **SIGMAS)
    each = [_gradient(probs[b : b + 1], images[b : b + 1], roi=roi[b : b + 1], **SIGMAS) for b in range(3)]
    assert together.item() == pytest.approx(sum(v.item() for v, _ in each) / 3, rel=1e-5)
    torch.testing.assert_close(gradient, torch.cat([g for _, g in each]) / 3, rtol=1e-4, atol=1e-8)


def test_crop_and_resolution_hardly_matter():
    x = (torch.arange(48) + 0.5) / 48
    probs = torch.stack([4 * (0.5 - x), 0 * x, 4 * (x - 0.5)]).view(1, 3, 1, 48).expand(-1, -1, 48, -1).softmax(1)
    images = (60 + 100 * (x > 0.4)).view(1, 1, 1, 48).expand(1, 3, 48, 48)
    once = normalized_cut_loss(probs, images, sigma_rgb=20, sigma_xy=4).item()
    tiled = normalized_cut_loss(probs.repeat(1, 1, 2, 2), images.repeat(1, 1, 2, 2), sigma_rgb=20, sigma_xy=4)
    assert tiled.item() == pytest.approx(once, rel=0.05)
    double = [t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (probs, images)]
    assert normalized_cut_loss(*double, sigma_rgb=20, sigma_xy=8).item() == pytest.approx(once, rel=0.03)
    assert normalized_cut_loss(*double, sigma_rgb=20, sigma_xy=8, scale=0.5).item() == pytest.approx(once, rel=0.03)


def test_relabelling_classes_changes_nothing():
    probs, images, roi = _case()
    order = [2, 0, 1]
    value, gradient = _gradient(probs, images, roi=roi, **SIGMAS)
    other, moved = _gradient(probs[:, order], images, roi=roi, **SIGMAS)
    assert other.item() == pytest.approx(value.item(), rel=1e-6)
    torch.testing.assert_close(moved, gradient[:, order], rtol=1e-5, atol=1e-9)


def test_clamped_pixels_and_absent_classes_get_no_gradient():
    probs, images, roi = _case()
    labels = torch.full((2, 6, 7), 255)
    labels[:, 1, 1:5], labels[:, 4, 2:4] = 0, 1
    _, gradient = _gradient(probs, images, roi=roi, labels=labels, variant="clamped", **SIGMAS)
    assert gradient[(labels != 255)[:, None].expand_as(gradient)].abs().max() == 0
    assert gradient[:, 2].abs().max() == 0
    assert gradient[:, :2].abs().max() > 0


def test_minimum_follows_the_image():
    """Gradient descent from noise finds the two halves of the image without any label."""
    images = torch.full((1, 3, 10, 16), 60.0)
    images[..., 8:] = 180
    logits = torch.randn(1, 2, 10, 16, generator=torch.Generator().manual_seed(2)).mul(0.5).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        normalized_cut_loss(logits.softmax(1), images, sigma_rgb=20, sigma_xy=20).backward()
        optimiser.step()
    found = logits.argmax(1)[0]
    assert torch.equal(found[:, :8], found[:1, :1].expand(10, 8))
    assert torch.equal(found[:, 8:], 1 - found[:, :8])


def test_wrong_arguments_are_named():
    probs, images, _ = _case()
    with pytest.raises(DataError, match="softmax"):
        normalized_cut_loss(probs.log(), images)
    with pytest.raises(UsageError, match=r"sigma_xy.*positive"):
        normalized_cut_loss(probs, images, sigma_xy=0)
    with pytest.raises(UsageError, match="0-255"):
        normalized_cut_loss(probs, images / 255)
