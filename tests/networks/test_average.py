import copy

import pytest
import torch
from torch import nn

from tests.training.test_loop import IN_STEPS, _data, _fit, _model, _Stop
from wss.methods import PartialCrossEntropy
from wss.networks.average import MovingAverage
from wss.training.loop import Hooks, LoopSettings, fit


def test_average_follows_the_written_recursion():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = MovingAverage(model, 0.7)
    expected = model[0].weight.detach().double().clone()
    for n in range(1, 40):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 2))
        model[1].num_batches_tracked += 1
        average.update(model)
        keep = min(0.7, n / (n + 9))
        expected = keep * expected + (1 - keep) * model[0].weight.detach().double()
    torch.testing.assert_close(average.model[0].weight.double(), expected, rtol=1e-4, atol=1e-5)
    assert average.model[1].num_batches_tracked == 39


def test_training_ends_with_the_average_and_scores_it():
    scored = []
    plain = _model()
    torch.manual_seed(5)
    _fit(plain, phases=IN_STEPS)
    averaged = _model()
    torch.manual_seed(5)
    hooks = Hooks(
        lambda model: scored.append(copy.deepcopy(model.state_dict())) or {},
        lambda s: None,
        lambda r: None,
        lambda n, t: None,
    )
    loop = LoopSettings(batch_size=2, seed=3, device=torch.device("cpu"), average=0.9)
    fit(averaged, PartialCrossEntropy(), IN_STEPS, _data(), loop, hooks)
    weight = "network.classifier.weight"
    assert not torch.equal(plain.state_dict()[weight], averaged.state_dict()[weight])
    assert torch.equal(scored[-1][weight], averaged.state_dict()[weight])


@pytest.mark.parametrize("stop_after", [3, 8, 11])
def test_an_average_resumes_exactly(stop_after, monkeypatch):
    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    whole = _model()
    torch.manual_seed(5)
    _fit(whole, phases=IN_STEPS, average=0.8)
    states, steps = [], []

    def advance(n, note):
        steps.append(n)
        if len(steps) > stop_after:
            raise _Stop

    model = _model()
    torch.manual_seed(5)
    with pytest.raises(_Stop):
        _fit(
            model,
            save=lambda state: states.append(copy.deepcopy(state)),
            phases=IN_STEPS,
            advance=advance,
            average=0.8,
        )
    other = _model()
    _fit(other, state=states[-1], phases=IN_STEPS, average=0.8)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
