import math

import pytest
import torch
from torch import nn

from wss.errors import UsageError
from wss.methods import Batch, Classifier
from wss.methods.classifier import ClassMaps, pooled
from wss.networks import NetworkSpec, parameter_groups

SPECS = [
    NetworkSpec(name="unet"),
    NetworkSpec(name="deeplab-v2", backbone="resnet18"),
    NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
]


class Fixed(nn.Module):
    """A network that always gives the same maps."""

    def __init__(self, maps):
        super().__init__()
        self.maps = nn.Parameter(maps)

    def forward(self, rgb):
        return self.maps


def _batch(tags, background=0, size=(2, 2), valid=None):
    count = len(tags)
    valid = torch.ones(count, *size, dtype=torch.bool) if valid is None else valid
    labels = torch.full((count, *size), 255)
    return Batch(torch.zeros(count, 3, *size), labels, valid, {}, torch.tensor(tags), background)


def test_loss_by_hand():
    """Mean scores: class 1 has ln 3, class 2 has 0; only class 1 is there."""
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0], maps[0, 1, 0, 0] = 7.0, 4 * math.log(3)
    terms = Classifier().losses(Fixed(maps), _batch([[True, True, False]]), {"bce"})
    assert terms["bce"].item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    everything = Classifier().losses(Fixed(maps), _batch([[True, True, False]], background=None), {"bce"})
    assert everything["bce"].item() == pytest.approx(
        (math.log(4 / 3) + math.log(2) + math.log(1 + math.exp(-7))) / 3, rel=1e-5
    )


def test_padding_does_not_count():
    maps = torch.arange(8.0).view(1, 2, 2, 2)
    valid = torch.tensor([[[True, True], [False, False]]])
    assert pooled(maps, valid).tolist() == [[0.5, 4.5]]
    assert pooled(maps, valid & False).tolist() == [[0, 0]]


def test_the_background_gets_no_gradient():
    model = Fixed(torch.zeros(2, 3, 2, 2))
    Classifier().losses(model, _batch([[True, True, False], [True, False, False]]), {"bce"})["bce"].backward()
    assert (model.maps.grad[:, 0] == 0).all()
    assert (model.maps.grad[:, 1:] != 0).all()


def test_only_background_and_no_tags_are_refused():
    with pytest.raises(UsageError, match="at least one class"):
        Classifier().losses(Fixed(torch.zeros(1, 1, 2, 2)), _batch([[True]]), {"bce"})
    bare = _batch([[True, True]])
    bare = Batch(bare.rgb, bare.labels, bare.valid, {})
    with pytest.raises(UsageError, match="the batch has none"):
        Classifier().losses(Fixed(torch.zeros(1, 2, 2, 2)), bare, {"bce"})


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_any_network_gives_maps_whose_background_stays_zero(spec):
    torch.manual_seed(0)
    model = Classifier().build(spec, 4)
    assert isinstance(model, ClassMaps)
    rgb = torch.rand(2, 3, 33, 40) * 255
    assert model(rgb).shape == (2, 4, 33, 40)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    batch = Batch(
        rgb,
        torch.full((2, 33, 40), 255),
        torch.ones(2, 33, 40, dtype=torch.bool),
        {},
        torch.tensor([[True, True, False, False], [True, False, True, True]]),
        0,
    )
    losses = []
    for _ in range(4):
        loss = Classifier().losses(model, batch, {"bce"})["bce"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2))
    maps = model(rgb)
    assert (maps[:, 0] == 0).all()
    assert (maps[:, 1:] != 0).any()
    assert not any("bias" in name for name, _ in model.network.classifier.named_parameters())


def test_the_pyramid_of_a_deeplab_v2_is_gone():
    model = Classifier().build(SPECS[1], 4)
    head = [p.shape for group in parameter_groups(model) if group.head for p in group.parameters]
    assert head == [(4, 512, 1, 1)]
