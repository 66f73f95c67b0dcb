import pytest
import torch
from pydantic import ValidationError

import wss.methods.sec
from wss.errors import UsageError
from wss.losses import constrain_to_boundary_loss, dense_crf_loss, expansion_loss, partial_cross_entropy
from wss.methods import Batch, Phase, Sec
from wss.networks import NetworkSpec
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context
from wss.training.loop import _weighted

DATASET = {"kind": "sample", "options": {"train": 4, "val": 2, "height": 32, "width": 32}}
CRF = {"iterations": 2, "pos_xy_std": 2.0, "bi_xy_std": 6.0, "bi_rgb_std": 20.0, "pos_weight": 1.0, "bi_weight": 2.0}


def _batch(size=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rgb = (torch.rand(2, 3, size, size, generator=generator) * 40).round()
    rgb[:, :, :, size // 2 :] += 150
    labels = torch.full((2, size, size), 255)
    labels[:, 10:13, 2:8], labels[:, 10:13, -8:-2] = 0, 1
    valid = torch.ones(2, size, size, dtype=torch.bool)
    valid[1, :, -4:] = False
    return Batch(rgb, labels, valid, {}, torch.tensor([[True, True, False], [True, False, False]]), 0)


def _model(method):
    torch.manual_seed(1)
    return method.build(NetworkSpec(name="unet"), 3).eval()


@pytest.mark.parametrize("backprop", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_terms_are_the_losses(backprop, scale):
    batch = _batch()
    method = Sec(**CRF, backprop=backprop, scale=scale, present_decay=0.9, sigma_xy=8.0, sigma_rgb=20.0)
    model = _model(method)
    terms = method.losses(model, batch, method.term_names)
    assert set(terms) == method.term_names
    logits = model(batch.rgb)
    torch.testing.assert_close(terms["seed"], partial_cross_entropy(logits, batch.labels))
    expected = constrain_to_boundary_loss(logits, batch.rgb, **CRF, backprop=backprop, scale=scale, roi=batch.valid)
    torch.testing.assert_close(terms["constrain"], expected)
    probs = logits.softmax(1)
    expected = dense_crf_loss(probs, batch.rgb, sigma_rgb=20.0, sigma_xy=8.0, roi=batch.valid, scale=scale)
    torch.testing.assert_close(terms["densecrf"], expected)
    valid = batch.valid
    if scale == 0.5:
        probs = (probs[:, :, ::2, ::2] + probs[:, :, 1::2, ::2] + probs[:, :, ::2, 1::2] + probs[:, :, 1::2, 1::2]) / 4
        valid = valid[:, ::2, ::2]
    expected = expansion_loss(probs, batch.tags, background=0, present_decay=0.9, roi=valid)
    torch.testing.assert_close(terms["expand"], expected)
    for name in terms:
        model.zero_grad()
        terms[name].backward(retain_graph=True)
        assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0, name


def test_backprop_decides_whether_the_gradient_flows_through_the_crf():
    batch = _batch()
    found = {}
    for backprop in (False, True):
        method = Sec(**CRF, backprop=backprop)
        model = _model(method)
        weight = next(model.parameters())
        (found[backprop],) = torch.autograd.grad(method.losses(model, batch, {"constrain"})["constrain"], weight)
        expected = constrain_to_boundary_loss(model(batch.rgb), batch.rgb, **CRF, backprop=backprop, roi=batch.valid)
        torch.testing.assert_close(found[backprop], torch.autograd.grad(expected, weight)[0])
    assert (found[True] - found[False]).norm() > 0.05 * found[True].norm()


def test_the_published_crf_is_the_default():
    """SEC's CRF, as Tang et al. 2018 use it in Table 3."""
    sec = Sec()
    assert (sec.pos_weight, sec.pos_xy_std) == (3, 3)
    assert (sec.bi_weight, sec.bi_xy_std, sec.bi_rgb_std, sec.iterations) == (10, 80, 13, 10)
    assert (sec.present_decay, sec.absent_decay, sec.background_decay) == (0.996, 0, 0.999)


def test_a_phase_computes_its_terms_only(monkeypatch):
    def refuse(*args, **settings):
        raise RuntimeError("computed")

    for name in ("expansion_loss", "constrain_to_boundary_loss", "dense_crf_loss"):
        monkeypatch.setattr(wss.methods.sec, name, refuse)
    method = Sec()
    model = _model(method)
    assert set(method.losses(model, _batch(), {"seed": 1.0})) == {"seed"}
    for name in ("expand", "constrain", "densecrf"):
        with pytest.raises(RuntimeError, match="computed"):
            method.losses(model, _batch(), {"seed": 1.0, name: 1.0})


def test_expansion_needs_tags():
    batch = _batch()
    batch = Batch(batch.rgb, batch.labels, batch.valid, {})
    method = Sec()
    with pytest.raises(UsageError, match="the batch has none"):
        method.losses(_model(method), batch, {"expand"})


def test_settings_are_checked():
    for changes in ({"present_decay": 1.1}, {"scale": 0}, {"iterations": 0}, {"bi_xy_std": 0}, {"backprop": "x"}):
        with pytest.raises(ValidationError):
            Sec(**changes)


def test_terms_without_weight_are_recorded_without_gradient():
    a, b = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    _weighted({"seed": 3 * a, "constrain": 5 * b}, Phase(epochs=1, terms={"seed": 2, "constrain": 0})).backward()
    assert a.grad.item() == 6
    assert b.grad is None
    _weighted({"seed": 3 * a}, Phase(epochs=1, terms={"seed": 0})).backward()
    assert a.grad.item() == 6


def _pipeline(name, **changes):
    short = {"phases": {"*": {"epochs": 1}}, "augment": {"crop": 32}, "validation_split": None}
    return load_pipeline(
        find_pipeline(name), {"train*": short, "cam": {"scales": [1.0]}, **changes}, {"dataset": DATASET}
    )


def test_table_3_is_a_matter_of_settings(tmp_path):
    """From tags to a network with each combination of losses; the seeds are made once."""
    no_crf = {"terms": {"constrain": 0}}
    rows = {
        "constrain": {},
        "no gradient through the CRF": {"method": {"backprop": False}},
        "CRF loss": {"phases": {0: {"terms": {"constrain": 0, "densecrf": 1}}}},
        "none": {"phases": {0: no_crf}},
    }
    keys = {}
    for name, change in rows.items():
        outcomes = run_pipeline(_pipeline("sec", train=change).up_to("train"), Workspace(tmp_path), Context())
        assert all(o.skipped for n, o in outcomes.items() if n != "train") == (name != "constrain")
        keys[name] = outcomes["train"].store.key
        row = outcomes["train"].store.log["epochs"][-1]
        assert {"seed", "expand", "constrain"} <= set(row)
        weights = outcomes["train"].node.params.phases[0].terms
        assert row["loss"] == pytest.approx(sum(weights[n] * row[n] for n in weights), rel=1e-5)
    assert len(set(keys.values())) == 4
    assert outcomes["train"].store.meta["labels"]["annotation"] == "tag"


def test_the_classifier_is_that_of_the_pipeline_classifier():
    ours = load_pipeline(find_pipeline("sec")).nodes
    theirs = load_pipeline(find_pipeline("classifier")).nodes
    assert ours["train-classifier"].params == theirs["train"].params
    assert ours["cam"].params == theirs["cam"].params
