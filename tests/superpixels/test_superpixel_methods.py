import numpy as np
import pytest

from wss.errors import DataError, UsageError
from wss.superpixels import SUPERPIXEL_METHODS, Felzenszwalb, Slic, Ucm, in_reading_order


def _blocks(size=(40, 60)):
    """Four flat quarters of different colour."""
    image = np.zeros((*size, 3), np.uint8)
    h, w = size[0] // 2, size[1] // 2
    image[:h, :w], image[:h, w:], image[h:, :w], image[h:, w:] = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)
    return image


@pytest.mark.parametrize("method", SUPERPIXEL_METHODS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (33, 47)])
def test_every_pixel_has_one_of_contiguous_ids_in_reading_order(method, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    edges = np.random.default_rng(1).random(size) if method.needs_edges else None
    superpixels = method().segment(image, edges)
    assert superpixels.dtype == np.int32
    assert superpixels.shape == size
    ids, first = np.unique(superpixels, return_index=True)
    assert ids.tolist() == list(range(len(ids)))
    assert (np.diff(first) > 0).all()
    turned = None if edges is None else edges[:, ::-1].copy()[:, ::-1]
    again = method().segment(image[:, ::-1].copy()[:, ::-1], turned)  # views with negative strides
    assert (superpixels == again).all()


@pytest.mark.parametrize("method", [Felzenszwalb(scale=50, sigma=0), Slic(segments=24)])
def test_superpixels_keep_to_strong_edges(method):
    image = _blocks()
    superpixels = method.segment(image)
    assert superpixels.max() >= 3
    for number in range(superpixels.max() + 1):
        assert len(np.unique(image[superpixels == number], axis=0)) == 1


def test_the_parameters_change_the_number():
    ramp = np.add.outer(np.arange(48), np.arange(64))[..., None]
    image = (ramp + np.random.default_rng(1).integers(0, 30, (48, 64, 3))).astype(np.uint8)
    few, many = (Slic(segments=n).segment(image).max() for n in (10, 100))
    assert few < many
    few, many = (Felzenszwalb(min_size=n).segment(image).max() for n in (200, 5))
    assert few < many
    few, many = (Felzenszwalb(scale=s, min_size=1).segment(image).max() for s in (2000, 10))
    assert few < many


def test_ids_in_reading_order():
    assert in_reading_order(np.array([[7, 7, 2], [9, 2, 7]])).tolist() == [[0, 0, 1], [2, 1, 0]]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_refuses_what_is_no_image(image):
    with pytest.raises(DataError, match=r"\(H, W, 3\)"):
        Felzenszwalb().segment(image)


def test_edges_are_asked_for_and_checked():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(UsageError, match="need an edge map, but none is given"):
        Ucm().segment(image)
    for wrong in (np.zeros((4, 4)), np.zeros((4, 5), np.uint8), np.full((4, 5), 1.5), np.full((4, 5), np.nan)):
        with pytest.raises(DataError, match=r"edge map as floating point \(4, 5\) in 0..1"):
            Ucm().segment(image, wrong)
