import itertools

import numpy as np
import pytest
import torch
from torch import nn

from wss.predictor import InferenceParams, Predictor, _positions

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
