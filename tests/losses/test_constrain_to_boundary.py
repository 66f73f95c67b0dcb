import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.sec import divergence
from tests.reference.unrolled_mean_field import unrolled_mean_field
from wss.errors import DataError, UsageError
from wss.losses import constrain_to_boundary_loss

CRF: dict[str, Any] = {
    "iterations": 3,
    "pos_weight": 1.5,
    "pos_xy_std": 2.0,
    "bi_weight": 2.5,
    "bi_xy_std": 4.0,
    "bi_rgb_std": 30.0,
}


def _case(shape=(2, 3, 4, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    images = (torch.rand(shape[0], 3, *shape[2:], generator=generator) * 90).round()
    return logits, images


def _refined(scores, image):
    """Q (K,H,W) of one image, with the settings of ``CRF``."""
    classes = len(scores)
    kernels = [(np.full(classes, 1.5), 2.0, None), (np.full(classes, 2.5), 4.0, 30.0)]
    return unrolled_mean_field(scores.detach().numpy(), image.numpy(), kernels, 1 - np.eye(classes), 3)


def _reference(logits, images):
    total = 0.0
    for scores, image in zip(logits, images, strict=True):
        q = _refined(scores, image)
        total += divergence(q.reshape(len(q), -1), scores.softmax(0).flatten(1).numpy())
    return total / len(logits)


@pytest.mark.parametrize("backprop", [False, True])
def test_reference(backprop):
    logits, images = _case()
    value = constrain_to_boundary_loss(logits, images, backprop=backprop, exact=True, **CRF)
    assert value.item() == pytest.approx(_reference(logits, images), rel=1e-6)


def test_by_hand():
    """Two pixels of one colour that hear each other fully: K = 1/2 everywhere."""
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]], dtype=torch.float64)
    images = torch.full((1, 3, 1, 2), 50.0)
    settings = {**CRF, "iterations": 1, "pos_weight": 3.0, "bi_weight": 0.0, "pos_xy_std": 1e4}
    value = constrain_to_boundary_loss(logits, images, exact=True, **settings)
    first = 1 / (1 + math.exp(-2))
    message = 3 * (first + 0.5) / 2, 3 * (1 - first + 0.5) / 2
    expected = 0.0
    for score, s in ((2.0, first), (0.0, 0.5)):
        q = 1 / (1 + math.exp(message[1] - message[0] - score))
        expected += q * math.log(q / s) + (1 - q) * math.log((1 - q) / (1 - s))
    assert value.item() == pytest.approx(expected / 2, rel=1e-4)


def test_gradient_through_the_crf():
    logits, images = _case((1, 3, 3, 3))
    logits.requires_grad_()
    assert gradcheck(lambda x: constrain_to_boundary_loss(x, images, exact=True, **CRF), logits)


def test_without_backprop_the_proposal_is_fixed():
    """The gradient is then that of cross-entropy with soft labels Q: S - Q, over the number of pixels."""
    logits, images = _case((1, 3, 3, 3))
    logits.requires_grad_()
    constrain_to_boundary_loss(logits, images, exact=True, backprop=False, **CRF).backward()
    expected = (logits.detach().softmax(1) - torch.from_numpy(_refined(logits[0], images[0]))[None]) / 9
    torch.testing.assert_close(logits.grad, expected)


def test_both_engines_agree():
    logits, images = (x.float() for x in _case((2, 4, 12, 17)))
    fast = constrain_to_boundary_loss(logits, images, backprop=False, **CRF)
    inside = torch.ones(2, 12, 17, dtype=torch.bool)
    assert torch.allclose(constrain_to_boundary_loss(logits, images, backprop=True, **CRF), fast, rtol=1e-3)
    assert torch.allclose(
        constrain_to_boundary_loss(logits, images, backprop=False, roi=inside, **CRF), fast, rtol=1e-3
    )


@pytest.mark.parametrize("backprop", [False, True])
def test_padding_neither_counts_nor_takes_part(backprop):
    logits, images = _case()
    inside = torch.zeros(2, 4, 5, dtype=torch.bool)
    inside[:, :3, :4] = True
    inner = constrain_to_boundary_loss(logits[:, :, :3, :4], images[:, :, :3, :4], exact=True, **CRF)
    logits.requires_grad_()
    value = constrain_to_boundary_loss(logits, images, roi=inside, exact=True, backprop=backprop, **CRF)
    value.backward()
    assert torch.allclose(value, inner)
    assert (logits.grad[:, :, 3:] == 0).all()
    assert (logits.grad[:, :, :, 4:] == 0).all()
    empty = constrain_to_boundary_loss(logits, images, roi=inside & False, backprop=backprop, **CRF)
    empty.backward()
    assert empty.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_zero_where_the_crf_changes_nothing():
    logits, images = _case()
    assert constrain_to_boundary_loss(logits, images, **{**CRF, "iterations": 0}).item() == pytest.approx(0, abs=1e-12)
    one = torch.zeros(1, 1, 4, 4)
    assert constrain_to_boundary_loss(one, torch.zeros(1, 3, 4, 4), **CRF).item() == pytest.approx(0, abs=1e-6)


def test_a_scale_reduces_deviations_with_the_image():
    logits, images = _case((1, 3, 4, 6))
    larger = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (logits, images)]
    doubled = {**CRF, "pos_xy_std": 4.0, "bi_xy_std": 8.0}
    inside = torch.ones(1, 8, 12, dtype=torch.bool)
    for roi in (None, inside):
        value = constrain_to_boundary_loss(*larger, scale=0.5, roi=roi, exact=True, **doubled)
        assert torch.allclose(value, constrain_to_boundary_loss(logits, images, exact=True, **CRF))


def test_half_precision_one_pixel_and_non_contiguous():
    logits, images = _case((1, 3, 6, 6))
    value = constrain_to_boundary_loss(logits, images, exact=True, **CRF)
    turned = constrain_to_boundary_loss(logits.transpose(2, 3), images.transpose(2, 3), exact=True, **CRF)
    assert torch.allclose(turned, value)
    half = constrain_to_boundary_loss(logits.bfloat16(), images, exact=True, **CRF)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(value.item(), rel=0.1)
    one = constrain_to_boundary_loss(logits[:, :, :1, :1], images[:, :, :1, :1], **CRF)
    assert torch.isfinite(one)


def test_what_does_not_fit_is_refused():
    logits, images = _case()
    for options in (
        {"scale": 0},
        {"scale": 2},
        {"roi": torch.ones(2, 4, 4, dtype=torch.bool)},
        {"roi": torch.ones(2, 4, 5)},
    ):
        with pytest.raises(UsageError):
            constrain_to_boundary_loss(logits, images, **options, **CRF)
    with pytest.raises(UsageError, match="must agree"):
        constrain_to_boundary_loss(logits, images[:1], **CRF)
    with pytest.raises(DataError):
        constrain_to_boundary_loss(logits * float("nan"), images, **CRF)
