import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.methods import METHODS, PartialCrossEntropy, RwSs, Spml
from wss.networks import NetworkSpec
from wss.params import canonical, validate
from wss.predictor import InferenceParams, Predictor, WalkParams, _positions
from wss.stages.predict import PredictParams

PALETTE = np.zeros((2, 3), np.uint8)


class Brightness(nn.Module):
    """Logits that only depend on each pixel: class 1 where the red channel is bright."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, rgb):
        self.sizes.append(tuple(rgb.shape[2:]))
        red = (rgb[:, :1] - 127) / 32
        return torch.cat([-red, red], 1)


def _image(height=37, width=53):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _predictor(**options):
    return Predictor(Brightness(), ["a", "b"], PALETTE, torch.device("cpu"), InferenceParams(**options))


def test_labels_and_probabilities():
    image = _image()
    predictor = _predictor()
    labels = predictor(image)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, image[..., 0] > 127)
    probs = predictor.probabilities(image)
    assert probs.shape == (2, 37, 53)
    np.testing.assert_allclose(probs.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"flip": True}, {"window": 16}, {"window": 16, "overlap": 0.9}, {"window": 40, "flip": True}]
)
def test_flip_and_window_change_nothing_for_a_pointwise_network(options):
    image = _image()
    np.testing.assert_allclose(_predictor(**options).probabilities(image), _predictor().probabilities(image), atol=1e-5)


def test_scales_are_averaged():
    image = _image()
    mean = (_predictor(scales=(0.5,)).probabilities(image) + _predictor(scales=(1.0,)).probabilities(image)) / 2
    both = _predictor(scales=(0.5, 1.0))
    np.testing.assert_allclose(both.probabilities(image), mean, atol=1e-5)
    assert both.model.sizes == [(18, 26), (37, 53)]


def test_window_is_never_larger_than_asked():
    predictor = _predictor(window=16)
    predictor(_image())
    assert set(predictor.model.sizes) == {(16, 16)}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_tiny_images(shape):
    assert _predictor(scales=(0.25, 1.0), flip=True)(_image(*shape)).shape == shape


def test_read_only_images_are_fine():
    image = _image()
    image.flags.writeable = False
    assert _predictor()(image).shape == (37, 53)


@pytest.mark.parametrize("length", [16, 17, 31, 32, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
def test_positions_cover_everything(length, overlap):
    starts = _positions(length, 16, overlap)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= length - 16
        covered[start : start + 16] = True
    assert covered.all()
    assert all(b - a <= 16 * (1 - overlap) + 1 for a, b in itertools.pairwise(starts))


NETWORKS = {
    "unet": NetworkSpec(name="unet"),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v2 multi-scale": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", multi_scale=(0.5,)),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
    "pspnet": NetworkSpec(name="pspnet", backbone="resnet18"),
    "segformer": NetworkSpec(name="segformer", backbone="mit_b0"),
    "largefov": NetworkSpec(name="deeplab-largefov"),
    "msc-largefov": NetworkSpec(name="deeplab-msc-largefov"),
    "vgg16": NetworkSpec(name="deeplab-vgg16"),
}


def _built(method, network="unet"):
    torch.manual_seed(0)
    model = method.build(NETWORKS[network], 3)
    for module in model.modules():  # features and classifiers that tell positions apart
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


def _predictions(model, **options):
    predictor = Predictor(model, "abc", np.zeros((3, 3), np.uint8), torch.device("cpu"), InferenceParams(**options))
    return predictor.probabilities(_image(40, 56))


@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_classifier_reads_walks_in_every_network(network):
    model = _built(PartialCrossEntropy(), network)
    still = _predictions(model)
    walked = _predictions(model, walk=True)
    assert np.abs(walked - still).max() > 1e-4
    assert np.array_equal(_predictions(model), still)  # the model itself does not walk
    np.testing.assert_allclose(_predictions(model, walk={"alpha": 0}), still, atol=1e-5)


def test_a_walk_is_the_equation_on_the_features():
    model = _built(PartialCrossEntropy()).double()
    rgb = torch.from_numpy(_image(40, 56)).permute(2, 0, 1)[None].double()
    features = model.network.forward_features(model.normalise(rgb)).detach()
    coarse = nn.functional.avg_pool2d(features, 8)
    moved = torch.from_numpy(eigenspace.step_by_cosines(coarse[0].numpy(), 3))[None]
    fine = nn.functional.interpolate(moved, scale_factor=8, mode="bilinear", align_corners=False)
    expected = model.network.classifier((0.7 * fine + features) / 1.7).softmax(1)[0].detach()
    walk = WalkParams(scale=3, alpha=0.7)
    predictor = Predictor(model, "abc", PALETTE, torch.device("cpu"), InferenceParams(walk=walk))
    assert predictor.model is not model
    found = predictor.model(rgb).softmax(1)[0].detach()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.model_fields["name"].default)
def test_networks_of_every_method_can_walk(method):
    model = _built(method())
    if method is RwSs:
        nn.init.constant_(model.random_walk.alpha, 0.3)
    if method.model_fields["name"].default == "crf-rnn":
        model.crf.test_iterations = 1
    assert np.abs(_predictions(model, walk=True) - _predictions(model)).max() > 1e-6
    parts = _predictions(model, walk=True, window=32, scales=(0.5, 1), flip=True)
    np.testing.assert_allclose(parts.sum(0), 1, rtol=1e-4)


def test_embeddings_walk_before_their_classifier():
    model = _built(Spml())
    rgb = torch.from_numpy(_image(40, 56)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        embedding = model.embed(rgb).double()
        coarse = nn.functional.avg_pool2d(embedding, 2)
        moved = torch.from_numpy(eigenspace.step_by_cosines(coarse[0].numpy(), 5))[None]
        fine = nn.functional.interpolate(moved, scale_factor=2, mode="bilinear", align_corners=False)
        expected = model.classify(((0.5 * fine + embedding) / 1.5).float(), (40, 56)).softmax(1)[0]
    np.testing.assert_allclose(_predictions(model, walk=True), expected, atol=1e-4)


def test_a_model_without_features_is_refused():
    with pytest.raises(UsageError, match=r"test_time\.walk needs .* Brightness has none"):
        _predictor(walk=True)


def test_true_and_false_are_short_for_the_walk():
    assert InferenceParams(walk=True).walk == WalkParams(stride=8, scale=5, alpha=0.5)
    assert InferenceParams(walk=False).walk is None
    assert InferenceParams(walk={"alpha": 1}).walk == WalkParams(alpha=1)
    for wrong in ({"stride": 6}, {"alpha": -1}, {"scale": 0}, {"steps": 2}, 3):
        with pytest.raises(UsageError, match=r"test_time\.walk"):
            validate(PredictParams, {"test_time": {"walk": wrong}}, "predict")


def test_without_a_walk_keys_are_what_they_were():
    assert "walk" not in canonical(PredictParams())["test_time"]
    assert canonical(PredictParams(test_time={"walk": True}))["test_time"]["walk"][""] == "WalkParams"


@pytest.mark.parametrize("size", [(37, 53), (100, 53), (64, 130), (20, 200)])
@pytest.mark.parametrize("options", [{}, {"flip": True, "scales": (0.5, 1.0)}])
def test_large_images_go_through_the_network_in_blocks(monkeypatch, size, options):
    monkeypatch.setattr("wss.predictor.WHOLE", 2000)
    monkeypatch.setattr("wss.blocks.BLOCK", 32)
    monkeypatch.setattr("wss.blocks.MARGIN", 8)
    image = np.kron(_image(-(-size[0] // 4), -(-size[1] // 4)), np.ones((4, 4, 1), np.uint8))[: size[0], : size[1]]
    predictor = _predictor(**options)
    whole = predictor._whole(image)
    predictor.model.sizes.clear()
    seen = np.zeros(size, int)
    for area, maps in predictor.parts(image):
        assert maps.shape == (2, area[0].stop - area[0].start, area[1].stop - area[1].start)
        seen[area] += 1
    assert (seen == 1).all()
    assert max(map(max, predictor.model.sizes)) <= (48 if np.prod(size) > 2000 else 53)
    np.testing.assert_allclose(predictor.probabilities(image), whole, atol=1e-5 if not options else 0.3)
    assert (predictor(image) == predictor.probabilities(image).argmax(0)).all()


def test_blocks_of_a_network_that_looks_around_are_those_of_the_whole_image(monkeypatch):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 2, 9, padding=4)
    predictor = Predictor(network, ["a", "b"], PALETTE, torch.device("cpu"))
    image = _image(150, 90)
    whole = predictor.probabilities(image)
    monkeypatch.setattr("wss.predictor.WHOLE", 1000)
    monkeypatch.setattr("wss.blocks.BLOCK", 32)
    monkeypatch.setattr("wss.blocks.MARGIN", 4)
    np.testing.assert_allclose(predictor.probabilities(image), whole, atol=1e-4)
    monkeypatch.setattr("wss.blocks.MARGIN", 3)
    assert np.abs(predictor.probabilities(image) - whole).max() > 1e-2
