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
from wss.params import validate
from wss.pipeline.changes import parse_overrides
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.stages.train_params import TrainParams

NETWORKS = {
    "unet": NetworkSpec(name="unet", dropout=0),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2 at 16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}
EMBEDDINGS = ["none", "cosine", "qkv"]
LOCATIONS = ["transition", "before", "after"]


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


def test_a_walk_with_512_channels_has_the_parameters_of_the_paper():
    network = NetworkSpec(name="deeplab-v2", backbone="resnet18")
    counts = {
        name: sum(p.numel() for p in RwSs(**settings).build(network, 3).parameters())
        for name, settings in {"no": {"walk": False}, "none": {}, "qkv": {"embed": "qkv"}}.items()
    }
    assert counts["none"] - counts["no"] == 1
    assert counts["qkv"] - counts["no"] == 328_321


@pytest.mark.parametrize("walk", [True, False])
def test_the_head_of_the_later_code_has_the_walk_between_two_convolutions(walk):
    network = NetworkSpec(name="deeplab-v2", backbone="resnet50", output_stride=16)
    with torch.device("meta"):
        model = RwSs(head="convolutions", walk=walk, embed="qkv").build(network, 21)
    first, second = model.reduction[0], model.network.classifier[0][0]
    assert (first.in_channels, first.out_channels, first.kernel_size, first.bias) == (2048, 512, (3, 3), None)
    assert (second.in_channels, second.out_channels, second.kernel_size, second.bias) == (512, 512, (3, 3), None)
    assert model.network.classifier[1].p == 0.1
    heads = [p.numel() for name, p in model.named_parameters() if "backbone" not in name and "random" not in name]
    assert sum(heads) == 9 * 2048 * 512 + 2 * 512 + 9 * 512 * 512 + 2 * 512 + 21 * 512 + 21
    assert (model.random_walk is not None) == walk


def test_the_head_of_the_later_code_walks_before_its_second_convolution():
    method = RwSs(head="convolutions", width=64)
    model, seen = _model(method, "v2", alpha=1.0).eval(), []
    model.network.classifier[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rgb = _batch().rgb
    model(rgb)
    features = model.features(rgb)
    assert features.shape[1] == 64
    assert torch.equal(seen[0], model.random_walk(features).features)
    assert not torch.equal(seen[0], features)
    found = method.losses(model.train(), _batch(), method.term_names)
    sum(found.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert RwSs().head == "network"


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
    published = {"direction": "target-found", "reduction": "mean", "gamma": 0.01}  # the defaults
    other_way = {"direction": "found-target", "reduction": "entries", "gamma": 0.5}
    settings = other_way if transform == "flip" else published
    method = RwSs(location=location, transform=transform, **(other_way if transform == "flip" else {}))
    batch = _batch()
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
        expected = transition_consistency_loss(mine, other.log_transition, log=True, valid=valid.flatten(1), **settings)
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


def _train(method, weight=1.0):
    phases = [{"epochs": 1, "terms": {"pce": 1}}, {"epochs": 1, "terms": {"pce": 1, "consistency": weight}}]
    return validate(TrainParams, {"method": {"name": "rw-ss", **method}, "phases": phases}, "pipeline: train")


def test_the_divergence_is_averaged_and_weighed_as_in_one_publication():
    for reduction, weight in (("mean", 1), ("entries", 30), ("mean", 0.1), ("entries", 10), ("batchmean", 1)):
        assert _train({"reduction": reduction}, weight).method.reduction == reduction
    for reduction, weight in (("entries", 1), ("mean", 30), ("batchmean", 30)):
        with pytest.raises(
            UsageError, match=r"^pipeline: train: .*'mean' with the weight 1 .*'entries' with the weight 30"
        ):
            _train({"reduction": reduction}, weight)
    assert _train({"location": "before", "reduction": "entries"}).method.location == "before"  # it is not averaged so
    assert _train({"location": "after"}, 30)


def test_what_contradicts_the_phases_is_refused_before_training():
    with pytest.raises(UsageError, match=r"train: without a walk .* set location to before"):
        _train({"walk": False})
    assert _train({"walk": False, "location": "before"})
    phases = [{"epochs": 1, "terms": {"pce": 1}}]
    assert validate(TrainParams, {"method": {"name": "rw-ss", "walk": False}, "phases": phases}, "train")


def test_alpha_is_learned():
    assert _train({"alpha": None}).method == RwSs()  # of stores of networks that learned it
    for embed in EMBEDDINGS:
        with pytest.raises(UsageError, match=r"alpha is learned: .*test_time\.walk"):
            _train({"embed": embed, "alpha": 0.5})


PIPELINE = """
title: rw-ss
stages:
  - stage: samples
  - {stage: prepare, inputs: {samples: samples}}
  - stage: train
    inputs: {samples: samples, labels: prepare}
    params: {method: {name: rw-ss}, phases: [{epochs: 1, terms: {pce: 1, consistency: 1}}]}
"""


def test_one_setting_gives_the_embedding_of_table_5(tmp_path):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    changed = parse_overrides(["train.method.embed=qkv"])
    method = load_pipeline(tmp_path / "p.yaml", changed, {"dataset": {"kind": "sample"}}).nodes["train"].params.method
    assert method == RwSs(embed="qkv")
    assert method.build(NETWORKS["unet"], 3).random_walk.embed == "qkv"


def test_wrong_arguments_are_named():
    method = RwSs(walk=False)
    with pytest.raises(UsageError, match="location to before"):
        method.losses(_model(method), _batch(), {"consistency"})
    assert "consistency" in RwSs(walk=False, location="before").losses(_model(method), _batch(), {"consistency"})
    with pytest.raises(UsageError, match="multiple of the network's stride, 4"):
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
    assert train.method == RwSs(embed="qkv", reduction="mean")
    assert train.method.gamma == 0.01
    assert train.split == "trainaug"
    assert isinstance(train.phases[0], Phase)
    study = load_pipeline(find_pipeline("study-rw-ss"), preset=preset).nodes
    assert study["train-first-walk-0"].params.phases[0].lr == 1e-3
    assert study["train-flip-after-0"].params.phases[0].lr == 1e-4


def test_the_study_compares_networks_from_the_same_first_phases_with_and_without_crf():
    nodes = load_pipeline(find_pipeline("study-rw-ss")).nodes
    parts = [i.removeprefix("train-").removesuffix("-0") for i in nodes if i.startswith("train-") and "first" not in i]
    transforms = [
        f"{t}-{place}" for t in ("flip", "translation", "random") for place in ("before", "after", "transition")
    ]
    assert parts == ["baseline", "walk", *transforms, "random-transition-entropy"]
    for part in parts:
        first = "train-first-plain-0" if part == "baseline" else "train-first-walk-0"
        assert nodes[f"train-{part}-0"].inputs["initial"] == (first,)
        assert nodes[f"evaluate-crf-{part}-0"].inputs["predictions"] == (f"crf-{part}-0",)
        assert nodes[f"train-{part}-0"].params.method.walk == nodes[first].params.method.walk == (part != "baseline")
    for transform in transforms:
        method = nodes[f"train-{transform}-0"].params.method
        assert f"{method.transform}-{method.location}" == transform


def test_the_study_measures_variation_before_self_supervision():
    nodes = load_pipeline(find_pipeline("study-rw-ss")).nodes
    (before,) = nodes["eigenspace-before-0"].inputs["model"]
    assert before == "train-first-walk-0"
    assert nodes[before].params.method.walk
    assert [phase.terms for phase in nodes[before].params.phases] == [{"pce": 1}]
    assert nodes["report"].inputs["pictures"] == ("eigenspace-before-0",)


@pytest.mark.parametrize("study", ["study-drop", "study-shrink"])
def test_the_studies_of_thin_scribbles_have_the_networks_of_table_1_without_crf(study):
    nodes = load_pipeline(find_pipeline(study)).nodes
    assert not any(node.stage.name == "crf" for node in nodes.values())
    table_1 = load_pipeline(find_pipeline("study-rw-ss")).nodes
    same = {"baseline": "baseline", "random-walk": "walk", "self-supervision": "random-transition"}
    for part, other in same.items():
        node = nodes[f"train-{part}-0-0"]
        assert node.params == table_1[f"train-{other}-0"].params
        first = "plain" if part == "baseline" else "walk"
        assert node.inputs["initial"] == (f"train-first-{first}-0-0",)
        assert node.inputs["labels"] == ("prepare-0",)


def test_the_preset_of_the_later_code_has_its_weights_and_is_refused_by_studies():
    preset = load_preset("voc2012-rwss-urss")
    train = load_pipeline(find_pipeline("rw-ss"), preset=preset).nodes["train"].params
    assert train.method == RwSs(embed="qkv", head="convolutions", reduction="entries", max_shift=0.172)
    assert [p.terms for p in train.phases] == [{"pce": 1, "entropy": 1}, {"pce": 1, "entropy": 1, "consistency": 30}]
    assert int(train.method.max_shift * 59) * 8 == 80  # pixels, of 59 rows of stride 8
    for study in ("study-rw-ss", "study-drop", "study-shrink"):
        with pytest.raises(UsageError, match="reduction 'entries' with the weight 30"):
            load_pipeline(find_pipeline(study), preset=preset)
