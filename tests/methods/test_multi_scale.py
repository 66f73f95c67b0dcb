"""Networks that see each image at several scales: their output, their losses, and the methods that cannot train them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import absent_class_loss, partial_cross_entropy
from wss.methods import METHODS, Batch, CrfRnn, Dense, DenseCRF, PartialCrossEntropy
from wss.networks import NetworkSpec
from wss.params import validate
from wss.stages.train_params import TrainParams

SPEC = NetworkSpec(name="deeplab-v2", backbone="resnet18", multi_scale=(0.5, 0.75))


def _model(method, spec=SPEC):
    torch.manual_seed(0)
    return method.build(spec, 3).eval()


def _batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.full((2, 41, 30), 255)
    labels[:, 5:9], labels[:, 20:22, 3:9] = 1, 2
    rgb = (torch.rand(2, 3, 41, 30, generator=generator) * 255).round()
    return Batch(rgb, labels, torch.ones(2, 41, 30, dtype=torch.bool), {})


def _logits_of_each_scale(model, rgb):
    """At the stride of the first scale, from the definition."""
    image = model.normalise(rgb)
    sizes = [(41, 30), (20, 15), (30, 22)]
    maps = [model.network(functional.interpolate(image, size, mode="bilinear")) for size in sizes]
    return [functional.interpolate(each, maps[0].shape[2:], mode="bilinear") for each in maps]


def test_the_output_is_the_largest_logit_of_all_scales():
    model, batch = _model(PartialCrossEntropy()), _batch()
    with torch.inference_mode():
        parts = _logits_of_each_scale(model, batch.rgb)
        fused = functional.interpolate(torch.stack(parts).amax(0), (41, 30), mode="bilinear")
        torch.testing.assert_close(model(batch.rgb), fused)
        own = [functional.interpolate(part, (41, 30), mode="bilinear") for part in parts]
        assert all((fused - logits).abs().max() > 1e-3 for logits in own)


@pytest.mark.parametrize(("method", "term"), [(PartialCrossEntropy(), "pce"), (Dense(), "ce"), (DenseCRF(), "pce")])
def test_the_loss_is_one_cross_entropy_per_scale_and_that_of_the_output(method, term):
    model, batch = _model(method), _batch()
    parts = [functional.interpolate(p, (41, 30), mode="bilinear") for p in _logits_of_each_scale(model, batch.rgb)]
    expected = sum(partial_cross_entropy(logits, batch.labels) for logits in (model(batch.rgb), *parts))
    found = method.losses(model, batch, {term})
    torch.testing.assert_close(found[term], expected)
    found[term].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_crf_layer_refines_the_largest_logits():
    method, batch = CrfRnn(bi_xy_std=9, iterations=2, test_iterations=2), _batch()
    model = _model(method)
    parts = [functional.interpolate(p, (41, 30), mode="bilinear") for p in _logits_of_each_scale(model, batch.rgb)]
    fused = super(type(model), model).forward(batch.rgb)
    refined = model.crf(fused, batch.rgb)
    found = method.losses(model, batch, {"pce", "crf"})
    expected = sum(partial_cross_entropy(logits, batch.labels) for logits in (fused, *parts))
    torch.testing.assert_close(found["pce"], expected)
    torch.testing.assert_close(found["crf"], partial_cross_entropy(refined, batch.labels))
    torch.testing.assert_close(model(batch.rgb), refined)
    assert (found["crf"] - partial_cross_entropy(fused, batch.labels)).abs() > 1e-3


def test_one_scale_is_plain_cross_entropy():
    method, batch = PartialCrossEntropy(), _batch()
    model = _model(method, NetworkSpec(name="deeplab-v2", backbone="resnet18"))
    assert method.losses(model, batch, {"pce"})["pce"] == partial_cross_entropy(model(batch.rgb), batch.labels)


def test_scales_do_not_change_the_parameters():
    single = SPEC.model_copy(update={"multi_scale": ()})
    with torch.device("meta"):
        names = [list(PartialCrossEntropy().build(spec, 3).state_dict()) for spec in (SPEC, single)]
    assert names[0] == names[1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.model_fields["name"].default)
def test_other_methods_refuse_several_scales(method):
    name = method.model_fields["name"].default
    term = sorted(method.term_names)[0]
    values = {"method": {"name": name}, "network": SPEC.model_dump(), "phases": [{"epochs": 1, "terms": {term: 1}}]}
    if method.multi_scale:
        assert validate(TrainParams, values, "train").network == SPEC
    else:
        with pytest.raises(
            UsageError, match=f"'{name}' needs one set of logits.*leave it out, or choose one of pce, dense"
        ):
            validate(TrainParams, values, "train")


def test_absent_classes_are_those_of_the_fused_output():
    model, batch = _model(PartialCrossEntropy()), _batch()
    batch = replace(batch, tags=torch.tensor([[False, True, True], [True, True, False]]))
    found = PartialCrossEntropy().losses(model, batch, {"pce", "absent"})
    torch.testing.assert_close(found["absent"], absent_class_loss(model(batch.rgb), batch.tags))
    assert set(PartialCrossEntropy().losses(model, batch, {"pce"})) == {"pce"}
    with pytest.raises(UsageError, match="has none"):
        PartialCrossEntropy().losses(model, _batch(), {"pce", "absent"})
