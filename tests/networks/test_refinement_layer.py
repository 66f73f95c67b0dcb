import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks import NetworkSpec, build_network
from wss.networks.layers.refinement import PredictionRefinement

SPECS = {
    1: NetworkSpec(name="unet"),
    4: NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
    8: NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    16: NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
}


def _inputs(stride, size=(37, 50), classes=4, batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    low = [math.ceil(side / stride) for side in size]
    logits = torch.randn(batch, classes, *low, generator=generator, dtype=dtype)
    return logits, torch.randn(batch, 3, *size, generator=generator, dtype=dtype)


def _trained(stride, **widths):
    """A layer that corrects something."""
    torch.manual_seed(1)
    layer = PredictionRefinement(stride, **widths)
    for step in layer.steps:
        nn.init.normal_(step.last.weight, std=0.2)
    return layer


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (48, 32), (17, 5)])
def test_a_new_layer_interpolates_and_a_trained_one_corrects(stride, size):
    logits, image = _inputs(stride, size)
    expected = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    assert torch.equal(PredictionRefinement(stride)(logits, image), expected)
    refined = _trained(stride)(logits, image)
    assert refined.shape == (2, 4, *size)
    assert not torch.allclose(refined, expected)


@pytest.mark.parametrize(("stride", "steps"), [(1, 1), (2, 1), (4, 2), (8, 3), (16, 4)])
def test_steps_double_the_size(stride, steps):
    layer = _trained(stride).eval()
    sizes = []
    for step in layer.steps:
        step.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    layer(*_inputs(stride))
    assert sizes == [(math.ceil(37 / 2**k), math.ceil(50 / 2**k)) for k in reversed(range(steps))]


@pytest.mark.parametrize("stride", SPECS)
def test_attaches_to_every_network(stride):
    torch.manual_seed(0)
    network = build_network(SPECS[stride], 3)
    layer = _trained(network.output_stride)
    image = torch.randn(2, 3, 45, 61)
    assert layer(network(image), image).shape == (2, 3, 45, 61)
    assert network.output_stride == stride


def test_a_step_sees_map_and_detail_concatenated():
    step = _trained(1).steps[0].double()
    logits, _ = _inputs(1, dtype=torch.float64)
    detail = torch.randn(2, 1, 37, 50, dtype=torch.float64)
    weight = torch.cat([step.of_map.weight, step.of_detail.weight], 1)
    expected = []
    for k in range(4):
        both = torch.cat([logits[:, k : k + 1], detail], 1)
        hidden = functional.conv2d(both, weight, step.of_detail.bias, padding=1).relu()
        expected.append(step.last(step.between(hidden).relu()))
    torch.testing.assert_close(step(logits, detail), torch.cat(expected, 1))


def test_classes_are_treated_alike():
    logits, image = _inputs(8)
    layer = _trained(8).eval()
    refined = layer(logits, image)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(layer(logits[:, order], image), refined[:, order])
    torch.testing.assert_close(layer(logits[:, 1:2], image), refined[:, 1:2])  # nor do they see each other


def test_images_of_a_batch_do_not_see_each_other():
    logits, image = _inputs(4)
    layer = _trained(4).eval()
    torch.testing.assert_close(layer(logits[1:], image[1:]), layer(logits, image)[1:])


def test_every_size_is_corrected_with_the_detail_of_the_image():
    logits, image = _inputs(8)
    layer = _trained(8).eval()
    for silent in range(3):
        other = _trained(8).eval()
        nn.init.zeros_(other.steps[silent].last.weight)
        assert not torch.allclose(other(logits, image), layer(logits, image))
    assert not torch.allclose(layer(logits, torch.zeros_like(image)), layer(logits, image))


def test_five_convolutions_lead_to_one_map_of_detail():
    layer = PredictionRefinement(8, detail_width=6, width=5)
    convolutions = [m for m in layer.detail.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(3, 6), (6, 6), (6, 6), (6, 6), (6, 1)]
    assert sum(p.numel() for p in layer.steps.parameters()) == 3 * (5 * 9 + (5 * 9 + 5) + (25 * 9 + 5) + 5 * 9)


@pytest.mark.parametrize("stride", [1, 8])
def test_gradients_reach_everything(stride):
    logits, image = _inputs(stride)
    logits.requires_grad_()
    layer = PredictionRefinement(stride)
    layer(logits, image).square().mean().backward()
    assert (logits.grad != 0).any()
    assert all((step.last.weight.grad != 0).any() for step in layer.steps)  # it starts to correct
    layer = _trained(stride)
    layer(logits, image).square().mean().backward()
    for name, parameter in layer.named_parameters():
        assert (parameter.grad != 0).any(), name


def test_memory_layout_does_not_matter():
    logits, image = _inputs(8)
    layer = _trained(8).eval()
    expected = layer(logits, image)
    last = torch.channels_last
    layer = layer.to(memory_format=last)
    found = layer(logits.to(memory_format=last), image.to(memory_format=last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    wide = torch.cat([logits, logits], 1)[:, ::2]  # every other channel
    torch.testing.assert_close(layer(wide, image), layer(wide.contiguous(), image), rtol=1e-4, atol=1e-5)


def test_autocast_keeps_the_logits_in_float32():
    logits, image = _inputs(4)
    layer = _trained(4).eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(logits, image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(logits, image), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("stride", [0, -1, 3, 12])
def test_refuses_strides_that_doubling_does_not_undo(stride):
    with pytest.raises(UsageError, match="power of two"):
        PredictionRefinement(stride)
