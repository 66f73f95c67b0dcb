from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from wss.networks import (
    ASPP,
    DeepLabV2,
    DeepLabV3Plus,
    MobileNetV2,
    NetworkSpec,
    ResNet,
    SummedASPP,
    UNet,
    build_network,
)
from wss.networks.deeplab_v2 import aspp_dilations

NETWORKS = {
    "unet": lambda: UNet(3),
    "unet transposed": lambda: UNet(3, upsampling="transposed"),
    "unet stride 2": lambda: UNet(3, widths=(8, 16, 24), stem_stride=2),
    "unet stride 4": lambda: UNet(3, widths=(8, 8, 8, 8, 8, 8), stem_stride=4),
    "v2 resnet18": lambda: DeepLabV2(ResNet(18, 8), 3),
    "v2 mobilenet": lambda: DeepLabV2(MobileNetV2(16), 3),
    "v3plus resnet18": lambda: DeepLabV3Plus(ResNet(18, 16), 3),
    "v3plus mobilenet": lambda: DeepLabV3Plus(MobileNetV2(32, padding="same"), 3, separable=True),
}
STRIDES = {
    "unet": 1,
    "unet transposed": 1,
    "unet stride 2": 2,
    "unet stride 4": 4,
    "v2 resnet18": 8,
    "v2 mobilenet": 16,
    "v3plus resnet18": 4,
    "v3plus mobilenet": 4,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (17, 39), (48, 32)])
def test_logits_have_the_output_stride_at_any_size(name, size):
    network = NETWORKS[name]().eval()
    image = torch.randn(2, 3, *size)
    with torch.inference_mode():
        features = network.forward_features(image)
        logits = network(image)
        again = network.classify(features)
    stride = STRIDES[name]
    assert network.output_stride == stride
    assert network.num_classes == 3
    low = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    assert features.shape == (2, network.feature_channels, *low)
    assert logits.shape == (2, 3, *low)
    torch.testing.assert_close(again, logits)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    logits = network(torch.randn(2, 3, 48, 64))
    (logits * torch.randn_like(logits)).sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        if "unet" in name and parameter_name.endswith(("0.bias", "4.bias")):
            continue  # a bias in front of a normalisation has no effect
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("name", "backbone", "stride"),
    [
        ("deeplab-largefov", None, 8),
        ("deeplab-msc-largefov", None, 1),
        ("deeplab-vgg16", None, 8),
        ("pspnet", "resnet18", 8),
        ("segformer", "mit_b0", 4),
    ],
)
def test_a_network_works_at_any_size_and_learns_everywhere(name, backbone, stride):
    """One test for what the others check singly, since these networks are large."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec(name=name, backbone=backbone), 3).eval()
    with torch.no_grad():
        for size in ((1, 1), (17, 39), (64, 48)):
            image = torch.randn(1, 3, *size)
            features, logits = network.forward_features(image), network(image)
            low = tuple(math.ceil(side / stride) for side in size)
            assert features.shape == (1, network.feature_channels, *low)
            assert logits.shape == (1, 3, *low)
            torch.testing.assert_close(network.classify(features), logits)
        assert (logits.softmax(1) - 1 / 3).abs().mean() < 0.2
        network.to(memory_format=torch.channels_last)
        strided = network(image.to(memory_format=torch.channels_last))
        torch.testing.assert_close(strided, logits, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert (network(image).float() - logits).abs().max() < 0.05 * logits.abs().max() + 0.02
    network.train()
    logits = network(torch.randn(2, 3, 40, 56))
    (logits * torch.randn_like(logits)).sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
    network(torch.randn(1, 3, 1, 1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_one_tiny_image_can_be_trained_on(name):
    network = NETWORKS[name]()
    network(torch.randn(1, 3, 1, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def unet_parameters(in_channels: int, num_classes: int) -> int:
    """From the definition: a convolution has inputs * outputs * taps weights and outputs biases, a normalisation two each."""

    def conv(inputs: int, outputs: int, taps: int) -> int:
        return inputs * outputs * taps + outputs

    def two(inputs: int, outputs: int) -> int:
        return conv(inputs, outputs, 9) + conv(outputs, outputs, 9) + 4 * outputs

    widths = [16, 32, 64, 128, 256]
    total = sum(two(i, o) for i, o in zip([in_channels, *widths[:-1]], widths, strict=True))
    total += sum(conv(2 * w, w, 1) + two(2 * w, w) for w in widths[:-1])
    return total + conv(16, num_classes, 9)


def test_unet_has_the_baselines_number_of_parameters():
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet(4, in_channels=1).parameters())
        transposed = sum(p.numel() for p in UNet(4, in_channels=1, upsampling="transposed").parameters())
    assert count == unet_parameters(1, 4) == 1_813_764
    assert transposed - count == sum(3 * 2 * w * w for w in (16, 32, 64, 128))


def test_unet_with_a_stem_stride_is_a_unet_on_blocks_of_pixels():
    torch.manual_seed(0)
    coarse = UNet(3, widths=(8, 16, 24), stem_stride=2).eval()
    same = UNet(3, 12, widths=(8, 16, 24)).eval()
    same.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 16, 24)
    blocks = image.view(1, 3, 8, 2, 12, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 12, 8, 12)
    with torch.inference_mode():
        torch.testing.assert_close(coarse(image), same(blocks))


def test_unet_records_the_sides_of_one_pass_only_when_asked():
    network = UNet(3, widths=(8, 16, 24, 32), stem_stride=2, deep_supervision=True)
    image = torch.randn(2, 3, 20, 36)
    logits = network(image)
    assert network.recorded is None
    network.recorded = sides = []
    network.eval()
    torch.testing.assert_close(network(image).shape, logits.shape)
    assert [(tuple(side.logits.shape), side.stride) for side in sides] == [((2, 3, 4, 6), 8), ((2, 3, 8, 12), 4)]
    network(torch.zeros(1, 3, 32, 32))
    assert [len(side.logits) for side in sides] == [2, 2]


def test_unet_dropout_grows_with_depth():
    rates = [m.p for m in UNet(2, dropout=0.5).encoder.modules() if isinstance(m, nn.Dropout)]
    assert rates == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.5])
    assert not any(m.p for m in UNet(2, dropout=0.5).decoder.modules() if isinstance(m, nn.Dropout))


def test_unet_repeats_the_border_to_a_multiple_of_16():
    torch.manual_seed(0)
    network = UNet(2).eval()
    image = torch.randn(1, 3, 20, 31)
    rows, columns = torch.arange(32).clamp(max=19), torch.arange(32).clamp(max=30)
    with torch.inference_mode():
        features = network.forward_features(image)
        padded = network.forward_features(image[:, :, rows][:, :, :, columns])
    torch.testing.assert_close(features, padded[:, :, :20, :31])


def test_unet_padding_does_not_change_what_is_far_from_it():
    torch.manual_seed(0)
    network = UNet(2).eval()
    image = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        whole, part = network(image), network(image[:, :, :313, :309])
    torch.testing.assert_close(part[:, :, :100, :100], whole[:, :, :100, :100], atol=1e-5, rtol=1e-4)


def test_summed_pyramid_is_the_sum_of_its_branches():
    aspp = SummedASPP(4, 3, (1, 2, 5))
    features = torch.randn(1, 4, 9, 11)
    expected = sum(
        nn.functional.conv2d(features, branch.weight, branch.bias, padding=d, dilation=d)
        for branch, d in zip(aspp.branches, (1, 2, 5), strict=True)
    )
    torch.testing.assert_close(aspp(features), expected)
    assert len(aspp.branches) == 3


@pytest.mark.parametrize(("stride", "dilations"), [(8, (6, 12, 18, 24)), (16, (3, 6, 9, 12)), (32, (2, 3, 5, 6))])
def test_deeplab_v2_dilations_follow_the_stride(stride, dilations):
    assert aspp_dilations(stride) == dilations
    network = DeepLabV2(ResNet(18, stride), 2)
    assert tuple(branch.dilation[0] for branch in network.classifier.branches) == dilations


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_deeplab_v3plus_rates_follow_the_stride(stride, rates):
    network = DeepLabV3Plus(ResNet(18, stride), 2)
    assert tuple(branch[0].dilation[0] for branch in network.aspp.atrous) == rates


def test_image_pooling_sees_the_whole_image():
    torch.manual_seed(0)
    aspp = ASPP(4, (6, 12, 18), separable=False).eval()
    features = torch.randn(1, 4, 64, 64)
    changed = features.clone()
    changed[:, :, 60:, 60:] += 5  # out of reach of the dilated branches at the other corner
    with torch.inference_mode():
        difference = aspp(changed) - aspp(features)
    assert difference[:, :, :8, :8].abs().max() > 1e-4


def test_separable_head_is_lighter():
    with torch.device("meta"):
        heavy, light = (DeepLabV3Plus(MobileNetV2(16), 21, separable=s) for s in (False, True))
    sizes = [sum(p.numel() for n, p in m.named_parameters() if "backbone" not in n) for m in (heavy, light)]
    assert sizes[1] < sizes[0] / 3


def test_training_starts_near_uniform_probabilities():
    torch.manual_seed(0)
    for build in NETWORKS.values():
        probs = build().eval()(torch.randn(1, 3, 64, 64)).softmax(1)
        assert (probs - 1 / 3).abs().mean() < 0.2
