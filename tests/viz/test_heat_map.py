import numpy as np
import pytest

from wss.errors import UsageError
from wss.viz import heat_map


def test_cold_is_grey_and_hot_is_red():
    image = np.full((2, 3, 3), (200, 100, 50), np.uint8)
    heat = np.array([[0, 0.5, 1], [0, 0.25, 1]])
    picture = heat_map(image, heat)
    assert picture.dtype == np.uint8
    grey = picture[0, 0]
    assert len(set(grey.tolist())) == 1
    assert picture[0, 2, 0] > picture[0, 2, 1:].max() + 50
    assert picture[0, 1, 1] > picture[0, 1, [0, 2]].max()
    assert picture[1, 1, 2] > picture[1, 1, 0]
    assert (heat_map(image, heat, alpha=0) == grey).all()
    assert (heat_map(image, heat.astype(np.float16)) == picture).all()


def test_what_is_no_heat_map_is_refused():
    image = np.zeros((2, 3, 3), np.uint8)
    for heat in (np.zeros((3, 2)), np.full((2, 3), 1.5), np.full((2, 3), np.nan)):
        with pytest.raises(UsageError):
            heat_map(image, heat)
