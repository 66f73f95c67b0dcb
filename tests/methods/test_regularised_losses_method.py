import pytest
import torch
from pydantic import ValidationError

from tests.methods.two_halves import train_on, two_halves, without_labels
from wss.errors import UsageError
from wss.losses import dense_crf_loss, kernel_cut_loss, normalized_cut_loss, partial_cross_entropy
from wss.methods import METHODS, Batch, DenseCRF, KernelCut, NormalizedCut, Phase
from wss.networks import NetworkSpec
from wss.ops import BilateralFilter
from wss.params import canonical, validate
from wss.stages.train_params import TrainParams

ALL = [DenseCRF, NormalizedCut, KernelCut]


def _model(method, classes=3):
    torch.manual_seed(1)
    return method.build(NetworkSpec(name="unet"), classes)


@pytest.mark.parametrize("variant", ["plain", "clamped"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_terms_are_the_losses_at_full_resolution(variant, scale):
    batch = two_halves()
    shared = {"sigma_rgb": 20.0, "sigma_xy": 8.0, "variant": variant, "scale": scale}
    common = {**shared, "roi": batch.valid, "labels": batch.labels}
    for method, expected in [
        (DenseCRF(**shared), lambda p: dense_crf_loss(p, batch.rgb, **common)),
        (DenseCRF(**shared, units="paper"), lambda p: dense_crf_loss(p, batch.rgb, **common, units="paper")),
        (NormalizedCut(**shared), lambda p: normalized_cut_loss(p, batch.rgb, **common)),
        (
            KernelCut(**shared, gamma=0.3, nc_sigma_xy=4.0),
            lambda p: kernel_cut_loss(p, batch.rgb, **common, gamma=0.3, nc_sigma_xy=4.0),
        ),
    ]:
        model = _model(method).eval()
        terms = method.losses(model, batch, method.term_names)
        logits = model(batch.rgb)
        assert set(terms) == method.term_names
        torch.testing.assert_close(terms["pce"], partial_cross_entropy(logits, batch.labels))
        torch.testing.assert_close(terms[method.name], expected(logits.softmax(1)))
        terms[method.name].backward()
        assert sum(float(p.grad.abs().sum()) for p in model.parameters()) > 0


@pytest.mark.parametrize("kind", ALL)
def test_first_phase_does_not_filter(kind, monkeypatch):
    def refuse(*args, **settings):
        raise RuntimeError("filtered")

    monkeypatch.setattr(BilateralFilter, "__init__", refuse)
    method = kind()
    assert set(method.losses(_model(method), two_halves(), {"pce": 1.0})) == {"pce"}
    with pytest.raises(RuntimeError, match="filtered"):
        method.losses(_model(method), two_halves(), method.term_names)


@pytest.mark.parametrize("kind", ALL)
def test_autocast_reaches_the_network_only(kind):
    method, batch = kind(sigma_xy=8.0), two_halves()
    model = _model(method).eval()
    with torch.autocast("cpu", torch.bfloat16):
        term = method.losses(model, batch, method.term_names)[method.name]
        probs = model(batch.rgb).softmax(1)
    assert term.dtype == torch.float32
    torch.testing.assert_close(term, method.regulariser(probs, batch, batch.valid))


@pytest.mark.parametrize("kind", ALL)
def test_images_without_labels_train(kind):
    method, batch = kind(sigma_xy=8.0), two_halves()
    batch = Batch(batch.rgb, torch.full_like(batch.labels, 255), batch.valid, {})
    model = _model(method)
    terms = method.losses(model, batch, method.term_names)
    assert terms["pce"].item() == 0
    sum(terms.values()).backward()
    assert sum(float(p.grad.abs().sum()) for p in model.parameters()) > 0


@pytest.mark.parametrize("kind", ALL)
def test_only_images_without_labels_are_regularised_when_asked_for(kind):
    batch, method = two_halves(), kind(sigma_xy=8.0, images="unlabelled")
    model = _model(method).eval()
    half = without_labels(batch, 1)
    alone = Batch(half.rgb[1:], half.labels[1:], half.valid[1:], {})
    term = method.losses(model, half, method.term_names)[method.name]
    torch.testing.assert_close(term, method.losses(model, alone, method.term_names)[method.name])
    assert term > 0
    assert method.losses(model, batch, method.term_names)[method.name] == 0


@pytest.mark.parametrize("kind", ALL)
def test_fine_tuning_lowers_the_regulariser(kind):
    method = kind(sigma_rgb=20.0, sigma_xy=8.0)
    common = {"optimiser": "adamw", "lr": 0.003, "head_multiplier": 1.0}
    phases = (
        Phase(epochs=3, terms={"pce": 1.0}, **common),
        Phase(epochs=12, terms={"pce": 1.0, method.name: 1.0}, **common),
    )
    rows = train_on(two_halves(), _model(method), method, phases)
    assert [method.name in row for row in rows] == [False] * 3 + [True] * 12
    assert rows[-1][method.name] < rows[3][method.name]


def test_settings_are_checked():
    for changes in ({"sigma_rgb": 0}, {"sigma_xy": -1}, {"scale": 0}, {"scale": 1.5}, {"variant": "x"}, {"units": "x"}):
        with pytest.raises(ValidationError):
            DenseCRF(**changes)
    with pytest.raises(UsageError, match="no loss term 'ncut'"):
        validate(TrainParams, {"method": {"name": "densecrf"}, "phases": [{"epochs": 1, "terms": {"ncut": 1}}]}, "x")


def test_names_are_distinct_and_counted_in_keys():
    assert len({method.model_fields["name"].default for method in METHODS}) == len(METHODS)
    assert canonical(DenseCRF()) != canonical(DenseCRF(units="paper"))
