from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wss.networks import (
    DeepLabLargeFOV,
    DeepLabV2,
    DeepLabV3Plus,
    MiT,
    MobileNetV2,
    ResNet,
    SegFormer,
    UNet,
    freeze_batch_norm,
    parameter_groups,
)
from wss.networks.layers.batch_norm import BatchNorm2d


class Wrapped(nn.Module):
    """A network with a further head, as methods build it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = DeepLabV2(ResNet(18, 8), 3)
        self.refine = nn.Sequential(nn.Conv2d(3, 3, 3), BatchNorm2d(3))


def names_of(model: nn.Module, **wanted: bool) -> set[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [g for g in parameter_groups(model) if all(getattr(g, k) == v for k, v in wanted.items())]
    return {names[id(p)] for group in groups for p in group.parameters}


@pytest.mark.parametrize("build", [Wrapped, lambda: UNet(3), lambda: DeepLabV3Plus(MobileNetV2(16), 3)])
def test_every_parameter_is_in_exactly_one_group(build):
    model = build()
    grouped = [id(p) for group in parameter_groups(model) for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert all(group.parameters for group in parameter_groups(model))


def test_heads_are_what_is_outside_the_backbone():
    model = Wrapped()
    assert names_of(model, head=True) == {n for n, _ in model.named_parameters() if "backbone" not in n}
    assert "network.classifier.branches.3.weight" in names_of(model, head=True)
    assert "refine.0.bias" in names_of(model, head=True, bias=True)
    assert "network.backbone.layer4.1.conv2.weight" in names_of(model, head=False, bias=False, decay=True)


def test_normalisation_has_no_decay_and_only_shifts_are_biases():
    model = Wrapped()
    assert "network.backbone.bn1.weight" in names_of(model, head=False, bias=False, decay=False)
    assert "network.backbone.bn1.bias" in names_of(model, head=False, bias=True, decay=False)
    assert names_of(model, bias=True) == {n for n, _ in model.named_parameters() if n.endswith("bias")}
    assert all(p.ndim == 4 for g in parameter_groups(model) if g.decay for p in g.parameters)


def test_layer_normalisation_has_no_decay():
    model = SegFormer(MiT(0), 3)
    norms = {n for n, _ in model.named_parameters() if "norm" in n}
    assert len(norms) == 2 * (4 + 4 + 16 + 6)  # embeddings, stages, two in each block, those of reduced keys
    assert norms <= names_of(model, head=False, decay=False)
    assert "backbone.block1.0.attn.q.weight" in names_of(model, head=False, decay=True)
    assert "projections.0.weight" in names_of(model, head=True, decay=True)


def test_the_convolutional_layers_of_vgg_learn_at_the_backbones_rate():
    with torch.device("meta"):
        model = DeepLabLargeFOV(3)
    assert names_of(model, head=True) == {"classifier.weight", "classifier.bias"}
    assert {"backbone.fc.0.fc6.weight", "backbone.fc.0.fc7.bias"} <= names_of(model, head=False)


def test_a_network_without_backbone_has_no_head():
    assert names_of(UNet(3), head=True) == set()
    assert names_of(UNet(3), head=False) == {n for n, _ in UNet(3).named_parameters()}


def test_shared_parameters_appear_once():
    model = nn.ModuleDict({"a": nn.Conv2d(1, 1, 1)})
    model["b"] = model["a"]
    assert sum(len(g.parameters) for g in parameter_groups(model)) == 2


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if "running" in name}


def test_frozen_statistics_stay_through_training_mode():
    model = DeepLabV3Plus(ResNet(18, 16), 2)
    freeze_batch_norm(model)
    model.train()
    before = statistics(model)
    model(torch.randn(2, 3, 33, 33))
    changed = {name for name, value in statistics(model).items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("backbone.")}
    assert model.training
    assert model.backbone.training
    assert not model.backbone.bn1.training


def test_released_statistics_learn_again():
    model = UNet(2)
    freeze_batch_norm(model)
    model.train()
    before = statistics(model)
    model(torch.randn(1, 3, 16, 16))
    assert all(torch.equal(value, before[name]) for name, value in statistics(model).items())
    freeze_batch_norm(model, frozen=False)
    model(torch.randn(1, 3, 32, 32))
    assert not any(torch.equal(value, before[name]) for name, value in statistics(model).items())
    model.eval()
    freeze_batch_norm(model, frozen=False)
    assert not any(m.training for m in model.modules())


def test_freezing_survives_copies_and_leaves_the_state_dict_alone():
    model = UNet(2)
    names = list(model.state_dict())
    freeze_batch_norm(model)
    twin = copy.deepcopy(model).train()
    assert list(twin.state_dict()) == names
    assert not any(m.training for m in twin.modules() if isinstance(m, BatchNorm2d))


def test_batch_norm_equals_torchs():
    ours, theirs = BatchNorm2d(3), nn.BatchNorm2d(3)
    features = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(ours(features), theirs(features))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_batch_norm_of_a_single_value_uses_the_stored_statistics():
    layer = BatchNorm2d(2)
    layer.running_mean.copy_(torch.tensor([1.0, -1.0]))
    layer.running_var.copy_(torch.tensor([4.0, 0.25]))
    output = layer(torch.tensor([3.0, 0.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(output.flatten(), torch.tensor([1.0, 2.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(layer.running_mean, torch.tensor([1.0, -1.0]))
