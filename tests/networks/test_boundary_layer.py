import math

import pytest
import torch

from wss.errors import UsageError
from wss.networks import NetworkSpec, build_network
from wss.networks.layers.boundary import BoundaryRegression, background_level, foreground_background


def _logits(classes=5, size=(6, 7)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, classes, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("background", [0, 2, 4])
def test_foreground_is_the_largest_of_the_other_classes(background):
    logits = _logits()
    maps = foreground_background(logits, background)
    assert maps.shape == (2, 2, 6, 7)
    for b, y, x in torch.ones(2, 6, 7).nonzero().tolist():
        values = logits[b, :, y, x].tolist()
        assert maps[b, 1, y, x] == values.pop(background)
        assert maps[b, 0, y, x] == max(values)


@pytest.mark.parametrize("background", [0, 3])
def test_the_gradient_of_the_foreground_reaches_the_largest_class_only(background):
    logits = _logits().requires_grad_()
    weights = torch.randn(2, 6, 7, dtype=torch.float64)
    (foreground_background(logits, background)[:, 0] * weights).sum().backward()
    others = logits.detach().clone()
    others[:, background] = -torch.inf
    expected = torch.zeros_like(logits.detach()).scatter(1, others.argmax(1, keepdim=True), weights[:, None])
    torch.testing.assert_close(logits.grad, expected)
    logits.grad = None
    (foreground_background(logits, background)[:, 1] * weights).sum().backward()
    assert torch.equal(logits.grad[:, background], weights)
    assert logits.grad.count_nonzero() == weights.numel()


@pytest.mark.parametrize("background", [0, 3])
def test_levels_are_the_doubt_about_the_background(background):
    logits = _logits()
    edges = background_level(logits, background, (6, 7))
    for b, y, x in torch.ones(2, 6, 7).nonzero().tolist():
        values = [math.exp(value) for value in logits[b, :, y, x].tolist()]
        p = values[background] / sum(values)
        assert edges[b, y, x].item() == pytest.approx(1 - (2 * p - 1) ** 2)
    assert torch.autograd.gradcheck(
        lambda x: background_level(x, background, (9, 8)), _logits(4, (3, 4)).requires_grad_()
    )


def test_levels_are_interpolated_as_logits_are():
    logits = _logits(3, (3, 4))
    larger = torch.nn.functional.interpolate(logits, [6, 8], mode="bilinear", align_corners=False)
    assert torch.equal(background_level(logits, 1, (6, 8)), background_level(larger, 1, (6, 8)))
    half = background_level(logits.bfloat16(), 1, (6, 8))
    assert half.dtype == torch.float32


@pytest.mark.parametrize(("classes", "background"), [(3, None), (1, 0)])
def test_levels_need_a_background_and_a_class_beside_it(classes, background):
    with pytest.raises(UsageError, match="needs a"):
        background_level(_logits(classes), background, (6, 7))


def test_of_equal_classes_one_gets_the_gradient():
    logits = torch.zeros(1, 4, 2, 2, requires_grad=True)
    foreground_background(logits, 0)[:, 0].sum().backward()
    assert (logits.grad.sum(1) == 1).all()
    assert (logits.grad.count_nonzero(1) == 1).all()


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("stride", [1, 4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (48, 32)])
def test_edges_have_the_size_of_the_image(channels, stride, size):
    torch.manual_seed(0)
    layer = BoundaryRegression(channels)
    low = [math.ceil(side / stride) for side in size]
    edges = layer(torch.randn(2, channels, *low), size)
    assert edges.shape == (2, *size)
    assert (edges > 0).all()
    assert (edges < 1).all()


@pytest.mark.parametrize("channels", [2, 3])
def test_attaches_to_a_network_and_teaches_it(channels):
    torch.manual_seed(0)
    network = build_network(NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"), 3)
    layer = BoundaryRegression(channels)
    logits = network(torch.randn(2, 3, 45, 61))
    maps = logits if channels == 3 else foreground_background(logits, 0)
    edges = layer(maps, (45, 61))
    assert edges.shape == (2, 45, 61)
    edges.square().mean().backward()
    for name, parameter in (*layer.named_parameters(), *network.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_learns_where_two_regions_meet():
    torch.manual_seed(0)
    maps = torch.full((1, 2, 16, 16), -3.0)
    maps[:, 0, :, 8:] = maps[:, 1, :, :8] = 3.0
    edges = torch.zeros(1, 16, 16)
    edges[:, :, 7:9] = 1.0
    layer = BoundaryRegression(2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = (layer(maps, (16, 16)) - edges).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_result_is_float32_under_autocast():
    layer = BoundaryRegression(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 2, 4, 4), (8, 8)).dtype == torch.float32


def test_refuses_to_split_without_background_or_foreground():
    with pytest.raises(UsageError, match="the data set has none"):
        foreground_background(_logits(), None)
    with pytest.raises(UsageError, match="besides the background"):
        foreground_background(_logits(classes=1), 0)
