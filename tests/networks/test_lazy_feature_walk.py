import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.networks.layers.lazy_feature_walk import LazyFeatureWalk


def _features(shape=(2, 6, 5, 7), seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _reference(features, scale):
    return torch.from_numpy(np.stack([eigenspace.step_by_cosines(f.numpy(), scale) for f in features]))


@pytest.mark.parametrize(("scale", "alpha"), [(5, 0.5), (1.5, 2.0)])
def test_it_is_the_equation(scale, alpha):
    features = _features()
    expected = (alpha * _reference(features, scale) + features) / (1 + alpha)
    torch.testing.assert_close(LazyFeatureWalk(scale=scale, alpha=alpha)(features), expected)


@pytest.mark.parametrize("cell", [2, 3])
def test_cells_walk_and_details_stay(cell):
    features = _features()
    coarse = functional.avg_pool2d(features, cell, ceil_mode=True)
    moved = _reference(coarse, 5)
    fine = functional.interpolate(moved, scale_factor=cell, mode="bilinear", align_corners=False)[:, :, :5, :7]
    torch.testing.assert_close(LazyFeatureWalk(cell=cell)(features), (0.5 * fine + features) / 1.5)


def test_the_defaults_are_cosines_times_five_and_half_a_step():
    features = _features()
    torch.testing.assert_close(LazyFeatureWalk()(features), LazyFeatureWalk(cell=1, scale=5, alpha=0.5)(features))


def test_equal_features_stay_and_alpha_zero_changes_nothing():
    flat = torch.full((1, 3, 4, 5), 2.0)
    torch.testing.assert_close(LazyFeatureWalk(cell=2)(flat), flat)  # neither longer nor shorter
    assert torch.equal(LazyFeatureWalk(alpha=0)(_features()), _features())


def test_long_features_draw_nobody():
    features = torch.tensor([[1.0, 0.2], [0.9, 0.3], [60.0, 60.0]], dtype=torch.float64).T.reshape(1, 2, 1, 3)
    step = LazyFeatureWalk(scale=20).step(features)
    again = LazyFeatureWalk(scale=20).step(features * torch.tensor([1, 1, 1 / 60.0], dtype=torch.float64))
    first = features[0, :, 0, :2]
    assert (again[0, :, 0, :2] - first).abs().max() < 0.3
    shares = np.linalg.solve(np.array([[1, 1, 1], [1.0, 0.9, 60], [0.2, 0.3, 60]]), [1, *step[0, :, 0, 0].numpy()])
    assert shares[2] < 0.2


def test_it_has_no_weights_and_runs_under_autocast():
    layer, features = LazyFeatureWalk(cell=2), _features(dtype=torch.float32)
    assert not layer.state_dict()
    with torch.autocast("cpu", torch.bfloat16):
        walked = layer(features.bfloat16())
    assert walked.dtype == torch.bfloat16
    torch.testing.assert_close(walked.float(), layer(features), rtol=0.05, atol=0.05)


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="cell"):
        LazyFeatureWalk(cell=0)
    with pytest.raises(UsageError, match=r"alpha .* at least 0"):
        LazyFeatureWalk(alpha=-0.1)
    with pytest.raises(UsageError, match="scale must be positive"):
        LazyFeatureWalk(scale=0)(_features())
