import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.methods.two_halves import train_on, two_halves
from wss.checkpoints import load_checkpoint
from wss.losses import dense_crf_loss, partial_cross_entropy, proposal_loss
from wss.methods import Batch, CrfAdm, CrfRnn, PartialCrossEntropy, Phase
from wss.networks import NetworkSpec
from wss.ops import differentiable_mean_field, mean_field
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.predictor import InferenceParams, Predictor
from wss.stages.stage import Context
from wss.training.optimiser import freeze, make_optimiser

SIGMAS = {"pos_xy_std": 1.0, "bi_xy_std": 8.0, "bi_rgb_std": 13.0}


def _model(method, classes=3):
    torch.manual_seed(1)
    return method.build(NetworkSpec(name="unet"), classes)


def _phases(first, second):
    common = {"optimiser": "adamw", "lr": 0.003, "head_multiplier": 1.0}
    return (Phase(epochs=3, terms=first, **common), Phase(epochs=10, terms=second, **common))


def test_rnn_trains_through_the_crf():
    method, batch = CrfRnn(**SIGMAS), two_halves()
    model = _model(method)
    terms = method.losses(model.eval(), batch, {"pce": 1.0, "crf": 1.0})
    (logits,) = model(batch.rgb, every=True)
    refined = differentiable_mean_field(
        logits, batch.rgb, iterations=10, roi=batch.valid, normalisation="rows", pos_weight=3, bi_weight=5, **SIGMAS
    )
    torch.testing.assert_close(terms["pce"], partial_cross_entropy(logits, batch.labels))
    torch.testing.assert_close(terms["crf"], partial_cross_entropy(refined, batch.labels))
    torch.testing.assert_close(model(batch.rgb, valid=batch.valid), refined)
    terms["crf"].backward()
    assert all(p.grad.abs().sum() > 0 for p in model.crf.parameters())
    assert sum(float(p.grad.abs().sum()) for p in model.network.parameters()) > 0


def test_rnn_starts_from_the_network_of_pce_and_ends_elsewhere():
    method = CrfRnn(**SIGMAS)
    model, plain = _model(method), _model(PartialCrossEntropy())
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    before = {name: p.detach().clone() for name, p in model.crf.named_parameters()}
    rows = train_on(two_halves(padding=0), model, method, _phases({"pce": 1.0}, {"crf": 1.0})[:1])
    assert "crf" not in rows[0]
    assert all(torch.equal(p, before[name]) for name, p in model.crf.named_parameters())  # nor did they decay
    rows = train_on(two_halves(padding=0), model, method, _phases({"pce": 1.0}, {"crf": 1.0})[1:])
    assert rows[-1]["crf"] < rows[0]["crf"]
    assert not any(torch.equal(p, before[name]) for name, p in model.crf.named_parameters())


def test_rnn_first_phase_runs_no_crf(monkeypatch):
    method = CrfRnn()
    model = _model(method)

    def refuse(*args):
        raise RuntimeError("refined")

    monkeypatch.setattr(model.crf, "forward", refuse)
    assert set(method.losses(model, two_halves(), {"pce": 1.0})) == {"pce"}
    with pytest.raises(RuntimeError, match="refined"):
        model.eval()(two_halves().rgb)


def test_rnn_parameters_follow_their_own_rate_and_can_be_frozen():
    phase = Phase(epochs=1, terms={"crf": 1.0}, lr=0.1, weight_decay=0.5)
    model = _model(CrfRnn(rate=0.25))
    found = {
        id(p): (g["lr"], g["weight_decay"]) for g in make_optimiser(model, phase).param_groups for p in g["params"]
    }
    assert all(found[id(p)] == (0.025, 0.0) for p in model.crf.parameters())
    assert (0.1, 0.5) in found.values()
    freeze(model, phase.model_copy(update={"freeze": ("crf",)}))
    assert not any(p.requires_grad for p in model.crf.parameters())
    assert all(p.requires_grad for p in model.network.parameters())


def test_rnn_predicts_at_several_scales_and_in_windows():
    model = _model(CrfRnn(**SIGMAS))
    image = np.full((40, 56, 3), 255, np.uint8)
    image[:, :20] = np.arange(20)[None, :, None] % 2  # a black part with whole values below 2
    palette = np.zeros((3, 3), np.uint8)
    for test_time in (InferenceParams(scales=(0.5, 1.25), flip=True), InferenceParams(scales=(0.77,), window=16)):
        probs = Predictor(model, "abc", palette, torch.device("cpu"), test_time).probabilities(image)
        np.testing.assert_allclose(probs.sum(0), 1, rtol=1e-4)
    amp = Predictor(model, "abc", palette, torch.device("cpu"), amp=True).probabilities(image)
    assert np.isfinite(amp).all()


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("divergence", ["ce", "kl"])
def test_adm_terms(clamp, divergence):
    method = CrfAdm(**SIGMAS, clamp=clamp, divergence=divergence, iterations=4, sigma_rgb=20, sigma_xy=8)
    batch = two_halves()
    model = _model(method).eval()
    terms = method.losses(model, batch, method.term_names)
    logits = model(batch.rgb)
    proposals = method.proposals(logits, batch)
    mask = batch.valid & (batch.labels == 255)
    assert set(terms) == method.term_names
    torch.testing.assert_close(terms["adm"], proposal_loss(logits, proposals, mask=mask, divergence=divergence))
    torch.testing.assert_close(
        terms["densecrf"],
        dense_crf_loss(logits.softmax(1), batch.rgb, sigma_rgb=20, sigma_xy=8, roi=batch.valid),
    )
    terms["adm"].backward()
    assert sum(float(p.grad.abs().sum()) for p in model.parameters()) > 0


def test_proposals_are_labels_where_labelled_and_spread_from_them():
    method, batch = CrfAdm(**SIGMAS), two_halves(padding=0)
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3), requires_grad=True)
    proposals = method.proposals(logits, batch)
    free = CrfAdm(**SIGMAS, clamp=False).proposals(logits, batch)
    labelled = batch.labels != 255
    assert not proposals.requires_grad
    for k in range(3):
        torch.testing.assert_close(proposals[:, k][labelled], (batch.labels[labelled] == k).float())
    expected = mean_field(logits.detach(), batch.rgb, pos_weight=3, bi_weight=10, **SIGMAS)
    torch.testing.assert_close(free, expected)
    beside = torch.zeros_like(labelled)
    beside[:, 13, 3:9] = True
    assert proposals[:, 0][beside].mean() > free[:, 0][beside].mean()


@pytest.mark.parametrize("clamp", [True, False])
def test_proposals_of_padded_and_whole_batches_agree(clamp):
    method, whole = CrfAdm(**SIGMAS, clamp=clamp), two_halves(padding=0)
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    expected = method.proposals(logits, whole)
    valid = torch.ones(2, 32, 40, dtype=torch.bool)
    valid[..., 32:] = False
    pad = torch.nn.functional.pad
    padded = Batch(pad(whole.rgb, (0, 8), value=100.0), pad(whole.labels, (0, 8), value=255), valid, {})
    found = method.proposals(pad(logits, (0, 8)), padded)
    torch.testing.assert_close(found[..., :32], expected, rtol=1e-3, atol=1e-4)


def test_adm_second_phase_lowers_its_loss_and_records_the_crf_loss():
    method = CrfAdm(**SIGMAS, divergence="kl", sigma_xy=8)
    model = _model(method)
    rows = train_on(
        two_halves(padding=0), model, method, _phases({"pce": 1.0}, {"pce": 1.0, "adm": 1.0, "densecrf": 0.0})
    )
    assert ["adm" in row for row in rows] == [False] * 3 + [True] * 10
    assert rows[-1]["adm"] < rows[3]["adm"]
    assert rows[-1]["densecrf"] < rows[3]["densecrf"]
    assert rows[3]["loss"] == pytest.approx(rows[3]["pce"] + rows[3]["adm"], rel=1e-5)


def test_adm_phase_without_proposals_infers_none(monkeypatch):
    def refuse(*args, **settings):
        raise RuntimeError("inferred")

    monkeypatch.setattr("wss.methods.crf_adm.mean_field", refuse)
    monkeypatch.setattr("wss.methods.crf_adm.differentiable_mean_field", refuse)
    method = CrfAdm(**SIGMAS)
    assert set(method.losses(_model(method), two_halves(), {"pce": 1.0})) == {"pce"}
    with pytest.raises(RuntimeError, match="inferred"):
        method.losses(_model(method), two_halves(), {"adm": 1.0})


@pytest.mark.parametrize("method", [CrfAdm(**SIGMAS), CrfRnn(**SIGMAS)], ids=lambda m: m.name)
@pytest.mark.parametrize("classes", [1, 3])
def test_nothing_labelled_is_a_differentiable_zero(method, classes):
    batch = two_halves()
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, 255))
    model = _model(method, classes)
    terms = method.losses(model, batch, method.term_names)
    sum(terms.values()).backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert terms["pce"].item() == 0
    assert terms.get("crf", terms["pce"]).item() == 0
    nowhere = dataclasses.replace(batch, valid=torch.zeros_like(batch.valid))
    assert all(value.item() == 0 for value in method.losses(model, nowhere, method.term_names).values())


@pytest.mark.parametrize("method", [CrfAdm(**SIGMAS), CrfRnn(**SIGMAS)], ids=lambda m: m.name)
def test_autocast_reaches_the_network_only(method):
    batch = two_halves()
    model = _model(method).eval()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(model, batch, method.term_names)
    exact = method.losses(model, batch, method.term_names)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["crf-adm", "crf-rnn"])
def test_stored_network_gives_the_same_labels(name, tmp_path):
    dataset = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}
    path = find_pipeline(name)
    short = {"epochs": 1, "steps": None}
    phases = [p.model_dump(mode="json") | short for p in load_pipeline(path).nodes["train"].params.phases]
    method = {"name": name, "bi_xy_std": 9}
    pipeline = load_pipeline(path, {"train": {"phases": phases, "method": method}}, {"dataset": dataset})
    outcomes = run_pipeline(pipeline, Workspace(tmp_path), Context())
    predictor = load_checkpoint(outcomes["train"].store.path)
    samples, predictions = outcomes["samples"].store, outcomes["predict"].store
    for image_id in predictions.ids:
        assert (predictor(samples.get("image", image_id)) == predictions.get("labels", image_id)).all()
    if name == "crf-rnn":
        assert predictor.model.crf.bi_xy_std == 9
        assert not torch.equal(predictor.model.crf.bi_weight, torch.full((7,), 4.0))


def test_settings_are_checked():
    for kind in (CrfAdm, CrfRnn):
        for changes in ({"bi_xy_std": 0}, {"pos_weight": -1}, {"iterations": 0}):
            with pytest.raises(ValidationError):
                kind(**changes)
