import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.regularised_losses import crf, dense_affinity, normalised_cut
from wss.errors import DataError, UsageError
from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss
from wss.ops import BilateralFilter

SIGMAS = {"sigma_rgb": 30.0, "sigma_xy": 4.0}


def _case(batch=2, classes=3, height=6, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(batch, classes, height, width, generator=generator, dtype=torch.float64).mul(2).softmax(1)
    images = (torch.rand(batch, 3, height, width, generator=generator) * 60 + 80).round()
    roi = torch.rand(batch, height, width, generator=generator) > 0.1
    return probs, images, roi


def _gradient(loss, probs, *args, **settings):
    leaf = probs.detach().clone().requires_grad_()
    value = loss(leaf, *args, **settings)
    value.backward()
    return value.detach(), leaf.grad


def test_reference_in_the_units_of_the_paper():
    """(6) and (12) with two different affinities, apart from the constant that the authors' code leaves out."""
    probs, images, roi = _case(batch=1)
    w = dense_affinity(images[0].numpy(), 30.0, 4.0, roi[0].numpy())
    nc_w = dense_affinity(images[0].numpy(), 20.0, 2.0, roi[0].numpy())
    s = probs[0].flatten(1).numpy() * roi[0].numpy().ravel()
    crf_value, crf_gradient = crf(s, w)
    nc_value, nc_gradient = normalised_cut(s, nc_w)
    settings = {**SIGMAS, "nc_sigma_rgb": 20.0, "nc_sigma_xy": 2.0, "units": "paper", "roi": roi, "exact": True}
    value, gradient = _gradient(kernel_cut_loss, probs, images, gamma=7.0, **settings)
    assert value.item() + w.sum() == pytest.approx(crf_value + 7 * nc_value)
    np.testing.assert_allclose(gradient[0].flatten(1).numpy(), crf_gradient + 7 * nc_gradient, rtol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("units", ["normalised", "paper"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_sum_of_its_parts(shared, units, scale):
    probs, images, roi = _case()
    nc = SIGMAS if shared else {"sigma_rgb": 20.0, "sigma_xy": 2.0}
    own = {} if shared else {f"nc_{name}": value for name, value in nc.items()}
    settings = {"roi": roi, "scale": scale}
    value, gradient = _gradient(kernel_cut_loss, probs, images, gamma=0.3, units=units, **SIGMAS, **own, **settings)
    first = _gradient(dense_crf_loss, probs, images, units=units, **SIGMAS, **settings)
    second = _gradient(normalized_cut_loss, probs, images, **nc, **settings)
    assert value.item() == pytest.approx((first[0] + 0.3 * second[0]).item(), rel=1e-6)
    torch.testing.assert_close(gradient, first[1] + 0.3 * second[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("variant", ["plain", "clamped"])
def test_gradcheck(variant):
    probs, images, roi = _case(classes=2, height=5, width=5)
    labels = torch.full((2, 5, 5), 255)
    labels[:, 0, 0], labels[:, 2, 3] = 1, 0
    settings = {**SIGMAS, "gamma": 0.5, "roi": roi, "variant": variant, "labels": labels, "exact": True}
    assert gradcheck(lambda p: kernel_cut_loss(p, images, **settings), probs.requires_grad_())


@pytest.mark.parametrize(("own", "calls"), [({}, 1), ({"nc_sigma_xy": 4.0}, 1), ({"nc_sigma_xy": 2.0}, 2)])
def test_filters_once_per_affinity(own, calls, monkeypatch):
    count = []
    original = BilateralFilter._multiply
    monkeypatch.setattr(BilateralFilter, "_multiply", lambda *args: count.append(1) or original(*args))
    probs, images, _ = _case()
    _gradient(kernel_cut_loss, probs, images, gamma=1.0, **SIGMAS, **own)
    assert len(count) == calls


def test_no_region_of_interest_is_a_differentiable_zero():
    probs, images, roi = _case()
    value, gradient = _gradient(kernel_cut_loss, probs, images, gamma=1.0, roi=roi & False, **SIGMAS)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_wrong_arguments_are_named():
    probs, images, _ = _case()
    for error, message, settings in [
        (UsageError, "gamma.*negative", {"gamma": -1.0}),
        (UsageError, "normalised or paper", {"gamma": 1.0, "units": "other"}),
        (UsageError, "sigma_xy.*positive", {"gamma": 1.0, "nc_sigma_xy": 0.0}),
    ]:
        with pytest.raises(error, match=message):
            kernel_cut_loss(probs, images, **settings)
    with pytest.raises(DataError, match="softmax"):
        kernel_cut_loss(probs * torch.nan, images, gamma=1.0)
