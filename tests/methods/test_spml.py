import numpy as np
import pytest
import torch
from torch.nn import functional

from wss.methods.spml import EmbeddingSegmenter
from wss.networks import NetworkSpec
from wss.networks.deeplab_v2 import SummedASPP
from wss.predictor import InferenceParams, Predictor

NETWORKS = {
    "unet": NetworkSpec(),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2-16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _model(network="unet", classes=3, **options):
    torch.manual_seed(0)
    return EmbeddingSegmenter(NETWORKS[network], classes, **options)


def _images(height=35, width=50):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_embedding_is_of_unit_length_at_its_stride(network, stride):
    model = _model(network, stride=stride).eval()
    for height, width in ((35, 50), (32, 64), (3, 5)):
        rgb = _images(height, width)
        embedding = model.embed(rgb)
        assert embedding.shape == (2, 64, -(-height // stride), -(-width // stride))
        assert embedding.dtype == torch.float32
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(embedding.shape[0], *embedding.shape[2:]))
        assert model(rgb).shape == (2, 3, height, width)


def test_deeplab_embeds_by_its_summed_pyramid_and_doubles_to_stride_4():
    model = _model("v2").eval()
    assert isinstance(model.network.classifier, SummedASPP)
    rgb = _images(32, 48)
    coarse = model.network(model.normalise(rgb))
    assert coarse.shape == (2, 64, 4, 6)
    fine = functional.interpolate(coarse, (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.embed(rgb), functional.normalize(fine, dim=1))


def test_finer_networks_are_averaged():
    model = _model("unet").eval()
    rgb = _images(32, 48)
    mean = model.network(model.normalise(rgb)).unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    torch.testing.assert_close(model.embed(rgb), functional.normalize(mean, dim=1))


def test_logits_teach_the_classifier_alone():
    model = _model("v3plus")
    model(_images()).square().sum().backward()
    assert all(p.grad is None for p in model.network.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.classifier.parameters())


def test_autocast_keeps_results_in_float32():
    model = _model("v2").eval()
    with torch.autocast("cpu", torch.bfloat16):
        embedding, logits = model.embed(_images()), model(_images())
    assert embedding.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(embedding, model.embed(_images()), rtol=0, atol=0.05)


@pytest.mark.parametrize("network", NETWORKS)
def test_predicts_at_several_scales_and_in_windows(network):
    model = _model(network)
    image = np.random.default_rng(0).integers(0, 256, (41, 57, 3), np.uint8)
    palette = np.zeros((3, 3), np.uint8)
    for test_time in (InferenceParams(scales=(0.5, 1, 1.25), flip=True), InferenceParams(window=32)):
        probs = Predictor(model, "abc", palette, torch.device("cpu"), test_time).probabilities(image)
        assert probs.shape == (3, 41, 57)
        np.testing.assert_allclose(probs.sum(0), 1, rtol=1e-4)
