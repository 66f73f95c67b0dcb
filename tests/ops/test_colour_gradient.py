import cv2
import numpy as np
import pytest
import torch

from wss.errors import UsageError
from wss.ops import colour_gradient


def _images(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape)).double()


def _expected(image, sigma):
    """By OpenCV's conversion and smoothing, and NumPy's differences."""
    rgb = image.permute(1, 2, 0).numpy().astype(np.float32) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float64)
    spread = np.sqrt(lab.var((0, 1)).sum())
    if sigma:
        lab = cv2.GaussianBlur(lab, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.sqrt(sum((np.gradient(lab, axis=axis) ** 2).sum(2) for axis in (0, 1))) / spread


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("shape", [(17, 12), (2, 9), (9, 3)])
def test_against_opencv_and_numpy(sigma, shape):
    images = _images(2, 3, *shape)
    for image, found in zip(images, colour_gradient(images, smooth_px=sigma), strict=True):
        expected = _expected(image, sigma)
        np.testing.assert_allclose(found, expected, atol=5e-3 * expected.max())  # OpenCV looks its colours up in tables


def test_a_step_by_hand():
    images = torch.zeros(1, 3, 4, 6)
    images[..., 3:] = 255
    # Lightness 0 and 100, half of the pixels each, has the deviation 50; central differences halve the step.
    found = colour_gradient(images, smooth_px=0.0)[0]
    expected = torch.tensor([0, 0, 1, 1, 0, 0.0]).expand(4, 6)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_contrast_places_and_batches_do_not_matter():
    grey = (_images(1, 1, 11, 14) / 8).expand(-1, 3, -1, -1)
    images = torch.cat([_images(2, 3, 11, 14, seed=1), grey])
    found = colour_gradient(images)
    torch.testing.assert_close(colour_gradient(images.flip(3)).flip(2), found)
    torch.testing.assert_close(colour_gradient(images.mT).mT, found)
    torch.testing.assert_close(torch.cat([colour_gradient(i[None]) for i in images]), found)
    strided = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(colour_gradient(strided), found)


def test_nothing_to_see():
    for value in (0.0, 93.0, 255.0):
        assert colour_gradient(torch.full((1, 3, 5, 7), value)).max() < 1e-2
    assert colour_gradient(_images(1, 3, 1, 1)).tolist() == [[[0.0]]]
    assert colour_gradient(_images(1, 3, 1, 5)).shape == (1, 1, 5)


def test_precision_is_kept_under_autocast():
    images = _images(1, 3, 8, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = colour_gradient(images)
    assert found.dtype == torch.float32
    assert torch.equal(found, colour_gradient(images))
    assert colour_gradient(images.half()).dtype == torch.float32


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match=r"\(B,3,H,W\)"):
        colour_gradient(torch.zeros(3, 4, 5))
    with pytest.raises(UsageError, match="smooth_px"):
        colour_gradient(torch.zeros(1, 3, 4, 5), smooth_px=-1.0)
