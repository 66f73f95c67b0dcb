import copy

import pytest
import torch
from pydantic import ValidationError

from tests.methods.two_halves import train_on, two_halves, without_labels
from tests.training.test_loop import _data, _Stop
from wss.losses import dice_loss, partial_cross_entropy
from wss.methods import Batch, MeanTeacher, PartialCrossEntropy, Phase
from wss.methods.mean_teacher import pseudo_labels
from wss.networks import NetworkSpec
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.training.loop import Hooks, LoopSettings, fit

UNET = NetworkSpec(name="unet", widths=(8, 16))
TERMS = {"pce": 1.0, "pseudo": 0.5}


def _model(method=None, spec=UNET, classes=3):
    torch.manual_seed(1)
    return (method or MeanTeacher()).build(spec, classes)


def _moved(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def test_the_better_of_both_labels_each_image():
    """Four images: the student fits, the teacher fits, both fit alike, nothing is labelled."""
    labels = torch.full((4, 1, 3), 255)
    labels[:3, 0, 0] = torch.tensor([0, 1, 1])
    student, teacher = torch.zeros(4, 2, 1, 3), torch.zeros(4, 2, 1, 3)
    student[:, 0], teacher[:, 1] = 2, 2  # all pixels 0; all pixels 1
    student[2, :, 0, 0] = teacher[2, :, 0, 0]
    found = pseudo_labels(student, teacher, labels)
    assert found[:, 0].tolist() == [[255, 0, 0], [255, 1, 1], [255, 1, 1], [1, 1, 1]]


def test_how_well_is_measured_by_the_cross_entropy_of_labelled_pixels_alone():
    labels = torch.tensor([[[0, 0, 255]]])
    student = torch.tensor([[1.0, 1.0, -9.0], [0.0, 0.0, 9.0]]).view(1, 2, 1, 3)  # both pixels right, a little
    teacher = torch.tensor([[9.0, -1.0, 9.0], [0.0, 0.0, -9.0]]).view(1, 2, 1, 3)  # one very, one wrong
    assert pseudo_labels(student, teacher, labels).flatten().tolist() == [255, 255, 1]
    student[:, :, 0, 1] = torch.tensor([-3.0, 0.0])
    assert pseudo_labels(student, teacher, labels).flatten().tolist() == [255, 255, 0]


def test_terms_are_those_of_the_definition():
    batch, method = two_halves(), MeanTeacher()
    model = _model().eval()
    method.losses(model, batch, TERMS)
    teacher = copy.deepcopy(model.teacher.model)
    _moved(model)
    terms = method.losses(model, batch, TERMS)
    logits = model(batch.rgb)
    weights = zip(teacher.parameters(), model.parameters(), model.teacher.model.parameters(), strict=True)
    for old, new, mean in weights:  # the first of the updates, n / (n + 9)
        torch.testing.assert_close(mean, 0.1 * old + 0.9 * new)
    labels = pseudo_labels(logits, model.teacher.model(batch.rgb), batch.labels)
    labels[~batch.valid] = 255
    assert (labels != 255).sum() == (batch.valid & (batch.labels == 255)).sum()
    expected = (partial_cross_entropy(logits, labels) + dice_loss(logits.softmax(1), labels)) / 2
    torch.testing.assert_close(terms["pseudo"], expected)
    torch.testing.assert_close(terms["pce"], partial_cross_entropy(logits, batch.labels))


def test_the_teacher_is_a_copy_at_first_and_then_follows_once_in_each_step():
    batch, method = two_halves(), MeanTeacher(decay=0.5)
    model = _model(method).train()
    assert set(method.losses(model, batch, {"pce"})) == {"pce"}
    assert model.teacher is None and method.carried(model) == {}
    method.losses(model, batch, TERMS)
    assert model.teacher.updates == 0
    mean = model.network.classifier.weight.detach().clone()
    for n in range(1, 12):
        _moved(model, n)
        method.losses(model, batch, TERMS)
        keep = min(0.5, n / (n + 9))
        mean = keep * mean + (1 - keep) * model.network.classifier.weight.detach()
        assert model.teacher.updates == n
        torch.testing.assert_close(model.teacher.model.network.classifier.weight, mean)
    assert not model.teacher.model.training and model.training


def test_the_teacher_is_no_part_of_the_network_and_takes_no_gradient():
    batch, method, model = two_halves(), MeanTeacher(), _model()
    names = set(model.state_dict())
    method.losses(model, batch, TERMS)["pseudo"].backward()
    assert set(model.state_dict()) == names == set(_model(PartialCrossEntropy()).state_dict())
    assert all(p.grad is not None for name, p in model.named_parameters() if p.ndim > 1), "the student learns"
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.model.parameters())
    assert {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in model.teacher.model.parameters())


def test_padding_has_no_part():
    batch, method = two_halves(), MeanTeacher()
    found = []
    for valid in (batch.valid, torch.ones_like(batch.valid)):
        model = _model().eval()
        found.append(method.losses(model, Batch(batch.rgb, batch.labels, valid, {}), TERMS)["pseudo"].item())
    assert found[0] != pytest.approx(found[1], rel=1e-6)
    nothing = torch.zeros_like(batch.valid)
    unlabelled = Batch(batch.rgb, torch.full_like(batch.labels, 255), nothing, {})
    terms = method.losses(_model(), unlabelled, TERMS)
    assert terms["pseudo"].item() == terms["pce"].item() == 0
    terms["pseudo"].backward()


def test_training_goes_on_from_another_method_and_lowers_both_terms():
    model = _model(classes=2)
    model.load_state_dict(_model(PartialCrossEntropy(), classes=2).state_dict())
    phases = (Phase(epochs=15, terms=TERMS, optimiser="adamw", lr=0.003, head_multiplier=1.0),)
    rows = train_on(without_labels(two_halves(), 1), model, MeanTeacher(), phases)
    assert rows[-1]["pseudo"] < rows[0]["pseudo"]
    assert rows[-1]["pce"] < 0.5 * rows[0]["pce"]


PHASES = (Phase(steps=4, terms={"pce": 1.0}, lr=0.01), Phase(steps=9, terms=TERMS, lr=0.01))
SIDES = NetworkSpec(name="unet", widths=(8, 16, 16), deep_supervision=0.5, dropout=0.2)


def _fit(model, method, state=None, save=lambda state: None, advance=lambda n, note: None, **settings):
    hooks = Hooks(lambda model: {}, save, lambda rows: None, advance)
    loop = LoopSettings(batch_size=2, seed=3, device=torch.device("cpu"), deep_supervision=0.5, **settings)
    return fit(model, method, PHASES, _data(), loop, hooks, state)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("stop_after", [2, 4, 5, 8, 11])
def test_resumed_equals_uninterrupted(stop_after, average, monkeypatch):
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    torch.set_num_threads(1)
    method = MeanTeacher(decay=0.7)
    whole = _model(method, SIDES, 2)
    torch.manual_seed(5)
    rows = _fit(whole, method, average=average)
    states, steps = [], []

    def advance(n, note):
        steps.append(n)
        if len(steps) > stop_after:
            raise _Stop

    model = _model(method, SIDES, 2)
    torch.manual_seed(5)
    with pytest.raises(_Stop):
        _fit(model, method, save=lambda s: states.append(copy.deepcopy(s)), advance=advance, average=average)
    other = _model(method, SIDES, 2)
    torch.manual_seed(99)
    again = _fit(other, method, state=states[-1], average=average)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert other.teacher.updates == whole.teacher.updates == 8
    for name, value in whole.teacher.model.state_dict().items():
        assert torch.equal(other.teacher.model.state_dict()[name], value), name
    for row, same in zip(rows, again, strict=True):
        assert {**row, "seconds": 0, "seconds_per_step": 0} == {**same, "seconds": 0, "seconds_per_step": 0}
    assert "deep" in rows[-1]


def test_settings_are_checked():
    for decay in (-0.1, 1):
        with pytest.raises(ValidationError):
            MeanTeacher(decay=decay)


def test_pipeline_is_that_of_pce_with_one_more_term():
    ours, theirs = (load_pipeline(find_pipeline(name)).nodes["train"].params for name in ("mean-teacher", "pce"))
    assert ours.phases[0].terms == TERMS
    assert ours.phases[0].model_copy(update={"terms": {"pce": 1.0}}) == theirs.phases[0]
    same = {"network", "batch_size", "augment", "split"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)
