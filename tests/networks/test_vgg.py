from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from wss.errors import DataError, UsageError
from wss.networks import VGG16, DeepLabLargeFOV, DeepLabMScLargeFOV, DeepLabVGG16, load_pretrained
from wss.networks.weights import read_state_dict

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def published_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes in torchvision's file of VGG16."""
    names = {}
    before = 3
    for place, width in zip(CONVOLUTIONS, WIDTHS, strict=True):
        names |= {f"features.{place}.weight": (width, before, 3, 3), f"features.{place}.bias": (width,)}
        before = width
    for place, inputs, outputs in ((0, 25088, 4096), (3, 4096, 4096), (6, 4096, 1000)):
        names |= {f"classifier.{place}.weight": (outputs, inputs), f"classifier.{place}.bias": (outputs,)}
    return names


def test_names_and_shapes_are_torchvisions():
    with torch.device("meta"):
        state = VGG16(num_classes=1000).state_dict()
        bare = VGG16(8).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_names()
    assert set(bare) == {name for name in published_names() if name.startswith("features")}


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in VGG16().parameters()) == 14_714_688
        assert sum(p.numel() for p in VGG16(num_classes=1000).parameters()) == 138_357_544
        assert sum(p.numel() for p in DeepLabLargeFOV(21).parameters()) == 14_714_688 + 4_719_616 + 1_049_600 + 21_525


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (17, 34)])
def test_feature_maps_have_the_stated_strides_and_channels(output_stride, size):
    backbone = VGG16(output_stride).eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, *size))
    assert backbone.strides == (4, 8, min(16, output_stride), output_stride)
    for features, stride, channels in zip(maps, backbone.strides, backbone.channels, strict=True):
        assert features.shape == (1, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))


def test_dilation_keeps_the_values_that_the_strided_network_computes():
    torch.manual_seed(0)
    strided = VGG16(32).double().eval()
    image = torch.randn(1, 3, 65, 48, dtype=torch.float64)
    with torch.inference_mode():
        expected = strided(image)
        for output_stride in (8, 16):
            dense = VGG16(output_stride).double().eval()
            dense.load_state_dict(strided.state_dict())
            found = dense(image)
            step = 16 // dense.strides[2]
            torch.testing.assert_close(found[2][:, :, ::step, ::step], expected[2])
        torch.testing.assert_close(
            found[3][:, :, ::2, ::2], expected[3]
        )  # at 16; at 8 pool5 sees nearer cells, as published
    assert expected[2].std() > 1e-3


def test_the_image_classifier_sees_seven_by_seven_cells():
    torch.manual_seed(0)
    backbone = VGG16().eval()
    image = torch.randn(1, 3, 40, 56)
    with pytest.raises(UsageError, match="num_classes"):
        backbone.classify(image)
    backbone.classifier = torch.nn.Sequential(torch.nn.Linear(512 * 7 * 7, 3))  # the published one has 124 M parameters
    with torch.inference_mode():
        cells = functional.adaptive_avg_pool2d(backbone(image)[-1], (7, 7)).reshape(1, -1)
        torch.testing.assert_close(backbone.classify(image), backbone.classifier(cells))


def recomputed_large_field(network: DeepLabLargeFOV, image: torch.Tensor) -> torch.Tensor:
    """From the published definition, layer by layer."""
    own = dict(network.named_parameters())
    x = image
    for place in CONVOLUTIONS:
        dilation = 2 if place > 23 else 1
        weight, bias = own[f"backbone.features.{place}.weight"], own[f"backbone.features.{place}.bias"]
        x = functional.conv2d(x, weight, bias, padding=dilation, dilation=dilation).relu()
        if place in (2, 7, 14, 21, 28):
            stride = 2 if place < 15 else 1
            x = functional.max_pool2d(functional.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, stride)
    x = functional.conv2d(x, torch.full((512, 1, 3, 3), 1 / 9), padding=1, groups=512)
    x = functional.conv2d(
        x, own["backbone.fc.0.fc6.weight"], own["backbone.fc.0.fc6.bias"], padding=12, dilation=12
    ).relu()
    x = functional.conv2d(x, own["backbone.fc.0.fc7.weight"], own["backbone.fc.0.fc7.bias"]).relu()
    return functional.conv2d(x, own["classifier.weight"], own["classifier.bias"])


def test_large_field_of_view_equals_the_published_definition():
    torch.manual_seed(0)
    network = DeepLabLargeFOV(3).eval()
    image = torch.randn(1, 3, 41, 57)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), recomputed_large_field(network, image))
    assert network(image).shape == (1, 3, 6, 8)


def test_the_pyramid_on_vgg_is_the_sum_of_four_classifiers():
    torch.manual_seed(0)
    network = DeepLabVGG16(2).eval()
    image = torch.randn(1, 3, 33, 25)
    with torch.inference_mode():
        pool5 = network.backbone(image)[-1]
        total = network.classifier.bias.view(1, -1, 1, 1)
        for number, dilation in enumerate((6, 12, 18, 24)):
            branch = network.backbone.fc[number]
            x = functional.conv2d(pool5, branch.fc6.weight, branch.fc6.bias, padding=dilation, dilation=dilation).relu()
            x = functional.conv2d(x, branch.fc7.weight, branch.fc7.bias).relu()
            total = total + functional.conv2d(x, network.classifier.weight[:, 1024 * number : 1024 * (number + 1)])
        torch.testing.assert_close(network(image), total)


@pytest.mark.parametrize("size", [(33, 25), (20, 38)])
def test_side_classifiers_are_summed_where_their_cells_lie(size):
    torch.manual_seed(0)
    network = DeepLabMScLargeFOV(2).double().eval()
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    rows, columns = (torch.arange(8 * math.ceil((side - 1) / 8) + 1).clamp(max=side - 1) for side in size)
    padded = image[:, :, rows][:, :, :, columns]

    def at_pixels(maps, stride):
        """Bilinear interpolation from its definition: pixel x lies at x / stride, between two cells."""
        for axis in (2, 3):
            place = torch.arange(size[axis - 2], dtype=torch.float64) / stride
            low = place.floor().long()
            high = (low + 1).clamp(max=maps.shape[axis] - 1)
            share = (place - low).view(-1, *[1] * (3 - axis))
            maps = maps.index_select(axis, low) * (1 - share) + maps.index_select(axis, high) * share
        return maps

    with torch.inference_mode():
        _, pooled = network.backbone.stage_outputs(padded)
        total = network.classifier.bias.view(1, -1, 1, 1)
        start = 0
        for side, maps, stride in zip(network.sides, (padded, *pooled[:4]), (1, 2, 4, 8, 8), strict=True):
            total = total + at_pixels(
                functional.conv2d(side(maps), network.classifier.weight[:, start : start + 128]), stride
            )
            start += 128
        mean = functional.avg_pool2d(pooled[4], 3, 1, 1)
        (deep,) = network.backbone.branches(mean)
        total = total + at_pixels(functional.conv2d(deep, network.classifier.weight[:, start:]), 8)
        torch.testing.assert_close(network(image), total)
        torch.testing.assert_close(network.classify(network.forward_features(image)), total)


def test_another_classifier_takes_the_joined_features():
    network = DeepLabMScLargeFOV(2).eval()
    image = torch.randn(1, 3, 9, 12)
    network.classifier = torch.nn.Conv2d(network.feature_channels, 4, 1, bias=False)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network.classify(network.forward_features(image)))
        network.classifier = torch.nn.Conv2d(network.feature_channels, 4, 3, padding=1)
        assert network(image).shape == (1, 4, 9, 12)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with torchvision's names; fully connected weights are o + i and 2 o + i, overlapping in memory to stay small."""
    generator = torch.Generator().manual_seed(3)
    state = {n: torch.randn(s, generator=generator) for n, s in published_names().items() if n.startswith("features")}
    state["classifier.0.weight"] = torch.arange(4096.0 + 25088).as_strided((4096, 25088), (1, 1))
    state["classifier.3.weight"] = torch.arange(3 * 4096.0).as_strided((4096, 4096), (2, 1))
    state |= {f"classifier.{n}.bias": torch.arange(4096.0) for n in (0, 3)}
    path = tmp_path_factory.mktemp("weights") / "vgg16-397923af.pth"
    torch.save(state, path)
    return path


def test_fully_connected_layers_are_decimated(published):
    """Every fourth filter, every third tap."""
    network = DeepLabVGG16(2)
    record = load_pretrained(network, published)
    assert (record.kind, record.random) == ("imagenet", ())
    torch.testing.assert_close(network.backbone.features[28].weight, read_state_dict(published)["features.28.weight"])
    filters, channels, taps = torch.arange(0.0, 4096, 4), 49 * torch.arange(512.0), torch.tensor([0.0, 3, 6])
    first = filters.view(-1, 1, 1, 1) + channels.view(-1, 1, 1) + 7 * taps.view(-1, 1) + taps
    for branch in network.backbone.fc:
        assert torch.equal(branch.fc6.weight, first)
        assert torch.equal(branch.fc7.weight[:, :, 0, 0], 2 * filters[:, None] + filters)
        assert torch.equal(branch.fc6.bias, filters)
        assert torch.equal(branch.fc7.bias, filters)


def test_a_file_without_a_classifier_says_what_stays_random(published, tmp_path):
    state = {name: value for name, value in read_state_dict(published).items() if name.startswith("features")}
    torch.save(state, tmp_path / "features.pth")
    network = DeepLabLargeFOV(2)
    before = network.backbone.fc[0].fc6.weight.clone()
    record = load_pretrained(network, tmp_path / "features.pth")
    assert record.random == ("fc6", "fc7")
    assert torch.equal(network.backbone.fc[0].fc6.weight, before)
    torch.testing.assert_close(network.backbone.features[0].weight, state["features.0.weight"])


def test_a_trained_network_gives_its_convolutional_layers(tmp_path):
    torch.manual_seed(0)
    other, network = DeepLabLargeFOV(4), DeepLabLargeFOV(2)
    torch.save({"network." + name: value for name, value in other.state_dict().items()}, tmp_path / "own.pth")
    assert load_pretrained(network, tmp_path / "own.pth").random == ()
    torch.testing.assert_close(network.backbone.fc[0].fc7.weight, other.backbone.fc[0].fc7.weight)
    with pytest.raises(DataError, match=r"missing from the file: fc\.1"):
        load_pretrained(DeepLabVGG16(2), tmp_path / "own.pth")
