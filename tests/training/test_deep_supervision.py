import pytest
import torch
from torch.nn import functional

from tests.methods.test_host_waits import batch_of_everything
from wss.errors import UsageError
from wss.methods import METHODS, CrfRnn, PartialCrossEntropy, Phase
from wss.networks import NetworkSpec
from wss.networks.unet import Side
from wss.params import validate
from wss.stages.train_params import TrainParams
from wss.training.deep_supervision import deep_supervision, recorded_sides, supervised_weight

DEEP = NetworkSpec(widths=(8, 16, 24, 32), deep_supervision=0.5)


def test_loss_is_the_sum_of_halved_cross_entropies():
    batch = batch_of_everything()
    torch.manual_seed(0)
    coarse, fine = torch.randn(2, 3, 12, 14), torch.randn(2, 3, 24, 28)
    expected = 0.0
    for weight, stride, logits in ((1.0, 2, fine), (0.5, 4, coarse)):
        whole = functional.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
        expected += weight * functional.cross_entropy(whole, batch.labels, ignore_index=255)
    found = deep_supervision([Side(coarse, 4), Side(fine, 2)], batch)
    torch.testing.assert_close(found, expected)
    assert deep_supervision([], batch) == 0


def test_padding_of_the_image_is_left_out():
    batch = batch_of_everything()
    logits = torch.randn(2, 3, 16, 16)  # of 64x64 pixels, 48x56 of them the image's
    whole = functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[:, :, :48, :56]
    expected = functional.cross_entropy(whole, batch.labels, ignore_index=255)
    torch.testing.assert_close(deep_supervision([Side(logits, 4)], batch), expected)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.supervised_terms], ids=lambda m: m.model_fields["name"].default
)
def test_the_sides_of_every_method_are_those_of_the_images(method):
    """The recorded sides cover the images of the batch: a pass over changed images before them would be caught."""
    settings = method()
    torch.manual_seed(0)
    model = settings.build(DEEP, 3)
    model.eval()
    batch = batch_of_everything()
    terms = settings.term_names & settings.supervised_terms
    with recorded_sides(model) as sides:
        settings.losses(model, batch, terms)
    with recorded_sides(model) as again, torch.no_grad():
        model.network.forward_features(model.normalise(batch.rgb))
    assert [side.stride for side in sides] == [4, 2] == [side.stride for side in again]
    for side, same in zip(sides, again, strict=True):
        torch.testing.assert_close(side.logits, same.logits)
    deep_supervision(sides, batch).backward()
    network = model.network
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.side_classifiers.parameters())


def test_weight_follows_the_cross_entropy_of_the_phase():
    pce, crf = PartialCrossEntropy(), CrfRnn()
    assert supervised_weight(pce, Phase(epochs=1, terms={"pce": 0.3, "densecrf": 2})) == 0.3
    assert supervised_weight(pce, Phase(epochs=1, terms={"crf": 2})) == 0
    assert supervised_weight(crf, Phase(epochs=1, terms={"crf": 2})) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"method": {"name": "spml"}, "phases": [{"epochs": 1, "terms": {"classifier": 1}}]},
            "does not train any output",
        ),
        (
            {"method": {"name": "rw-ss"}, "phases": [{"epochs": 1, "terms": {"entropy": 1}}]},
            "no phase has its term pce",
        ),
        (
            {"method": {"name": "rawks", "dice": 1}, "phases": [{"epochs": 1, "terms": {"rawks": 1}}]},
            "added to the terms pce",
        ),
        ({"compile": True}, "cannot be combined"),
    ],
)
def test_what_excludes_deep_supervision_is_refused(change, says):
    settings = {
        "method": {"name": "pce"},
        "network": {"name": "unet", "deep_supervision": 0.5},
        "phases": [{"epochs": 1, "terms": {"pce": 1}}],
    }
    with pytest.raises(UsageError, match=says):
        validate(TrainParams, settings | change, "train")


@pytest.mark.parametrize("option", [{"deep_supervision": 0.5}, {"stem_stride": 2}, {"widths": [8, 16]}])
def test_options_of_the_unet_are_refused_elsewhere(option):
    with pytest.raises(UsageError, match="option of unet"):
        validate(NetworkSpec, {"name": "deeplab-v2", "backbone": "resnet18", **option}, "network")
