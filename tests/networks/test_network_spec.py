from __future__ import annotations

import pytest
import torch
from torch import nn

from wss.errors import UsageError
from wss.networks import DeepLabV2, DeepLabV3Plus, NetworkSpec, UNet, build_network
from wss.networks.build import ARCHITECTURES
from wss.networks.layers.convolution import SameConv2d
from wss.params import validate

BACKBONES = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_builds_with_both_deeplabs(backbone):
    with torch.device("meta"):
        v2 = build_network(NetworkSpec(name="deeplab-v2", backbone=backbone), 21)
        v3 = build_network(NetworkSpec(name="deeplab-v3plus", backbone=backbone), 21)
    assert isinstance(v2, DeepLabV2)
    assert (v2.backbone.architecture, v2.output_stride, v2.num_classes) == (backbone, 8, 21)
    assert isinstance(v3, DeepLabV3Plus)
    assert (v3.backbone.output_stride, v3.output_stride) == (16, 4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_builds_with_every_backbone_that_it_takes(name):
    for backbone in ARCHITECTURES[name].backbones or (None,):
        spec = NetworkSpec(name=name, backbone=backbone)
        with torch.device("meta"):
            network = build_network(spec, 21)
        assert network.num_classes == 21
        assert getattr(getattr(network, "backbone", None), "architecture", None) == backbone
        known = ARCHITECTURES[name]
        of_one_stride = known.logits_stride is not None and backbone == "dinov2_vits14"
        assert network.output_stride == (16 if of_one_stride else known.logits_stride or known.output_stride)
        rates = {m.p for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)}
        assert max(rates) == known.dropout


def test_the_only_backbone_need_not_be_named():
    spec = NetworkSpec(name="deeplab-largefov")
    assert spec.backbone == "vgg16"
    assert spec == NetworkSpec(name="deeplab-largefov", backbone="vgg16")


def test_options_reach_the_network():
    unet = build_network(NetworkSpec(dropout=0.25, upsampling="transposed"), 2)
    assert isinstance(unet, UNet)
    assert max(m.p for m in unet.modules() if isinstance(m, nn.Dropout)) == 0.25
    assert any(isinstance(m, nn.ConvTranspose2d) for m in unet.modules())
    spec = NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2", output_stride=8, padding="same", dropout=0.3)
    network = build_network(spec, 2)
    assert network.backbone.output_stride == 8
    assert sum(isinstance(m, SameConv2d) for m in network.modules()) == 3  # 2, 4, 8
    assert network.dropout.p == 0.3
    assert network.aspp.atrous[0][0].groups == 320  # separable
    assert build_network(NetworkSpec(name="deeplab-v2", backbone="resnet18", dropout=0.2), 2).dropout.p == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "unet", "backbone": "resnet50"}, "no backbone.*deeplab-v2, deeplab-v3plus, pspnet or light-decoder"),
        ({"name": "unet", "backbone": "mit_b1"}, "choose the network segformer$"),
        ({"name": "segformer"}, "one of mit_b0, mit_b1, mit_b2"),
        ({"name": "segformer", "backbone": "resnet50"}, "mit_b0, mit_b1 or mit_b2.*pspnet"),
        ({"name": "segformer", "backbone": "mit_b0", "output_stride": 8}, "stride 4.*pspnet"),
        ({"name": "deeplab-largefov", "backbone": "resnet50"}, "takes the backbone vgg16, got resnet50"),
        ({"name": "deeplab-vgg16", "output_stride": 16}, "stride 8.*got output_stride 16"),
        ({"name": "deeplab-v2", "backbone": "vgg16"}, "deeplab-largefov, deeplab-msc-largefov or deeplab-vgg16"),
        ({"name": "unet", "output_stride": 8}, "stride 1"),
        ({"name": "deeplab-v2"}, "resnet18, resnet34, resnet50, resnet101, mobilenet_v2"),
        ({"name": "deeplab-v3plus", "backbone": "resnet50", "padding": "same"}, "mobilenet_v2"),
        ({"name": "unet", "padding": "same"}, "mobilenet_v2"),
        ({"name": "deeplab-v2", "backbone": "resnet18", "upsampling": "transposed"}, "unet"),
        ({"std": (0.2, 0.0, 0.2)}, "positive"),
    ],
)
def test_contradicting_options_name_what_goes_together(options, message):
    with pytest.raises(UsageError, match=message):
        NetworkSpec(**options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbon": "resnet50"}, "backbone"),
        ({"name": "deeplab-v9"}, "deeplab-v3plus"),
        ({"name": "deeplab-v2", "backbone": "vgg19"}, "resnet101"),
        ({"multi_scale": [0.5, 0]}, "multi_scale"),
        ({"name": "deeplab-v2", "backbone": "resnet50", "output_stride": 4}, "8"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_unknown_values_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        validate(NetworkSpec, values, "stage train")


def test_a_network_without_classes_is_refused():
    with pytest.raises(UsageError, match="num_classes 0"):
        build_network(NetworkSpec(), 0)


def test_spec_is_frozen_and_survives_json():
    spec = NetworkSpec(name="deeplab-v2", backbone="resnet101", mean=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "unet"
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
