from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.reference import metrics_from_definitions as reference
from wss.errors import DataError, UsageError
from wss.metrics import dice_volume, hd95


def box(shape, *slices, label=1):
    volume = np.zeros(shape, np.uint8)
    volume[slices] = label
    return volume


def test_dice_by_hand():
    truth = box((1, 1, 6), slice(None), slice(None), slice(0, 4))
    prediction = box((1, 1, 6), slice(None), slice(None), slice(2, 6))
    assert dice_volume(truth, prediction, 1) == pytest.approx(2 * 2 / 8)
    assert dice_volume(truth, prediction, 0) == 0
    assert np.isnan(dice_volume(truth, prediction, 2))
    assert dice_volume(truth, np.zeros_like(truth), 1) == 0
    assert dice_volume(np.zeros_like(truth), truth, 1) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_plane_is_as_far_as_it_was_shifted(axis):
    spacing = (8.0, 1.5, 1.25)
    shape = (12, 12, 12)
    plane = [slice(None)] * 3
    plane[axis] = slice(2, 3)
    moved = list(plane)
    moved[axis] = slice(7, 8)
    result = hd95(box(shape, *plane), box(shape, *moved), 1, spacing_mm=spacing)
    assert result == pytest.approx(5 * spacing[axis])


def test_concentric_cubes():
    # Surfaces 2 mm apart: the inner one's points all at distance 2, the outer corners at sqrt(3) * 2.
    outer, inner = np.zeros((21, 21, 21), np.uint8), np.zeros((21, 21, 21), np.uint8)
    outer[2:19, 2:19, 2:19] = 1
    inner[4:17, 4:17, 4:17] = 1
    assert 2 <= hd95(outer, inner, 1, (1, 1, 1)) <= 2 * np.sqrt(2)
    assert hd95(outer, inner, 1, (1, 1, 1)) == hd95(inner, outer, 1, (1, 1, 1))


@pytest.mark.parametrize("seed", range(8))
def test_hd95_matches_brute_force_with_anisotropic_spacing(seed):
    rng = np.random.default_rng(seed)
    shape, spacing = (5, 9, 8), tuple(rng.uniform(0.5, 6, 3))
    truth, prediction = (
        (ndimage.gaussian_filter(rng.standard_normal(shape), 1.2) > 0.08).astype(np.uint8) for _ in range(2)
    )
    expected = reference.hd95(truth == 1, prediction == 1, spacing)
    assert hd95(truth, prediction, 1, spacing) == pytest.approx(expected, rel=1e-12)


def test_hd95_in_two_dimensions_matches_brute_force():
    rng = np.random.default_rng(3)
    truth, prediction = ((rng.random((9, 13)) < 0.3).astype(np.uint8) for _ in range(2))
    expected = reference.hd95(truth == 1, prediction == 1, (2.0, 0.7))
    assert hd95(truth, prediction, 1, (2.0, 0.7)) == pytest.approx(expected, rel=1e-12)


def test_spacing_scales_the_distance():
    rng = np.random.default_rng(5)
    truth, prediction = ((rng.random((4, 8, 8)) < 0.2).astype(np.uint8) for _ in range(2))
    once, thrice = (hd95(truth, prediction, 1, tuple(f * s for s in (2, 1, 1))) for f in (1, 3))
    assert thrice == pytest.approx(3 * once)


def test_equal_regions_are_at_distance_zero():
    region = box((4, 6, 6), slice(1, 3), slice(2, 5), slice(2, 5))
    assert hd95(region, region, 1, (2, 1, 1)) == 0


def test_a_region_at_the_border_of_the_volume_has_its_surface_there():
    full, thin = np.ones((9, 1, 1), np.uint8), box((9, 1, 1), slice(0, 1))
    # All voxels of both are surface: distances 0 from the thin one, 0..8 from the full one, pooled.
    expected = np.percentile([0, *range(9)], 95)
    assert hd95(full, thin, 1, (1, 1, 1)) == pytest.approx(expected)


def test_a_missing_region_is_worse_than_any_misplaced_one():
    spacing, shape = (4.0, 1.0, 1.0), (3, 5, 7)
    truth = box(shape, 0, 0, 0)
    farthest = box(shape, 2, 4, 6)
    empty = np.zeros(shape, np.uint8)
    diagonal = np.linalg.norm([12, 5, 7])
    assert hd95(truth, empty, 1, spacing) == hd95(empty, truth, 1, spacing) == pytest.approx(diagonal)
    assert hd95(truth, farthest, 1, spacing) < diagonal
    assert np.isnan(hd95(empty, empty, 1, spacing))


def test_void_voxels_do_not_count():
    truth = box((1, 1, 6), slice(None), slice(None), slice(0, 2))
    prediction = box((1, 1, 6), slice(None), slice(None), slice(0, 6))
    truth[..., 2:] = 255
    assert dice_volume(truth, prediction, 1) == 1
    assert hd95(truth, prediction, 1, (1, 1, 1)) == 0


def test_other_labels_are_told_apart():
    truth, prediction = np.array([[[0, 1, 2, 3]]]), np.array([[[0, 1, 3, 2]]])
    assert [dice_volume(truth, prediction, k) for k in range(4)] == [1, 1, 0, 0]
    assert [hd95(truth, prediction, k, (1, 1, 2)) for k in range(4)] == [0, 0, 2, 2]


def test_wrong_requests_are_refused():
    volume = np.ones((2, 3, 3), np.uint8)
    with pytest.raises(DataError, match="same slices"):
        dice_volume(volume, volume[:1], 1)
    for spacing in ((1, 1), (1, 0, 1), (1, float("nan"), 1)):
        with pytest.raises(UsageError, match="expected 3 spacings"):
            hd95(volume, volume, 1, spacing)
