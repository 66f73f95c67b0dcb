import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import thin as reference

from wss.metrics.thinning import thin


def blobs(seed):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=generator.integers(1, 90, 2))
    smooth = cv2.GaussianBlur(noise, (0, 0), generator.uniform(0.3, 4))
    return smooth >= np.quantile(smooth, generator.uniform())


@pytest.mark.parametrize("seed", range(40))
def test_parity_with_scikit_image(seed):
    assert np.array_equal(thin(blobs(seed)), reference(blobs(seed)))


def test_every_neighbourhood():
    """All 512 pictures of 3x3 pixels, side by side with space between them."""
    bits = (np.arange(512)[:, None] >> np.arange(9)) & 1 == 1
    picture = np.pad(bits.reshape(512, 3, 3), ((0, 0), (1, 1), (1, 1))).reshape(512 * 5, 5)
    assert np.array_equal(thin(picture), reference(picture))


def test_a_bar_becomes_its_centre_line():
    bar = np.zeros((9, 20), bool)
    bar[3:6, 2:18] = True
    assert np.flatnonzero(thin(bar).any(1)).tolist() == [4]
    assert thin(bar).sum() >= 13


def test_stairs_lose_their_corners():
    """Contours between pixels turn into steps of two pixels; a line over corners needs one."""
    steps = np.zeros((20, 20), bool)
    steps[np.arange(20), np.arange(20)] = steps[np.arange(1, 20), np.arange(19)] = True
    assert steps.sum() == 39
    assert thin(steps).sum() <= 21


@pytest.mark.parametrize("seed", range(5))
def test_regions_and_holes_stay(seed):
    mask = blobs(100 + seed)
    over_corners, thinned = np.ones((3, 3)), thin(mask)
    assert not (thinned & ~mask).any()
    assert ndimage.label(thinned, over_corners)[1] == ndimage.label(mask, over_corners)[1]
    assert ndimage.label(~np.pad(thinned, 1))[1] == ndimage.label(~np.pad(mask, 1))[1]
    assert np.array_equal(thin(thinned), thinned)
