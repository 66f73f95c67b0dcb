from __future__ import annotations

import math

import pytest
import torch

from wss.errors import UsageError
from wss.networks import Backbone, MobileNetV2, ResNet
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import SameConv2d


def randomised(backbone: Backbone, seed: int = 0) -> Backbone:
    """In evaluation mode and double precision, with batch-norm statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    for module in backbone.modules():
        if isinstance(module, BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return backbone.double().eval()


@pytest.mark.parametrize(("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)])
def test_resnet_has_the_published_number_of_parameters(depth, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet(depth, num_classes=1000).parameters()) == count
        without = sum(p.numel() for p in ResNet(depth).parameters())
    assert count - without == 1000 * ((512 if depth < 50 else 2048) + 1)


def test_mobilenet_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in MobileNetV2(num_classes=1000).parameters()) == 3_504_872
        without = sum(p.numel() for p in MobileNetV2().parameters())
    assert 3_504_872 - without == 1000 * 1281 + 1280 * 320 + 2 * 1280


def test_resnet_names_are_torchvisions():
    with torch.device("meta"):
        shallow = ResNet(18, num_classes=1000).state_dict()
        deep = ResNet(50, num_classes=1000).state_dict()
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "bn1.num_batches_tracked": (),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.conv2.weight": (64, 64, 3, 3),
        "layer1.0.bn3.bias": (256,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.running_var": (256,),
        "layer2.3.conv3.weight": (512, 128, 1, 1),
        "layer3.5.bn1.weight": (256,),
        "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.weight": (1000, 2048),
        "fc.bias": (1000,),
    }
    assert {name: tuple(deep[name].shape) for name in expected} == expected
    assert len(deep) == 320
    assert "layer1.0.downsample.0.weight" not in shallow
    assert tuple(shallow["layer2.0.downsample.0.weight"].shape) == (128, 64, 1, 1)
    assert tuple(shallow["layer4.1.conv2.weight"].shape) == (512, 512, 3, 3)
    assert len(shallow) == 122


def test_mobilenet_names_are_torchvisions():
    with torch.device("meta"):
        state = MobileNetV2(num_classes=1000).state_dict()
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_var": (32,),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.bias": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.14.conv.3.running_mean": (160,),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert len(state) == 314


BACKBONES = {
    "resnet18": lambda stride: ResNet(18, stride),
    "resnet50": lambda stride: ResNet(50, stride),
    "mobilenet_v2": lambda stride: MobileNetV2(stride),
    "mobilenet_v2 same": lambda stride: MobileNetV2(stride, padding="same"),
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
def test_feature_maps_have_the_stated_strides_and_channels(name, output_stride, size):
    backbone = BACKBONES[name](output_stride).eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, *size))
    assert backbone.strides == (4, 8, min(16, output_stride), output_stride)
    for features, stride, channels in zip(maps, backbone.strides, backbone.channels, strict=True):
        assert features.shape == (1, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_keeps_the_values_that_the_strided_network_computes(name, output_stride):
    strided = randomised(BACKBONES[name](32))
    dense = BACKBONES[name](output_stride).double().eval()
    dense.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, 64, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = strided(image)[-1], dense(image)[-1]
    step = 32 // output_stride
    first = step - 1 if name.endswith("same") else 0  # SAME samples the last pixel of each cell
    assert expected.std() > 1e-3
    torch.testing.assert_close(found[:, :, first::step, first::step], expected)


def test_the_paddings_differ_in_values_only():
    symmetric, same = randomised(MobileNetV2()), MobileNetV2(padding="same").double().eval()
    same.load_state_dict(symmetric.state_dict())
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        a, b = symmetric(image)[-1], same(image)[-1]
    assert a.shape == b.shape
    assert not torch.allclose(a, b)


@pytest.mark.parametrize(("size", "pads"), [(6, (0, 1)), (7, (1, 1)), (2, (0, 1)), (1, (1, 1))])
def test_same_padding_is_tensorflows(size, pads):
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    image = torch.arange(1.0, size + 1).repeat(1, 1, size, 1)
    padded = torch.zeros(size + sum(pads), size + sum(pads))
    padded[pads[0] : pads[0] + size, pads[0] : pads[0] + size] = image[0, 0]
    outputs = math.ceil(size / 2)
    expected = torch.tensor(
        [
            [(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * conv.weight[0, 0].detach()).sum() for j in range(outputs)]
            for i in range(outputs)
        ]
    )
    torch.testing.assert_close(conv(image)[0, 0], expected)


@pytest.mark.parametrize("backbone", [ResNet(18, num_classes=5), MobileNetV2(num_classes=5)])
def test_image_classifier_averages_the_last_features(backbone):
    image = torch.randn(2, 3, 40, 56)
    backbone.eval()
    with torch.inference_mode():
        logits = backbone.classify(image)
        if isinstance(backbone, ResNet):
            expected = backbone.fc(backbone(image)[-1].mean((2, 3)))
        else:
            expected = backbone.classifier(backbone.features[18](backbone(image)[-1]).mean((2, 3)))
    assert logits.shape == (2, 5)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("build", [lambda: ResNet(18), MobileNetV2])
def test_classifying_without_a_classifier_says_what_to_give(build):
    with pytest.raises(UsageError, match="num_classes"):
        build().classify(torch.zeros(1, 3, 32, 32))
