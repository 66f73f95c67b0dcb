import numpy as np
import pytest

from wss.datasets.sample import SampleSource
from wss.errors import UsageError
from wss.propagation import DenseCRF, Superpixel
from wss.propagation.reduced import propagate_reduced, reduction
from wss.scribbles import rasterise


def test_a_reduced_copy_resembles_the_whole():
    sample = SampleSource(train=1, val=0).read("train-0000")
    scribble = rasterise(sample.strokes, sample.mask.shape)
    whole = DenseCRF().propagate(sample.image, scribble, 7)
    quick = propagate_reduced(DenseCRF(), sample.image, scribble, 7, 2)
    assert quick.labels.shape == scribble.shape and quick.scale == 2
    assert (quick.labels == whole.labels).mean() > 0.85
    np.testing.assert_array_equal(quick.labels[scribble != 255], scribble[scribble != 255])


def test_thin_strokes_do_not_vanish_and_the_majority_of_a_square_counts():
    image = np.zeros((9, 11, 3), np.uint8)
    scribble = np.full((9, 11), 255, np.uint8)
    scribble[1, 1], scribble[4, 4:7] = 1, (0, 2, 2)
    quick = propagate_reduced(DenseCRF(iterations=0), image, scribble, 3, 4)
    assert set(np.unique(quick.labels)) <= {0, 1, 2} and quick.labels[0, 0] == 1
    assert quick.labels[5, 7] == 2


def test_the_reduction_is_the_smallest_that_fits():
    assert reduction((100, 100), 10_000) == 1
    assert reduction((100, 101), 10_000) == 2
    assert reduction((1000, 1500), 30_000) == 8


def test_what_needs_superpixels_cannot_be_reduced():
    with pytest.raises(UsageError, match="superpixels"):
        propagate_reduced(Superpixel(), np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), 1, 2)
