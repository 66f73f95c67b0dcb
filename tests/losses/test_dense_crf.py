import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.regularised_losses import crf, dense_affinity
from wss.errors import DataError, UsageError
from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss
from wss.ops import BilateralFilter

SIGMAS = {"sigma_rgb": 30.0, "sigma_xy": 4.0}


def _case(batch=2, classes=3, height=6, width=7, seed=0, dtype=torch.float64):
    """Soft segments, smooth images with noise, and a region of interest without a column and some pixels."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(batch, classes, height, width, generator=generator, dtype=dtype).mul(2).softmax(1)
    coarse = torch.rand(batch, 3, 3, 3, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    images = (images + 5 * torch.randn(images.shape, generator=generator)).clamp(0, 255).round()
    roi = torch.rand(batch, height, width, generator=generator) > 0.1
    roi[:, :, -1] = False
    return probs, images, roi


def _labels(batch, height, width, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.7] = 255
    return labels


def _gradient(loss, probs, *args, **settings):
    leaf = probs.detach().clone().requires_grad_()
    value = loss(leaf, *args, **settings)
    value.backward()
    return value.detach(), leaf.grad


def test_two_pixels_by_hand():
    # W = [[1, w], [w, 1]] with d^2 = 1 / 2^2 + 30^2 / 15^2; S = (1, 0) and (1/4, 3/4).
    w = math.exp(-(0.25 + 4) / 2)
    images = torch.tensor([[100.0, 130.0], [50.0, 50.0], [0.0, 0.0]]).reshape(1, 3, 1, 2)
    probs = torch.tensor([[1.0, 0.25], [0.0, 0.75]]).reshape(1, 2, 1, 2)
    kept = (1 + 2 * 0.25 * w + 0.0625) + 0.5625
    settings = {"sigma_rgb": 15, "sigma_xy": 2, "exact": True}
    value, gradient = _gradient(dense_crf_loss, probs, images, **settings)
    assert value.item() == pytest.approx(1 - kept / (2 + 2 * w))
    expected = -2 / (2 + 2 * w) * torch.tensor([[1 + 0.25 * w, w + 0.25], [0.75 * w, 0.75]])
    torch.testing.assert_close(gradient[0, :, 0], expected)
    assert dense_crf_loss(probs, images, units="paper", **settings).item() == pytest.approx(-kept)


@pytest.mark.parametrize("with_roi", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_reference(with_roi, classes):
    probs, images, roi = _case(classes=classes)
    values, gradients, totals = [], [], []
    for b in range(2):
        inside = roi[b].numpy() if with_roi else None
        w = dense_affinity(images[b].numpy(), 30.0, 4.0, inside)
        s = probs[b].flatten(1).numpy() * (1.0 if inside is None else inside.ravel())
        value, gradient = crf(s, w)
        values.append(value)
        gradients.append(gradient.reshape(probs.shape[1:]))
        totals.append(w.sum())
    settings = {**SIGMAS, "roi": roi if with_roi else None, "exact": True}
    value, gradient = _gradient(dense_crf_loss, probs, images, **settings)
    assert value.item() == pytest.approx(np.mean([v / t for v, t in zip(values, totals, strict=True)]), abs=1e-12)
    expected = np.stack([g / t / 2 for g, t in zip(gradients, totals, strict=True)])
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-15)
    # The authors' code leaves the constant out, and divides by the number of images.
    value, gradient = _gradient(dense_crf_loss, probs, images, units="paper", **settings)
    assert value.item() == pytest.approx((sum(values) - sum(totals)) / 2)
    np.testing.assert_allclose(gradient.numpy(), np.stack(gradients) / 2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("units", ["normalised", "paper"])
@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("variant", ["plain", "clamped"])
def test_gradcheck(units, scale, variant):
    probs, images, roi = _case(batch=2, classes=2, height=5, width=5)
    labels = _labels(2, 5, 5, 2)
    settings = {**SIGMAS, "roi": roi, "units": units, "scale": scale, "variant": variant, "labels": labels}
    assert gradcheck(lambda p: dense_crf_loss(p, images, exact=True, **settings), probs.requires_grad_())


@pytest.mark.parametrize(
    ("backend", "dtype", "tolerance"), [("torch", torch.float64, 1e-9), ("auto", torch.float32, 1e-4)]
)
@pytest.mark.parametrize("units", ["normalised", "paper"])
def test_finite_differences_with_the_lattice(backend, dtype, tolerance, units):
    """The loss is quadratic, so the difference between two points is the gradient halfway times the step, exactly."""
    probs, images, roi = _case(height=24, width=30, dtype=dtype)
    other, _, _ = _case(height=24, width=30, dtype=dtype, seed=5)
    settings = {"sigma_rgb": 20.0, "sigma_xy": 10.0, "roi": roi, "backend": backend, "units": units}
    _, gradient = _gradient(dense_crf_loss, (probs + other) / 2, images, **settings)
    difference = dense_crf_loss(other, images, **settings) - dense_crf_loss(probs, images, **settings)
    expected = float((gradient * (other - probs)).sum())
    assert float(difference) == pytest.approx(expected, rel=tolerance, abs=tolerance * float(gradient.abs().sum()))


def test_gradient_through_softmax_is_that_of_the_equation():
    """(4) as it stands has the gradient W 1 - 2 W S: the same once softmax takes the constant over classes away."""
    probs, images, _ = _case(height=20, width=20)
    logits = probs.log().requires_grad_()
    affinity = BilateralFilter(images, 20.0, 10.0, backend="torch")
    s = logits.softmax(1)
    ones = torch.ones_like(s[:, :1])
    whole = (ones * affinity.filter(ones)).sum((1, 2, 3))
    share = (s * affinity.filter(1 - s)).sum((1, 2, 3)) / whole
    share.mean().backward()
    other = logits.detach().clone().requires_grad_()
    value = dense_crf_loss(other.softmax(1), images, sigma_rgb=20.0, sigma_xy=10.0, backend="torch")
    value.backward()
    assert value.item() == pytest.approx(share.mean().item(), rel=1e-10)
    torch.testing.assert_close(other.grad, logits.grad, rtol=1e-8, atol=1e-16)


def test_one_class_costs_nothing():
    _, images, roi = _case()
    value, gradient = _gradient(dense_crf_loss, torch.ones(2, 1, 6, 7), images, roi=roi, **SIGMAS)
    assert value.item() == pytest.approx(0, abs=1e-6)
    logits = torch.randn(2, 1, 6, 7, requires_grad=True)
    dense_crf_loss(logits.softmax(1), images, **SIGMAS).backward()
    assert logits.grad.abs().max() == 0
    assert gradient.isfinite().all()


def test_range():
    _, images, _ = _case(height=20, width=20)
    everywhere_alike = torch.full((2, 4, 20, 20), 0.25)
    assert dense_crf_loss(everywhere_alike, images, **SIGMAS).item() == pytest.approx(0.75, abs=1e-5)
    one_segment = torch.zeros(2, 4, 20, 20)
    one_segment[:, 2] = 1
    assert dense_crf_loss(one_segment, images, **SIGMAS).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("units", ["normalised", "paper"])
def test_no_region_of_interest_is_a_differentiable_zero(scale, units):
    probs, images, roi = _case()
    roi[:] = False
    value, gradient = _gradient(dense_crf_loss, probs, images, roi=roi, scale=scale, units=units, **SIGMAS)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_an_image_without_region_does_not_count():
    probs, images, roi = _case()
    roi[1] = False
    both = dense_crf_loss(probs, images, roi=roi, **SIGMAS)
    assert both.item() == pytest.approx(dense_crf_loss(probs[:1], images[:1], roi=roi[:1], **SIGMAS).item())


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_padding_does_not_matter(scale):
    """Adding padding, whatever is in it, changes neither the value nor the gradient inside."""
    probs, images, _ = _case(height=12, width=14)
    value, gradient = _gradient(dense_crf_loss, probs, images, scale=scale, **SIGMAS)
    wide_images = torch.full((2, 3, 20, 20), 77.0)
    wide_images[:, :, :12, :14] = images
    wide_probs = torch.rand(2, 3, 20, 20, dtype=torch.float64)
    wide_probs[:, :, :12, :14] = probs
    roi = torch.zeros(2, 20, 20, dtype=torch.bool)
    roi[:, :12, :14] = True
    padded, wide_gradient = _gradient(dense_crf_loss, wide_probs, wide_images, roi=roi, scale=scale, **SIGMAS)
    assert padded.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(wide_gradient[:, :, :12, :14], gradient, rtol=1e-4, atol=1e-9)
    assert wide_gradient[:, :, 12:].abs().max() == wide_gradient[:, :, :, 14:].abs().max() == 0


def test_a_batch_is_its_images():
    probs, images, roi = _case(batch=3)
    together, gradient = _gradient(dense_crf_loss, probs, images, roi=roi, **SIGMAS)
    one_by_one = [
        _gradient(dense_crf_loss, probs[b : b + 1], images[b : b + 1], roi=roi[b : b + 1], **SIGMAS) for b in range(3)
    ]
    assert together.item() == pytest.approx(sum(v.item() for v, _ in one_by_one) / 3, rel=1e-5)
    torch.testing.assert_close(gradient, torch.cat([g for _, g in one_by_one]) / 3, rtol=1e-4, atol=1e-8)


def _scene(height, width):
    """Three coloured stripes and soft segments that follow two of their borders, at any resolution."""
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    stripe = (x > 0.3).long() + (x > 0.7).long()
    colours = torch.tensor([[40.0, 60, 80], [120, 110, 60], [200, 210, 220]])
    images = colours[stripe].T[None, :, None, :].expand(1, 3, height, width) + 20 * y.view(1, 1, -1, 1)
    scores = torch.stack([3 * (0.5 - x).expand(height, -1), y[:, None].expand(-1, width) * 1.0, x.expand(height, -1)])
    return scores[None].mul(2).softmax(1), images.contiguous()


def test_resolution_hardly_matters():
    small = dense_crf_loss(*_scene(48, 48), sigma_rgb=20, sigma_xy=8)
    large = dense_crf_loss(*_scene(96, 96), sigma_rgb=20, sigma_xy=16)
    assert large.item() == pytest.approx(small.item(), rel=0.02)
    reduced = dense_crf_loss(*_scene(96, 96), sigma_rgb=20, sigma_xy=16, scale=0.5)
    assert reduced.item() == pytest.approx(large.item(), rel=0.02)


def test_crop_hardly_matters():
    probs, images = _scene(48, 48)
    once = dense_crf_loss(probs, images, sigma_rgb=20, sigma_xy=4)
    tiled = dense_crf_loss(probs.repeat(1, 1, 2, 3), images.repeat(1, 1, 2, 3), sigma_rgb=20, sigma_xy=4)
    assert tiled.item() == pytest.approx(once.item(), rel=0.05)
    # In the units of the paper it counts the pixels.
    once, tiled = (
        dense_crf_loss(p, i, sigma_rgb=20, sigma_xy=4, units="paper").item()
        for p, i in [(probs, images), (probs.repeat(1, 1, 2, 3), images.repeat(1, 1, 2, 3))]
    )
    assert 6 < tiled / once < 7


def test_reduced_gradient_is_that_of_the_full_size():
    probs, images = _scene(32, 32)
    _, full = _gradient(dense_crf_loss, probs, images, sigma_rgb=20, sigma_xy=8, exact=True)
    _, reduced = _gradient(dense_crf_loss, probs, images, sigma_rgb=20, sigma_xy=8, exact=True, scale=0.5)
    assert torch.nn.functional.cosine_similarity(full.flatten(), reduced.flatten(), dim=0) > 0.99
    assert reduced.norm().item() == pytest.approx(full.norm().item(), rel=0.05)


@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (1, 5)])
@pytest.mark.parametrize("scale", [0.99, 0.5, 0.3, 0.01])
def test_any_scale(shape, scale):
    probs, images, _ = _case(height=shape[0], width=shape[1])
    value, gradient = _gradient(dense_crf_loss, probs, images, scale=scale, exact=True, **SIGMAS)
    assert 0 <= value <= 2 / 3
    assert gradient.isfinite().all()


def test_relabelling_classes_changes_nothing():
    probs, images, roi = _case()
    order = torch.tensor([2, 0, 1])
    labels = _labels(2, 6, 7, 3)
    renamed = torch.where(labels == 255, 255, torch.argsort(order)[labels.clamp(max=2)])
    for variant in ("plain", "clamped"):
        settings = {**SIGMAS, "roi": roi, "variant": variant}
        value, gradient = _gradient(dense_crf_loss, probs, images, labels=labels, **settings)
        other, moved = _gradient(dense_crf_loss, probs[:, order], images, labels=renamed, **settings)
        assert other.item() == pytest.approx(value.item(), rel=1e-6)
        torch.testing.assert_close(moved, gradient[:, order], rtol=1e-5, atol=1e-9)


def test_clamped():
    probs, images, roi = _case()
    labels = _labels(2, 6, 7, 2)  # class 2 is on no image
    settings = {**SIGMAS, "roi": roi, "exact": True}
    value, gradient = _gradient(dense_crf_loss, probs, images, labels=labels, variant="clamped", **settings)
    labelled = (labels != 255)[:, None].expand_as(probs)
    assert gradient[labelled].abs().max() == 0
    assert gradient[:, 2].abs().max() == 0
    hot = torch.nn.functional.one_hot(labels.where(labels != 255, 0), 3).movedim(-1, 1).to(probs.dtype)
    expected, unclamped = _gradient(dense_crf_loss, torch.where(labelled, hot, probs), images, **settings)
    assert value.item() == pytest.approx(expected.item())
    free = ~labelled & (torch.arange(3) < 2).view(1, 3, 1, 1)
    torch.testing.assert_close(gradient[free], unclamped[free])


def test_clamped_without_labels_on_one_image():
    probs, images, roi = _case()
    labels = _labels(2, 6, 7, 2)
    labels[0] = 255
    _, clamped = _gradient(dense_crf_loss, probs, images, roi=roi, labels=labels, variant="clamped", **SIGMAS)
    _, plain = _gradient(dense_crf_loss, probs, images, roi=roi, **SIGMAS)
    torch.testing.assert_close(clamped[0], plain[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    probs, images, roi = _case(height=20, width=20, dtype=torch.float32)
    rounded = probs.to(dtype)
    value, gradient = _gradient(dense_crf_loss, rounded, images, roi=roi, **SIGMAS)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value.item() == pytest.approx(dense_crf_loss(rounded.float(), images, roi=roi, **SIGMAS).item())


def test_autocast_changes_nothing():
    probs, images, roi = _case(dtype=torch.float32)
    expected = dense_crf_loss(probs, images, roi=roi, exact=True, **SIGMAS)
    with torch.autocast("cpu", torch.bfloat16):
        assert dense_crf_loss(probs, images, roi=roi, exact=True, **SIGMAS).equal(expected)


def test_non_contiguous_and_integer_images():
    probs, images, roi = _case(dtype=torch.float32)
    expected, gradient = _gradient(dense_crf_loss, probs, images, roi=roi, **SIGMAS)
    value, other = _gradient(
        dense_crf_loss,
        probs.contiguous(memory_format=torch.channels_last),
        images.to(torch.uint8).contiguous(memory_format=torch.channels_last),
        roi=roi,
        **SIGMAS,
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(other, gradient)


def test_wrong_arguments_are_named():
    probs, images, roi = _case()
    broken = probs.clone()
    broken[0, 0, 0, 0] = math.nan
    cases = [
        (DataError, r"probs must be in 0\.\.1.*softmax", (broken, images), {}),
        (DataError, r"probs must be in 0\.\.1.*softmax", (probs * 9 - 3, images), {}),
        (UsageError, r"0-255.*multiply by 255", (probs, images / 255), {}),
        (DataError, r"0-255.*undo the normalisation", (probs, images - 120), {}),
        (UsageError, "agree in batch", (probs[:, :, 1:], images), {}),
        (UsageError, r"\(B,K,H,W\)", (probs[0], images), {}),
        (UsageError, "sigma_rgb.*positive", (probs, images), {"sigma_rgb": 0.0}),
        (UsageError, "sigma_xy.*positive", (probs, images), {"sigma_xy": -1.0}),
        (UsageError, r"scale.*\(0,1\]", (probs, images), {"scale": 0.0}),
        (UsageError, "roi must be bool", (probs, images), {"roi": roi[:, 1:]}),
        (UsageError, "plain or clamped", (probs, images), {"variant": "other"}),
        (UsageError, "normalised or paper", (probs, images), {"units": "other"}),
        (UsageError, "needs the labels", (probs, images), {"variant": "clamped"}),
        (DataError, "below 3", (probs, images), {"variant": "clamped", "labels": torch.full((2, 6, 7), 7)}),
        (UsageError, r"labels must be \(B,H,W\)", (probs, images), {"variant": "clamped", "labels": roi[:1].long()}),
    ]
    for error, message, arguments, settings in cases:
        with pytest.raises(error, match=message):
            dense_crf_loss(*arguments, **settings)


@pytest.mark.parametrize("loss", [dense_crf_loss, normalized_cut_loss, kernel_cut_loss])
@pytest.mark.parametrize("with_roi", [False, True])
def test_white_stays_white_in_reduced_images(loss, with_roi):
    """Odd sizes are no multiples of 2, and the weights of the interpolation can sum to a little more than 1."""
    height, width = 37, 51
    images = torch.full((1, 3, height, width), 255.0)
    images[..., :9, :] = 0
    probs = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0)).softmax(1)
    roi = torch.ones(1, height, width, dtype=torch.bool) if with_roi else None
    more = {"gamma": 1.0} if loss is kernel_cut_loss else SIGMAS
    value, gradient = _gradient(loss, probs, images, roi=roi, scale=0.5, **more)
    assert value.isfinite() and gradient.isfinite().all() and gradient.abs().max() > 0
