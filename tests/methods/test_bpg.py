import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import boundary_regression_loss, partial_cross_entropy
from wss.methods import Batch, Bpg, PartialCrossEntropy, Phase
from wss.networks import NetworkSpec, parameter_groups
from wss.networks.layers.boundary import foreground_background
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.predictor import InferenceParams, Predictor
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.loop import Hooks, LoopSettings, fit
from wss.training.optimiser import freeze

NETWORKS = {
    "unet": NetworkSpec(name="unet", dropout=0),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2 at 16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}
SETTINGS = [{"refine": r, "boundary": b} for r in (False, True) for b in ("none", "fg-bg", "all", "level")]


def _batch(size=(32, 32), background=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = size[1]
    rgb = (torch.rand(2, 3, *size, generator=generator) * 40).round()
    rgb[:, :, :, width // 2 :] += 150
    labels = torch.full((2, *size), 255)
    labels[:, 10:13, 2:10], labels[:, 10:13, -10:-2] = 0, 1
    edges = torch.rand(2, *size, generator=generator) * 0.1
    edges[:, :, width // 2 - 1 : width // 2 + 1] = 0.9
    valid = torch.ones(2, *size, dtype=torch.bool)
    valid[1, -4:] = False
    labels[1, -4:], edges[1, -4:] = 255, 0
    return Batch(rgb, labels, valid, {"edges": edges}, None, background)


def _model(method, network="unet", classes=3):
    torch.manual_seed(1)
    return method.build(NETWORKS[network], classes)


def _stir(model):
    """Let a new refinement branch refine something."""
    for step in model.refinement.steps:
        torch.nn.init.normal_(step.last.weight, std=0.2)
    return model


@pytest.mark.parametrize(
    ("network", "settings"), [("unet", s) for s in SETTINGS] + [(name, SETTINGS[4]) for name in NETWORKS], ids=str
)
def test_a_new_network_is_that_of_pce(network, settings):
    rgb = _batch((37, 45)).rgb
    model, plain = _model(Bpg(**settings), network).eval(), _model(PartialCrossEntropy(), network).eval()
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert torch.equal(model(rgb), plain(rgb))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_switch_the_branches(settings):
    method = Bpg(**settings)
    model = _model(method, "v2")
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert ("refinement" in names) == settings["refine"]
    assert ("boundary" in names) == (settings["boundary"] in ("fg-bg", "all"))
    if "boundary" in names:
        assert model.boundary.convolutions[0][0].in_channels == {"fg-bg": 2, "all": 3}[settings["boundary"]]
    found = method.losses(model, _batch(), method.term_names)
    assert set(found) == {"pce", "boundary"}
    assert (found["boundary"].item() > 0) == (settings["boundary"] != "none")
    sum(found.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("boundary", ["fg-bg", "all", "level"])
def test_terms_are_those_of_the_paper(network, boundary):
    method, batch = Bpg(boundary=boundary), _batch((35, 50), background=2)
    model = _stir(_model(method, network)).eval()
    found = method.losses(model, batch, method.term_names)
    coarse = model.network(model.normalise(batch.rgb))
    refined = model.refinement(coarse, model.normalise(batch.rgb))
    torch.testing.assert_close(model(batch.rgb), refined)
    torch.testing.assert_close(found["pce"], partial_cross_entropy(refined, batch.labels))
    if boundary == "level":
        larger = functional.interpolate(coarse, (35, 50), mode="bilinear", align_corners=False)
        sure = larger.softmax(1)[:, 2]
        edges = 4 * sure * (1 - sure)
    else:
        edges = model.boundary(coarse if boundary == "all" else foreground_background(coarse, 2), (35, 50))
    error = boundary_regression_loss(edges, batch.maps["edges"], valid=batch.valid)
    torch.testing.assert_close(found["boundary"], error)
    plain = functional.interpolate(coarse, (35, 50), mode="bilinear", align_corners=False)
    assert not torch.allclose(refined, plain)


def test_edges_teach_the_network_and_not_the_refinement():
    method, batch = Bpg(), _batch()
    model = _stir(_model(method, "v2"))
    found = method.losses(model, batch, method.term_names)
    found["boundary"].backward(retain_graph=True)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.network.parameters())
    assert all(p.grad is None or not p.grad.any() for p in model.refinement.parameters())
    boundary = [p.grad.clone() for p in model.boundary.parameters()]
    found["pce"].backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.boundary.parameters(), boundary, strict=True))
    assert any(p.grad is not None and p.grad.any() for p in model.refinement.parameters())


@pytest.mark.slow
def test_a_compiled_network_trains_the_same():
    method, batch = Bpg(), _batch()
    model = _stir(_model(method)).eval()
    compiled = torch.compile(model, backend="eager")
    expected = method.losses(model, batch, method.term_names)
    for name, value in method.losses(compiled, batch, method.term_names).items():
        torch.testing.assert_close(value, expected[name])


def test_without_its_weight_the_boundary_branch_does_not_run(monkeypatch):
    method, batch = Bpg(), _batch()
    model = _model(method)

    def refuse(*args):
        raise RuntimeError("regressed")

    monkeypatch.setattr(model.boundary, "forward", refuse)
    assert set(method.losses(model, batch, {"pce": 1.0})) == {"pce"}
    model.eval()(batch.rgb)  # nor does it at test time
    with pytest.raises(RuntimeError, match="regressed"):
        method.losses(model, batch, {"boundary": 1.0})


def test_edges_beyond_the_image_do_not_count():
    method, batch = Bpg(), _batch()
    model = _model(method).eval()
    other = dataclasses.replace(batch, maps={"edges": batch.maps["edges"].masked_fill(~batch.valid, 1.0)})
    assert torch.equal(
        method.losses(model, batch, {"boundary"})["boundary"], method.losses(model, other, {"boundary"})["boundary"]
    )


def test_without_a_background_class_edges_come_from_all_classes_or_none():
    batch = _batch(background=None)
    for boundary in ("fg-bg", "level"):
        method = Bpg(boundary=boundary)
        with pytest.raises(UsageError, match=r"the data set has none.*boundary: all"):
            method.losses(_model(method), batch, method.term_names)
        with pytest.raises(UsageError, match=r"the data set has none"):
            method.check(method.term_names, 3, None)
    for boundary in ("all", "none"):
        method = Bpg(boundary=boundary)
        assert set(method.losses(_model(method), batch, method.term_names)) == method.term_names


def _phase(epochs, **terms):
    return Phase(epochs=epochs, terms=terms, optimiser="adamw", lr=0.003, head_multiplier=1.0)


@pytest.mark.parametrize("network", ["unet", "v2"])
def test_training_lowers_both_terms(network):
    method, batch = Bpg(), _batch()
    model = _model(method, network)
    images = batch.rgb.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    labels, edges = batch.labels.to(torch.uint8).numpy(), batch.maps["edges"].numpy()
    data = TrainingSet(
        ["0", "1"],
        lambda i: (images[int(i)], {"labels": labels[int(i)], "edges": edges[int(i)]}),
        AugmentParams(crop=None, flip=0),
        seed=0,
        background=0,
    )
    hooks = Hooks(lambda: {}, lambda state: None, lambda rows: None, lambda n, note: None)
    settings = LoopSettings(batch_size=2, seed=0, device=torch.device("cpu"), validate_every=0)
    rows = fit(model, method, (_phase(12, pce=1.0, boundary=0.5),), data, settings, hooks)
    assert rows[-1]["pce"] < 0.5 * rows[0]["pce"]
    assert rows[-1]["boundary"] < rows[0]["boundary"]
    assert rows[0]["loss"] == pytest.approx(rows[0]["pce"] + 0.5 * rows[0]["boundary"], rel=1e-5)
    assert all(step.last.weight.abs().max() > 0 for step in model.refinement.steps)


def test_branches_are_heads_and_can_be_frozen():
    model = _model(Bpg(), "v2")
    heads = {id(p) for group in parameter_groups(model) if group.head for p in group.parameters}
    assert all(id(p) in heads for part in (model.refinement, model.boundary) for p in part.parameters())
    freeze(model, _phase(1, pce=1.0).model_copy(update={"freeze": ("refinement", "boundary")}))
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"network"}


@pytest.mark.parametrize("network", NETWORKS)
def test_predicts_at_several_scales_and_in_windows(network):
    model = _stir(_model(Bpg(), network))
    image = np.random.default_rng(0).integers(0, 256, (41, 57, 3), np.uint8)
    palette = np.zeros((3, 3), np.uint8)
    for test_time in (InferenceParams(scales=(0.5, 0.75, 1, 1.25), flip=True), InferenceParams(window=32)):
        probs = Predictor(model, "abc", palette, torch.device("cpu"), test_time).probabilities(image)
        assert probs.shape == (3, 41, 57)
        np.testing.assert_allclose(probs.sum(0), 1, rtol=1e-4)
    amp = Predictor(model, "abc", palette, torch.device("cpu"), amp=True).probabilities(image)
    assert np.isfinite(amp).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_labelled_or_nothing_valid_is_a_differentiable_zero(classes):
    method, batch = Bpg(), _batch()
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, 255), valid=torch.zeros_like(batch.valid))
    model = _model(method, classes=classes)
    found = method.losses(model, batch, method.term_names)
    sum(found.values()).backward()
    assert all(value.item() == 0 for value in found.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_autocast_keeps_losses_in_float32():
    method, batch = Bpg(), _batch()
    model = _stir(_model(method, "v2")).eval()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(model, batch, method.term_names)
    exact = method.losses(model, batch, method.term_names)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=0.05)


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="fg-bg"):
        Bpg(boundary="foreground")


def test_pipeline_is_that_of_pce_with_edges():
    baseline, pipeline = load_pipeline(find_pipeline("pce")).nodes, load_pipeline(find_pipeline("bpg")).nodes
    assert [name for name in pipeline if name not in ("edges", "boundary-pictures")] == list(baseline)
    ours, theirs = pipeline["train"].params, baseline["train"].params
    assert ours.method == Bpg(dice=theirs.method.dice)
    assert ours.phases[0].terms == {"pce": 1, "boundary": 1}
    assert [p.model_copy(update={"terms": {"pce": 1}}) for p in ours.phases] == list(theirs.phases)
    assert ours.model_dump(exclude={"method", "phases"}) == theirs.model_dump(exclude={"method", "phases"})


@pytest.mark.parametrize("name", ["bpg", "study-bpg"])
def test_preset_holds_the_settings_of_the_paper(name):
    nodes = load_pipeline(find_pipeline(name), preset=load_preset("voc2012-bpg")).nodes.values()
    trained = [node.params for node in nodes if node.stage.name == "train"]
    tested = [node.params.test_time for node in nodes if node.stage.name == "predict"]
    for params in trained:
        assert getattr(params.method, "boundary", "all") in ("none", "fg-bg", "all")
        assert params.phases[0].terms.get("boundary", 1) == 1
        (phase,) = params.phases
        assert (phase.epochs, phase.lr, phase.momentum, phase.weight_decay) == (25, 0.00025, 0.9, 0.0005)
        assert (params.batch_size, phase.schedule, params.network.name) == (10, "poly", "deeplab-v2")
    assert {(test.scales, test.flip) for test in tested} == {((0.5, 0.75, 1, 1.25), True)}


def test_study_varies_the_parts_alone():
    nodes = load_pipeline(find_pipeline("study-bpg")).nodes.values()
    trained = {node.id: node.params for node in nodes if node.stage.name == "train"}
    methods = {name: params.method for name, params in trained.items()}
    assert methods["train-PRN-0"] == Bpg(boundary="none")
    assert methods["train-BRN-0"] == Bpg(refine=False)
    assert methods["train-BPG-0"] == Bpg()
    assert methods["train-BPG-all-channels-0"] == Bpg(boundary="all")
    rest = [
        params.model_dump(exclude={"method": True, "phases": {"__all__": {"terms"}}}) for params in trained.values()
    ]
    assert all(other == rest[0] for other in rest)
