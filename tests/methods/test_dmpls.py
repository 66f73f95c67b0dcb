from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from tests.methods.two_halves import train_on, two_halves, without_labels
from wss.losses import absent_class_loss, dice_loss, partial_cross_entropy
from wss.methods import Dmpls, PartialCrossEntropy, Phase
from wss.networks import NetworkSpec, parameter_groups
from wss.pipeline.spec import find_pipeline, load_pipeline

UNET = NetworkSpec(name="unet")
SPECS = [UNET, NetworkSpec(name="deeplab-v2", backbone="resnet18"), NetworkSpec(name="segformer", backbone="mit_b0")]


def _model(method=None, spec=UNET):
    torch.manual_seed(1)
    return (method or Dmpls()).build(spec, 3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
def test_the_first_branch_is_the_network_and_shares_all_but_its_head(spec, size):
    model = _model(spec=spec).eval()
    rgb = two_halves(*size).rgb
    first, second = model.both(rgb)
    torch.testing.assert_close(first, model(rgb))
    assert second.shape == first.shape == (2, 3, *size)
    assert not torch.allclose(first, second)
    second.square().sum().backward()
    own = [name for name, _ in model.second.named_parameters()]
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {f"second.{name}" for name in own} <= reached
    assert not any(name.startswith("network.classifier") for name in reached)
    assert any(name.startswith(("network.encoder", "network.backbone")) for name in reached)
    assert not any(name.startswith("network.decoder") for name in reached)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_second_branches_start_like_the_first_from_weights_of_their_own(spec):
    model = _model(spec=spec)
    heads = [p for name, p in model.second.named_parameters() if p.ndim == 4]
    others = dict(model.network.named_parameters())
    assert all(not torch.equal(p, q) for p in heads for q in others.values() if q.shape == p.shape)
    learning = {id(p): group.head for group in parameter_groups(model) for p in group.parameters}
    assert {learning[id(p)] for p in model.second.parameters()} == {spec.name != "unet"}


def test_only_the_second_branch_loses_channels_and_only_in_training():
    model, rgb = _model(Dmpls(dropout=0.9), NetworkSpec(name="unet", dropout=0)).train(), two_halves().rgb
    with torch.no_grad():
        pairs = [model.both(rgb) for _ in range(2)]
        assert torch.equal(pairs[0][0], pairs[1][0])
        assert not torch.equal(pairs[0][1], pairs[1][1])
        model.eval()
        assert torch.equal(model.both(rgb)[1], model.both(rgb)[1])


def test_terms_are_those_of_the_paper():
    batch, method = two_halves(), Dmpls()
    model = _model().eval()
    first, second = model.both(batch.rgb)
    seen = []
    for seed in (0, 3):
        torch.manual_seed(seed)
        share = float(torch.rand(()))
        torch.manual_seed(seed)
        terms = method.losses(model, batch, {"pce": 1.0, "mixed": 0.5})
        mixed = (share * first.softmax(1) + (1 - share) * second.softmax(1)).argmax(1)
        mixed[~batch.valid] = 255
        seen.append(mixed)
        expected = (dice_loss(first.softmax(1), mixed) + dice_loss(second.softmax(1), mixed)) / 2
        torch.testing.assert_close(terms["mixed"], expected)
        each = [partial_cross_entropy(logits, batch.labels) for logits in (first, second)]
        torch.testing.assert_close(terms["pce"], sum(each) / 2)
    assert not torch.equal(*seen)  # another share, other labels
    assert set(method.losses(model, batch, {"pce"})) == {"pce"}


def test_soft_labels_are_the_mixture_itself():
    batch, method = two_halves(), Dmpls(soft=True)
    model = _model(method).eval()
    first, second = model.both(batch.rgb)
    torch.manual_seed(0)
    share = float(torch.rand(()))
    torch.manual_seed(0)
    found = method.losses(model, batch, {"pce", "mixed"})["mixed"]
    mixture = (share * first.softmax(1) + (1 - share) * second.softmax(1)).detach()
    each = [-(mixture * logits.log_softmax(1)).sum(1)[batch.valid].mean() for logits in (first, second)]
    torch.testing.assert_close(found, sum(each) / 2)
    gradients = torch.autograd.grad(found, model.second.classifier.bias, retain_graph=True)[0]
    pixels = (second.softmax(1) - mixture).movedim(1, -1)[batch.valid]  # the labels take no gradient
    torch.testing.assert_close(gradients, pixels.mean(0) / 2, rtol=1e-4, atol=1e-7)


def test_the_penalty_for_absent_classes_is_the_mean_of_both_branches():
    batch, method = two_halves(), Dmpls()
    batch = replace(batch, tags=torch.tensor([[True, True, False], [True, False, False]]))
    model = _model().eval()
    found = method.losses(model, batch, {"pce", "absent"})
    assert set(found) == {"pce", "absent"}
    each = [absent_class_loss(logits, batch.tags, valid=batch.valid) for logits in model.both(batch.rgb)]
    torch.testing.assert_close(found["absent"], sum(each) / 2)


@pytest.mark.parametrize("soft", [False, True])
def test_padding_has_no_part(soft):
    batch = two_halves()
    model = _model().eval()
    terms = []
    for logits in (3.0, -3.0):
        outside = ~batch.valid[:, None]
        model.both = lambda rgb, x=logits, o=outside: (
            torch.where(o, torch.tensor([x, 0.0, 0.0]).view(1, 3, 1, 1), rgb[:, :3] / 50),
            rgb[:, :3].flip(1) / 50,
        )
        torch.manual_seed(0)
        terms.append(Dmpls(soft=soft).losses(model, batch, {"mixed"})["mixed"])
    assert terms[0] == terms[1]


def test_training_goes_on_from_another_method_and_lowers_both_terms():
    model = _model()
    absent, beyond = model.load_state_dict(_model(PartialCrossEntropy()).state_dict(), strict=False)
    assert not beyond
    assert all(name.startswith("second.") for name in absent)
    phases = (Phase(epochs=15, terms={"pce": 1.0, "mixed": 0.5}, optimiser="adamw", lr=0.003, head_multiplier=1.0),)
    rows = train_on(without_labels(two_halves(), 1), model, Dmpls(), phases)
    assert rows[-1]["mixed"] < rows[0]["mixed"]
    assert rows[-1]["pce"] < 0.5 * rows[0]["pce"]


def test_training_on_soft_labels_brings_both_branches_together():
    method = Dmpls(soft=True)
    model = _model(method)
    phases = (Phase(epochs=15, terms={"pce": 1.0, "mixed": 8.0}, optimiser="adamw", lr=0.003, head_multiplier=1.0),)
    rows = train_on(without_labels(two_halves(), 1), model, method, phases)
    assert rows[-1]["mixed"] < rows[0]["mixed"]
    assert rows[-1]["pce"] < 0.5 * rows[0]["pce"]


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        Dmpls(dropout=1)


def test_pipeline_is_that_of_pce_with_one_more_term():
    ours, theirs = (load_pipeline(find_pipeline(name)).nodes["train"].params for name in ("dmpls", "pce"))
    assert ours.phases[0].terms == {"pce": 1, "mixed": 0.5}
    assert ours.phases[0].model_copy(update={"terms": {"pce": 1.0}}) == theirs.phases[0]
    same = {"network", "batch_size", "augment", "split"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)


def test_both_trainings_of_dmsps_are_soft_and_the_second_goes_on_with_labels_where_the_first_is_sure():
    nodes = load_pipeline(find_pipeline("dmsps")).nodes
    first, second = nodes["train-1"], nodes["train"]
    assert first.params.method == second.params.method == Dmpls(soft=True, dice=0.5)
    assert [node.params.phases[0].terms for node in (first, second)] == [{"pce": 1, "mixed": 8}] * 2
    assert second.inputs["labels"] == ("pseudo-labels",) and second.inputs["initial"] == ("train-1",)
    assert nodes["predict-1"].params.split == first.params.split == "train"
    assert nodes["predict-1"].params.probs is True
    assert nodes["pseudo-labels"].params.entropy_below == 0.1


def test_the_second_training_of_dmsps_can_start_from_new_weights():
    changes = {"train": {"fresh": ["network", "second"]}}
    nodes = load_pipeline(find_pipeline("dmsps"), changes).nodes
    names = _model(Dmpls(soft=True)).state_dict()
    assert all(name.startswith(nodes["train"].params.fresh) for name in names)
