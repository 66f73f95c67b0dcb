import torch
from torch.nn.functional import cross_entropy

from wss.methods import Batch, GrabCut, ScribbleSup
from wss.networks import NetworkSpec


def _batch(labels):
    rgb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    return Batch(rgb, labels, torch.ones(2, 32, 32, dtype=torch.bool), {})


def test_the_loss_is_cross_entropy_on_the_proposals():
    labels = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(1))
    labels[1, :9] = 255  # where the proposal does not say
    batch = _batch(labels)
    for method in (GrabCut(), ScribbleSup()):
        model = method.build(NetworkSpec(name="unet"), 3).eval()
        losses = method.losses(model, batch, {"ce"})
        assert set(losses) == method.term_names == {"ce"}
        torch.testing.assert_close(losses["ce"], cross_entropy(model(batch.rgb), labels, ignore_index=255))


def test_without_a_proposal_the_loss_is_zero_and_differentiable():
    method = ScribbleSup()
    model = method.build(NetworkSpec(name="unet"), 3)
    loss = method.losses(model, _batch(torch.full((2, 32, 32), 255)), {"ce"})["ce"]
    loss.backward()
    assert loss.item() == 0
