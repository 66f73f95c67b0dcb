import cv2
import numpy as np
import pytest
import torch
from torch import nn

from wss.edges import averaged, gradient_edges, network_detector, structured_forest
from wss.errors import DataError, UsageError


def step_image(column=30, size=(40, 60), right=(200, 120, 40)):
    image = np.full((*size, 3), 120, np.uint8)
    image[:, column:] = right
    return image


def test_the_gradient_finds_a_step_and_nothing_else():
    edges = gradient_edges(step_image())
    assert edges.dtype == np.float32
    assert edges.max() == 1
    assert (edges.argmax(1) - 29.5 <= 1).all()
    assert edges[:, 29:31].min() > 0.9
    assert edges[:, :10].max() < 0.01


def test_the_gradient_sees_colour_alone_and_texture_alone():
    lab = np.full((40, 60, 3), (60, 0, 0), np.float32)
    lab[:, 30:, 1] = 30
    colour = gradient_edges((255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)).round().astype(np.uint8))
    assert colour[:, 28:32].mean() > 4 * colour[:, :15].mean() + 0.3
    texture = np.full((64, 96, 3), 120, np.uint8)
    texture[:, 48:] += (40 * (np.indices((64, 48)).sum(0) % 2)).astype(np.uint8)[..., None]
    edges = gradient_edges(texture)
    assert edges[16:48, 44:52].mean() > 1.3 * edges[16:48, 70:85].mean()


def test_the_gradient_of_constant_and_tiny_images():
    assert not gradient_edges(np.full((20, 20, 3), 77, np.uint8)).any()
    assert gradient_edges(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1)


def test_weak_contrast_stays_weak():
    weak = gradient_edges(step_image(right=(122, 121, 119)))
    assert 0 < weak.max() < 0.3


def test_averaging_over_scales_and_mirror_images():
    seen = []

    def detect(image):
        seen.append(image.shape[:2])
        return image[..., 0].astype(np.float32) / 255

    image = step_image()
    mean = averaged(detect, image, scales=(0.5, 1.0, 1.5), flip=True)
    assert seen == [(20, 30)] * 2 + [(40, 60)] * 2 + [(60, 90)] * 2
    assert mean.shape == (40, 60)
    assert np.abs(mean - image[..., 0] / 255)[:, np.r_[:25, 35:60]].max() < 0.01


def test_a_mirrored_map_comes_back_the_right_way():
    def left_half(image):
        edges = np.zeros(image.shape[:2], np.float32)
        edges[:, : image.shape[1] // 2] = 1
        return edges

    assert np.allclose(averaged(left_half, step_image(), flip=True), 0.5)


class Brightness(nn.Module):
    def forward(self, image):
        return torch.stack([image[:, 0] * 0, (image[:, 0] - 127) / 10], 1)


def test_a_network_gives_its_last_map_as_probabilities():
    image = step_image()
    edges = network_detector(Brightness())(image)
    assert edges.dtype == np.float32
    assert edges[0, 0] == pytest.approx(1 / (1 + np.exp(0.7)), rel=1e-5)
    assert edges[0, -1] > 0.99


def test_structured_forests_say_what_they_lack(tmp_path, monkeypatch):
    if not hasattr(cv2, "ximgproc"):
        with pytest.raises(UsageError, match="opencv-contrib-python-headless"):
            structured_forest(tmp_path / "model.yml.gz")

    class Contributed:
        @staticmethod
        def createStructuredEdgeDetection(path):
            class Forest:
                def detectEdges(self, image):
                    assert image.dtype == np.float32
                    assert image.max() <= 1
                    return image[..., 0] * 2

            return Forest()

    monkeypatch.setattr(cv2, "ximgproc", Contributed, raising=False)
    with pytest.raises(DataError, match="no such file"):
        structured_forest(tmp_path / "model.yml.gz")
    (tmp_path / "model.yml.gz").touch()
    edges = structured_forest(tmp_path / "model.yml.gz")(step_image())
    assert edges.max() == 1
