import pytest
import torch
from pydantic import ValidationError

from tests.methods.two_halves import train_on, two_halves, without_labels
from wss.losses import gated_crf_loss, partial_cross_entropy
from wss.methods import GatedCRF, Phase
from wss.networks import NetworkSpec
from wss.pipeline.spec import find_pipeline, load_pipeline


def _model(method):
    torch.manual_seed(1)
    return method.build(NetworkSpec(name="unet"), 3)


@pytest.mark.parametrize("destinations", ["all", "unlabelled"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_term_is_the_loss_between_pixels_of_the_image(destinations, scale):
    batch = two_halves()
    own = {
        "radius": 2,
        "sigma_rgb": 20.0,
        "sigma_xy": 3.0,
        "colour_weight": 0.9,
        "position_weight": 0.1,
        "scale": scale,
    }
    method = GatedCRF(**own, destinations=destinations)
    model = _model(method).eval()
    terms = method.losses(model, batch, method.term_names)
    logits = model(batch.rgb)
    counted = batch.valid if destinations == "all" else batch.valid & (batch.labels == 255)
    expected = gated_crf_loss(logits.softmax(1), batch.rgb, sources=batch.valid, destinations=counted, **own)
    torch.testing.assert_close(terms["gated-crf"], expected)
    torch.testing.assert_close(terms["pce"], partial_cross_entropy(logits, batch.labels))
    terms["gated-crf"].backward()
    assert sum(float(p.grad.abs().sum()) for p in model.parameters()) > 0
    assert set(method.losses(model, batch, {"pce"})) == {"pce"}


def test_training_lowers_the_energy_and_images_without_labels_help():
    phases = (Phase(epochs=12, terms={"pce": 1.0, "gated-crf": 0.1}, optimiser="adamw", lr=0.003, head_multiplier=1.0),)
    rows = train_on(without_labels(two_halves(), 1), _model(GatedCRF()), GatedCRF(), phases)
    assert rows[-1]["gated-crf"] < 0.75 * rows[0]["gated-crf"]
    assert rows[-1]["pce"] < rows[0]["pce"]
    assert GatedCRF.uses_unlabelled


def test_settings_are_checked():
    for changes in ({"radius": 0}, {"sigma_xy": 0}, {"scale": 2}, {"destinations": "x"}, {"colour_weight": 0}):
        with pytest.raises(ValidationError):
            GatedCRF(**changes)


def test_pipeline_is_that_of_pce_with_one_more_term():
    ours, theirs = (load_pipeline(find_pipeline(name)).nodes["train"].params for name in ("gated-crf", "pce"))
    assert ours.phases[0].terms == {"pce": 1, "gated-crf": 0.1}
    assert ours.phases[0].model_copy(update={"terms": {"pce": 1.0}}) == theirs.phases[0]
    same = {"network", "batch_size", "augment", "split"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)
