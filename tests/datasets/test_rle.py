from __future__ import annotations

import numpy as np
import pytest
from coco_files import rle, runs

from wss.datasets.rle import RleError, decode_rle


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_round_trip(seed: int, packed: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(1, 90, 2))
    mask = rng.random(shape) < rng.choice([0.0, 0.01, 0.5, 1.0])
    if seed % 2:
        mask[: shape[0] // 2] = True  # long runs
    np.testing.assert_array_equal(decode_rle(rle(mask, packed=packed)), mask)


def test_by_hand() -> None:
    assert decode_rle({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [[False, True, False], [True, False, False]]
    assert decode_rle({"size": [2, 3], "counts": "123"}).tolist() == [[False, True, False], [True, False, False]]
    assert decode_rle({"size": [2, 3], "counts": b"06"}).all()
    assert not decode_rle({"size": (2, 3), "counts": [6]}).any()


def test_a_corner_as_the_format_s_own_library_writes_it() -> None:
    mask = np.zeros((100, 100), bool)
    mask[:50, 50:] = True
    encoded = {"size": [100, 100], "counts": "Xl4b1b1" + 98 * "0"}
    assert runs(mask)[:3] == [5000, 50, 50]
    assert rle(mask) == encoded
    np.testing.assert_array_equal(decode_rle(encoded), mask)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ([], "no run-length encoding"),
        ({"size": [2, 2]}, "no run-length encoding"),
        ({"size": [2], "counts": [4]}, r"expected \[height, width\]"),
        ({"size": [2, 0], "counts": []}, r"expected \[height, width\]"),
        ({"size": [2, 2.0], "counts": [4]}, r"expected \[height, width\]"),
        ({"size": [2, 2], "counts": 4}, "type int"),
        ({"size": [2, 2], "counts": [1, "3"]}, "not whole numbers"),
        ({"size": [2, 2], "counts": [5, -1]}, "negative"),
        ({"size": [2, 2], "counts": [3]}, "covers 3 pixels, 2x2 are 4"),
        ({"size": [2, 2], "counts": []}, "covers 0 pixels"),
        ({"size": [2, 2], "counts": ""}, "covers 0 pixels"),
        ({"size": [2, 2], "counts": "3~"}, "does not belong"),
        ({"size": [2, 2], "counts": "3 "}, "does not belong"),
        ({"size": [2, 2], "counts": "é"}, "covers|does not belong"),
        ({"size": [2, 2], "counts": "4P"}, "middle of a number"),
        ({"size": [2, 2], "counts": "o" * 30 + "1"}, "more than 8 digits"),
    ],
    ids=str,
)
def test_damaged_encodings(encoded: object, message: str) -> None:
    with pytest.raises(RleError, match=message):
        decode_rle(encoded)
