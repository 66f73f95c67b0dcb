import pytest
import torch
from torch import nn
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import (
    feature_consistency_loss,
    maximum_entropy_loss,
    partial_cross_entropy,
    transition_consistency_loss,
)
from wss.methods import Batch, PartialCrossEntropy, Phase, RwSs
from wss.networks import NetworkSpec, parameter_groups
from wss.ops import Transform, draw_transform, transform_transition
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline

NETWORKS = {
    "unet": NetworkSpec(name="unet", dropout=0),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2 at 16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}
EMBEDDINGS = ["none", "cosine", "qkv"]
LOCATIONS = ["transition", "before", "after"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _batch(size=(32, 48), seed=0):
    generator = torch.Generator().manual_seed(seed)
    rgb = (torch.rand(2, 3, *size, generator=generator) * 255).round()
    labels = torch.full((2, *size), 255)
    labels[:, 10:13, 2:10], labels[:, 10:13, -10:-2] = 0, 1
    valid = torch.ones(2, *size, dtype=torch.bool)
    valid[1, -9:] = False
    labels[1, -9:] = 255
    return Batch(rgb, labels, valid, {})


def _model(method, network="unet", classes=3, alpha=None):
    torch.manual_seed(1)
    model = method.build(NETWORKS[network] if isinstance(network, str) else network, classes)
    if alpha is not None:
        nn.init.constant_(model.random_walk.alpha, alpha)
    return model


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("embed", EMBEDDINGS)
def test_a_new_network_is_that_of_pce(network, embed):
    rgb = _batch((37, 45)).rgb
    model, plain = _model(RwSs(embed=embed), network).eval(), _model(PartialCrossEntropy(), network).eval()
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert torch.equal(model(rgb), plain(rgb))
    nn.init.constant_(model.random_walk.alpha, 1.0)
    assert not torch.equal(model(rgb), plain(rgb))


@pytest.mark.parametrize("network", NETWORKS)
def test_with_a_given_alpha_training_is_that_of_pce_and_prediction_is_not(network):
    model, plain = _model(RwSs(embed="cosine", scale=5, alpha=0.5), network), _model(PartialCrossEntropy(), network)
    assert model.state_dict().keys() == plain.state_dict().keys()
    batch = _batch()
    values = []
    for method, trained in ((RwSs(embed="cosine", scale=5, alpha=0.5), model), (PartialCrossEntropy(), plain)):
        torch.manual_seed(2)  # dropout
        values.append(method.losses(trained.train(), batch, {"pce"})["pce"])
    assert torch.equal(*values)
    model.eval()
    walked = model(batch.rgb)
    model.random_walk.alpha.fill_(0)
    assert torch.equal(model(batch.rgb), plain.eval()(batch.rgb))
    assert not torch.equal(walked, model(batch.rgb))


@pytest.mark.parametrize("location", LOCATIONS)
def test_with_a_given_alpha_self_supervision_trains_the_features(location):
    method = RwSs(embed="cosine", scale=5, alpha=0.5, location=location)
    model = _model(method).train()
    method.losses(model, _batch(), {"consistency"})["consistency"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.network.classifier.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.network.parameters())


def test_a_walk_with_512_channels_has_the_parameters_of_the_paper():
    network = NetworkSpec(name="deeplab-v2", backbone="resnet18")
    counts = {
        name: sum(p.numel() for p in RwSs(**settings).build(network, 3).parameters())
        for name, settings in {"no": {"walk": False}, "none": {}, "qkv": {"embed": "qkv"}}.items()
    }
    assert counts["none"] - counts["no"] == 1
    assert counts["qkv"] - counts["no"] == 328_321


@pytest.mark.parametrize("walk", [True, False])
def test_wide_features_are_reduced(walk):
    model = _model(RwSs(walk=walk, width=64), "v2")
    features = model.features(_batch().rgb)
    assert features.shape == (2, 64, 4, 6)
    assert {conv.in_channels for conv in model.network.classifier.branches} == {64}
    assert model(_batch().rgb).shape == (2, 3, 32, 48)
    model(_batch().rgb).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert _model(RwSs(width=320), "v2").reduction is None


@pytest.mark.parametrize(
    ("network", "stride", "grid"), [("unet", 8, (4, 6)), ("v2 at 16", 16, (2, 3)), ("v3plus", 8, (4, 6))]
)
def test_cells_of_the_walk(network, stride, grid):
    model = _model(RwSs(), network)
    walk = model.walk(model.features(_batch().rgb), transition=True)
    assert model.stride == stride
    assert walk.before.shape[2:] == grid
    assert walk.log_transition.shape[1:] == (grid[0] * grid[1],) * 2


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("transform", ["flip", "translation"])
@pytest.mark.parametrize("network", ["unet", "v2"])
def test_terms_are_those_of_the_paper(network, location, transform):
    method, batch = RwSs(location=location, transform=transform, direction="found-target"), _batch()
    model = _model(method, network, alpha=0.7)
    torch.manual_seed(5)
    found = method.losses(model, batch, method.term_names)
    torch.manual_seed(5)
    drawn = draw_transform(transform, 4, max_shift=0.25)
    walk = model.walk(model.features(batch.rgb), True)
    pixels = batch.rgb.flip(3) if drawn.flip else batch.rgb[:, :, 8:] if drawn.rows > 0 else batch.rgb[:, :, :-8]
    other = model.walk(model.features(pixels), True)
    valid = drawn.features(functional.max_pool2d(batch.valid.float(), 8) > 0)
    assert valid.sum() < valid.numel() or drawn.rows < 0
    if location == "transition":
        mine = transform_transition(walk.log_transition, drawn, (4, 6), log=True)
        expected = transition_consistency_loss(
            mine, other.log_transition, log=True, direction="found-target", valid=valid.flatten(1)
        )
    else:
        mine, target = getattr(walk, location), getattr(other, location)
        expected = feature_consistency_loss(drawn.features(mine), target, valid=valid)
    assert expected > 0
    torch.testing.assert_close(found["consistency"], expected)
    logits = model(batch.rgb)
    torch.testing.assert_close(found["pce"], partial_cross_entropy(logits, batch.labels))
    torch.testing.assert_close(found["entropy"], maximum_entropy_loss(logits, valid=batch.valid))


def test_only_the_terms_of_a_phase_cost_anything():
    method, batch = RwSs(), _batch()
    model, passes = _model(method), []
    model.network.encoder[0].register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    assert set(method.losses(model, batch, {"pce"})) == {"pce"}
    assert passes == [True]
    method.losses(model, batch, {"pce", "consistency"})
    assert passes == [True, True, False]  # the target keeps nothing for a gradient


@pytest.mark.parametrize("transform", ["flip", "translation", "random"])
@pytest.mark.parametrize("location", LOCATIONS[:2])
def test_a_network_that_commutes_with_the_transform_has_nothing_to_learn(transform, location):
    method, batch = RwSs(transform=transform, location=location), _batch((40, 48))
    model = _model(method, alpha=0.5).eval()
    vars(model.network)["forward_features"] = nn.Conv2d(3, 16, 1)  # pixels by themselves
    for _ in range(3):
        value = method.losses(model, batch, {"pce", "consistency"})["consistency"]
        assert abs(value.item()) < 1e-4


@pytest.mark.parametrize("settings", [{}, {"embed": "qkv"}, {"location": "after"}], ids=str)
def test_learning_makes_the_transform_matter_less(settings):
    method, batch = RwSs(transform="flip", **settings), _batch()
    model = _model(method, NetworkSpec(name="unet", dropout=0), alpha=0.5)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    values = []
    for _ in range(10):
        found = method.losses(model, batch, method.term_names)
        optimiser.zero_grad()
        (found["consistency"] + found["pce"]).backward()
        optimiser.step()
        values.append(found["consistency"].item())
    assert values[-1] < 0.7 * values[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_runs_under_autocast_and_trains_alpha_without_decay():
    method, batch = RwSs(), _batch()
    model = _model(method, alpha=0.3)
    plain = method.losses(model.eval(), batch, {"pce", "entropy"})
    with torch.autocast("cpu", torch.bfloat16):
        found = method.losses(model, batch, method.term_names)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in found.values())
    assert abs(found["entropy"].item() - plain["entropy"].item()) < 0.05
    groups = [g for g in parameter_groups(model) if any(p is model.random_walk.alpha for p in g.parameters)]
    assert len(groups) == 1
    assert not groups[0].decay


def test_nothing_labelled_still_learns_from_its_transform():
    method, batch = RwSs(), _batch()
    empty = Batch(batch.rgb, torch.full_like(batch.labels, 255), batch.valid, {})
    found = method.losses(_model(method), empty, method.term_names)
    assert found["pce"].item() == 0
    assert found["consistency"].item() > 0


def test_wrong_arguments_are_named():
    method = RwSs(walk=False)
    with pytest.raises(UsageError, match="location to before"):
        method.losses(_model(method), _batch(), {"consistency"})
    assert "consistency" in RwSs(walk=False, location="before").losses(_model(method), _batch(), {"consistency"})
    with pytest.raises(UsageError, match="multiple of the network's, 4"):
        _model(RwSs(stride=6), "v3plus")
    with pytest.raises(UsageError, match="leaves nothing"):
        Transform(rows=9).image(_batch().rgb, 8)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_presets_are_the_settings_of_the_paper(backbone):
    preset = load_preset(f"voc2012-rwss-{backbone}")
    train = load_pipeline(find_pipeline("rw-ss"), preset=preset).nodes["train"].params
    assert train.network == NetworkSpec(name="deeplab-v2", backbone=backbone, output_stride=16)
    assert [(p.epochs, p.optimiser, p.lr, p.schedule) for p in train.phases] == [
        (100, "adam", 1e-3, "constant"),
        (100, "adam", 1e-4, "constant"),
    ]
    assert [p.terms for p in train.phases] == [{"pce": 1}, {"pce": 1, "entropy": 0.2, "consistency": 1}]
    assert (train.batch_size, train.augment.crop, train.augment.scale, train.augment.rotate_deg) == (
        8,
        465,
        (0.5, 2),
        10,
    )
    assert train.method == RwSs(reduction="entries")
    assert train.method.gamma == 0.01
    assert isinstance(train.phases[0], Phase)
    study = load_pipeline(find_pipeline("study-rw-ss"), preset=preset).nodes
    assert study["train-first-walk-0"].params.phases[0].lr == 1e-3
    assert study["train-flip-after-0"].params.phases[0].lr == 1e-4
