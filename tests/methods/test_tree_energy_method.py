import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from tests.methods.two_halves import train_on, two_halves
from wss.losses import partial_cross_entropy, tree_energy_loss, tree_targets
from wss.methods import Phase, TreeEnergy
from wss.networks import NetworkSpec
from wss.pipeline.spec import find_pipeline, load_pipeline

UNET = NetworkSpec(name="unet")


def _model(spec=UNET):
    torch.manual_seed(1)
    return TreeEnergy().build(spec, 3)


@pytest.mark.parametrize("spec", [UNET, NetworkSpec(name="deeplab-v2", backbone="resnet18")], ids=lambda s: s.name)
@pytest.mark.parametrize("size", [(32, 32), (37, 51)])
def test_the_term_is_the_loss_on_unlabelled_pixels_at_the_stride_of_the_network(spec, size):
    batch, method = two_halves(*size, noise=10, padding=8), TreeEnergy(sigma_colour=0.05, sigma_feature=0.3)
    model = _model(spec).eval()
    terms = method.losses(model, batch, {"pce", "tree"})
    images = model.normalise(batch.rgb)
    features = model.network.forward_features(images)
    probs = model.network.classify(features).softmax(1)
    small = functional.interpolate(images, probs.shape[2:], mode="bilinear")
    at = [(torch.arange(n) * whole / n).long() for n, whole in zip(probs.shape[2:], size, strict=True)]
    valid, labels = (maps[:, at[0]][:, :, at[1]] for maps in (batch.valid, batch.labels))
    unit = features / features.norm(dim=1, keepdim=True)
    targets = tree_targets(probs, small, unit, sigma_colour=0.05, sigma_feature=0.3, valid=valid)
    expected = tree_energy_loss(probs, targets, counted=valid & (labels == 255))
    torch.testing.assert_close(terms["tree"], expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(terms["pce"], partial_cross_entropy(model(batch.rgb), batch.labels))
    terms["tree"].backward()
    assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0
    assert set(method.losses(model, batch, {"pce"})) == {"pce"}


def test_training_lowers_its_terms():
    common = {"optimiser": "adamw", "lr": 0.003, "head_multiplier": 1.0}
    phases = (
        Phase(epochs=8, terms={"pce": 1.0}, **common),
        Phase(epochs=8, terms={"tree": 1.0}, **common),
    )
    rows = train_on(two_halves(noise=10, padding=8), _model(), TreeEnergy(), phases, amp=True)
    assert ["tree" in row for row in rows] == [False] * 8 + [True] * 8
    assert rows[7]["pce"] < rows[0]["pce"]
    assert rows[-1]["tree"] < rows[8]["tree"]


def test_settings_are_checked():
    for changes in ({"sigma_colour": 0}, {"sigma_feature": -1}):
        with pytest.raises(ValidationError):
            TreeEnergy(**changes)


def test_pipeline_is_that_of_pce_with_one_more_term():
    ours, theirs = (load_pipeline(find_pipeline(name)).nodes["train"].params for name in ("tree-energy", "pce"))
    assert ours.phases[0].terms == {"pce": 1, "tree": 0.4}
    assert ours.phases[0].model_copy(update={"terms": {"pce": 1.0}}) == theirs.phases[0]
    same = {"network", "batch_size", "augment", "split"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)
