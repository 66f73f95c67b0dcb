import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.gated_crf import gated_crf
from wss.errors import DataError, UsageError
from wss.losses import gated_crf_loss

SETTINGS = {"radius": 2, "sigma_rgb": 40.0, "sigma_xy": 1.5, "colour_weight": 0.9, "position_weight": 0.1}


def _case(batch=2, classes=3, height=6, width=7, seed=0, dtype=torch.float64):
    """Soft segments, images, and two different gates."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(batch, classes, height, width, generator=generator, dtype=dtype).mul(2).softmax(1)
    images = (torch.rand(batch, 3, height, width, generator=generator) * 100).round()
    sources, destinations = torch.rand(2, batch, height, width, generator=generator) < 0.7
    return probs, images, {"sources": sources, "destinations": destinations}


def _gradient(probs, *args, **settings):
    leaf = probs.detach().clone().requires_grad_()
    value = gated_crf_loss(leaf, *args, **settings)
    value.backward()
    return value.detach(), leaf.grad


def test_three_pixels_by_hand():
    # In a row, radius 1: only neighbours meet. Colours 0, 30, 30; S = (1, 0), (1/4, 3/4), (0, 1).
    near = math.exp(-1 / 8)
    k = torch.tensor([near * math.exp(-0.5 * 4) * 2 + near, near * 2 + near])
    images = torch.tensor([[0.0, 30.0, 30.0], [0.0] * 3, [0.0] * 3]).reshape(1, 3, 1, 3)
    probs = torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 1.0]]).reshape(1, 2, 1, 3)
    settings = {"radius": 1, "sigma_rgb": 15.0, "sigma_xy": 2.0, "colour_weight": 2.0, "position_weight": 1.0}
    value, gradient = _gradient(probs, images, **settings)
    # each pair counts once for either of its pixels
    assert value.item() == pytest.approx(float(2 * (k[0] * 0.75 + k[1] * 0.25) / 3))
    expected = [[0.25 * k[0], k[0], 0.25 * k[1]], [0.75 * k[0], k[1], 0.75 * k[1]]]
    torch.testing.assert_close(gradient[0, :, 0], -2 / 3 * torch.tensor(expected))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("radius", [1, 2, 9])
def test_reference(gated, classes, radius):
    probs, images, gates = _case(classes=classes)
    gates = gates if gated else {name: torch.ones_like(gate) for name, gate in gates.items()}
    values, gradients = [], []
    for b in range(2):
        value, gradient = gated_crf(
            probs[b].numpy(),
            images[b].numpy(),
            radius,
            (40.0, 1.5),
            (0.9, 0.1),
            *(g[b].numpy() for g in gates.values()),
        )
        values.append(value)
        gradients.append(gradient)
    count = int(gates["destinations"].sum())
    given = gates if gated else {}
    value, gradient = _gradient(probs, images, **SETTINGS | {"radius": radius} | given)
    assert value.item() == pytest.approx(sum(values) / count, abs=1e-12)
    np.testing.assert_allclose(gradient.numpy(), np.stack(gradients) / count, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_gradcheck(scale):
    probs, images, gates = _case(classes=2, height=5, width=5)
    assert gradcheck(
        lambda p: gated_crf_loss(p, images, scale=scale, **SETTINGS, **gates), probs.requires_grad_(), atol=1e-7
    )


def test_padding_changes_nothing():
    probs, images, _ = _case()
    inside = torch.ones(2, 6, 7, dtype=torch.bool)
    value, gradient = _gradient(probs, images, **SETTINGS)
    sizes = (0, 3, 0, 2)
    padded = torch.nn.functional.pad(probs, sizes, value=1 / 3)
    roi = torch.nn.functional.pad(inside, sizes)
    other, wide = _gradient(
        padded, torch.nn.functional.pad(images, sizes, value=90.0), sources=roi, destinations=roi, **SETTINGS
    )
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(wide[:, :, :6, :7], gradient)
    assert not wide[:, :, 6:].any()
    assert not wide[:, :, :, 7:].any()


@pytest.mark.parametrize("closed", ["sources", "destinations"])
def test_closed_gates_make_a_differentiable_zero(closed):
    probs, images, gates = _case()
    gates[closed] = torch.zeros_like(gates[closed])
    value, gradient = _gradient(probs, images, **SETTINGS, **gates)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(probs))


def test_batch_is_the_mean_over_destinations():
    probs, images, _ = _case(seed=3)
    each = [gated_crf_loss(probs[b : b + 1], images[b : b + 1], **SETTINGS) for b in range(2)]
    torch.testing.assert_close(gated_crf_loss(probs, images, **SETTINGS), (each[0] + each[1]) / 2)


def test_one_class_one_pixel_and_hard_segments_cost_nothing():
    _, images, _ = _case()
    value, gradient = _gradient(torch.ones(2, 1, 6, 7), images, **SETTINGS)
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert gradient.isfinite().all()
    assert gated_crf_loss(torch.full((1, 2, 1, 1), 0.5), images[:1, :, :1, :1]).item() == 0
    one_segment = torch.zeros(2, 4, 6, 7)
    one_segment[:, 2] = 1
    assert gated_crf_loss(one_segment, images, **SETTINGS).item() == pytest.approx(0, abs=1e-5)


def test_range_and_relabelling():
    probs, _, _ = _case(classes=4, height=30, width=30)
    flat = torch.zeros(2, 3, 30, 30)
    flat[0, 0, 0, 0] = 255  # images of one colour throughout are taken for bytes
    alike = gated_crf_loss(torch.full((2, 4, 30, 30), 0.25), flat, radius=1, sigma_xy=1e6)
    assert 0.7 * 8 < alike.item() / 0.75 < 8
    torch.testing.assert_close(
        gated_crf_loss(probs[:, [2, 0, 3, 1]], flat, **SETTINGS), gated_crf_loss(probs, flat, **SETTINGS)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_and_memory_format(dtype):
    probs, images, gates = _case(dtype=torch.float32)
    probs = probs.to(dtype)
    value, gradient = _gradient(probs, images, **SETTINGS, **gates)
    expected, reference = _gradient(probs.double(), images, **SETTINGS, **gates)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, reference.to(dtype), rtol=1e-2, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        other, same = _gradient(
            probs.contiguous(memory_format=torch.channels_last), images.to(torch.uint8), **SETTINGS, **gates
        )
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(same, gradient)


def test_reduced_resolution_is_the_loss_of_averages():
    probs, images, _ = _case(height=8, width=8)
    halved = [torch.nn.functional.avg_pool2d(maps, 2) for maps in (probs, images)]
    torch.testing.assert_close(
        gated_crf_loss(probs, images, scale=0.5, **SETTINGS), gated_crf_loss(*halved, **SETTINGS)
    )


def test_wrong_arguments_are_named():
    probs, images, gates = _case()
    cases = [
        (DataError, r"probs must be in 0\.\.1.*softmax", (probs * 9 - 3, images), {}),
        (UsageError, r"0-255.*multiply by 255", (probs, images / 255), {}),
        (UsageError, "agree in batch", (probs[:, :, 1:], images), {}),
        (UsageError, "radius is a whole number", (probs, images), {"radius": 0}),
        (UsageError, "radius is a whole number", (probs, images), {"radius": 1.5}),
        (UsageError, "must be positive", (probs, images), {"sigma_rgb": 0.0}),
        (UsageError, "must be positive", (probs, images), {"sigma_xy": math.nan}),
        (UsageError, "at least 0, and one above", (probs, images), {"colour_weight": 0.0}),
        (UsageError, "at least 0, and one above", (probs, images), {"position_weight": -1.0}),
        (UsageError, "sources must be bool", (probs, images), {"sources": gates["sources"].float()}),
        (UsageError, "destinations must be bool", (probs, images), {"destinations": gates["sources"][:, 1:]}),
        (UsageError, r"scale.*\(0,1\]", (probs, images), {"scale": 0.0}),
    ]
    for error, message, arguments, settings in cases:
        with pytest.raises(error, match=message):
            gated_crf_loss(*arguments, **settings)
