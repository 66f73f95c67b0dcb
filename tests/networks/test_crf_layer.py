import pytest
import torch

from tests.ops.test_mean_field import scene
from wss.networks import parameter_groups
from wss.networks.layers.crf import CRFLayer
from wss.ops import differentiable_mean_field, mean_field

SETTINGS = {"pos_weight": 3.0, "pos_xy_std": 2.0, "bi_weight": 4.0, "bi_xy_std": 20.0, "bi_rgb_std": 10.0}


def test_starts_as_the_ordinary_crf():
    logits, images = scene(24, 30, 4)
    layer = CRFLayer(4, **SETTINGS, normalisation="symmetric").eval()
    torch.testing.assert_close(
        layer(logits, images).exp(), mean_field(logits, images, **SETTINGS), rtol=1e-3, atol=1e-4
    )
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "pos_weight": (4,),
        "bi_weight": (4,),
        "compatibility": (4, 4),
    }


def test_iterations_of_training_and_test():
    logits, images = scene(24, 30, 4)
    layer = CRFLayer(4, **SETTINGS, iterations=2, test_iterations=6)
    for training, iterations in ((True, 2), (False, 6)):
        expected = differentiable_mean_field(logits, images, iterations=iterations, normalisation="rows", **SETTINGS)
        torch.testing.assert_close(layer.train(training)(logits, images), expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_all_parameters_get_gradients(classes):
    logits, images = scene(20, 24, classes)
    layer = CRFLayer(classes, **SETTINGS)
    logits.requires_grad_()
    layer(logits, images)[:, 0].square().mean().backward()
    for parameter in (logits, *layer.parameters()):
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad.abs().sum() > 0) == (classes > 1)


def test_images_between_bytes_are_rounded():
    logits, images = scene(20, 24, 3)
    layer = CRFLayer(3, **SETTINGS).eval()
    expected = layer(logits, images.to(torch.uint8))
    torch.testing.assert_close(layer(logits, images + 0.3), expected)
    images[..., :5] = 255.0
    torch.testing.assert_close(layer(logits, images + 2e-5), layer(logits, images))
    dark = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))  # a black corner, interpolated
    assert torch.isfinite(layer(logits, dark)).all()


def test_padding_takes_no_part():
    logits, images = scene(20, 26, 3)
    layer = CRFLayer(3, **SETTINGS)
    roi = torch.ones(1, 20, 26, dtype=torch.bool)
    roi[..., 19:] = False
    alone = layer(logits[..., :19], images[..., :19])
    torch.testing.assert_close(layer(logits, images, roi)[..., :19], alone, rtol=1e-4, atol=1e-5)


def test_learns_at_its_own_rate_without_decay():
    model = torch.nn.ModuleDict(
        {"backbone": torch.nn.Conv2d(3, 3, 1), "head": torch.nn.Conv2d(3, 3, 1), "crf": CRFLayer(3, **SETTINGS, rate=7)}
    )
    (group,) = [g for g in parameter_groups(model) if g.rate != 1]
    assert group.rate == 7
    assert {id(p) for p in group.parameters} == {id(p) for p in model["crf"].parameters()}
    assert not (group.head or group.bias or group.decay)
    assert sum(len(g.parameters) for g in parameter_groups(model)) == len(list(model.parameters()))
