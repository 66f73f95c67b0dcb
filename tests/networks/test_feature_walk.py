import numpy as np
import pytest
import torch

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.networks.layers.feature_walk import FeatureWalk


def _features(shape=(2, 6, 5, 7), seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _layer(channels=6, alpha=0.5, dtype=torch.float64, **options):
    torch.manual_seed(0)
    layer = FeatureWalk(channels, **options).to(dtype)
    torch.nn.init.constant_(layer.alpha, alpha)
    return layer


@pytest.mark.parametrize("embed", ["none", "cosine", "qkv"])
@pytest.mark.parametrize("cell", [1, 3])
def test_a_new_layer_changes_nothing(embed, cell):
    layer, features = FeatureWalk(6, embed=embed, cell=cell), _features(dtype=torch.float32)
    walk = layer(features)
    assert torch.equal(walk.features, features)
    assert torch.equal(walk.before, walk.after)
    walk.features.square().sum().backward()
    assert layer.alpha.grad.abs() > 0  # and yet learns


def test_parameters_at_512_channels():
    plain, embedded = FeatureWalk(512), FeatureWalk(512, embed="qkv")
    assert sum(p.numel() for p in plain.parameters()) == 1
    assert sum(p.numel() for p in embedded.parameters()) == 328_321


@pytest.mark.parametrize("embed", ["none", "cosine", "qkv"])
def test_reference(embed):
    layer, features = _layer(embed=embed, scale=0.3), _features()
    parts = [layer.embedding[n](features) if layer.embedding else features for n in ("query", "key", "value")]
    for b in range(2):
        query, key, value = (part[b].detach().numpy() for part in parts)
        if embed == "cosine":
            query = key = query / np.sqrt((query**2).sum(0))
        matrix = eigenspace.transition(0.3 * query, key)
        expected = 0.5 * (matrix @ value.reshape(6, -1).T).T.reshape(6, 5, 7) + features[b].numpy()
        found = layer(features, transition=True)
        torch.testing.assert_close(found.features[b].detach(), torch.from_numpy(expected))
        torch.testing.assert_close(found.log_transition[b].exp().detach(), torch.from_numpy(matrix))


@pytest.mark.parametrize("embed", ["none", "cosine", "qkv"])
@pytest.mark.parametrize("cell", [1, 2])
def test_with_and_without_the_matrix(embed, cell):
    layer = _layer(embed=embed, cell=cell)
    features = _features().requires_grad_()
    held, fused = layer(features, transition=True), layer(features)
    assert fused.log_transition is None
    for name in ("features", "before", "after"):
        torch.testing.assert_close(getattr(fused, name), getattr(held, name))
    leaves = [features, *layer.parameters()]
    wanted = torch.autograd.grad(held.features.square().sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad(fused.features.square().sum(), leaves), wanted)


def test_cells_walk_and_details_stay():
    layer, features = _layer(cell=2), _features((1, 6, 5, 7))
    walk = layer(features, transition=True)
    assert walk.before.shape == (1, 6, 3, 4)
    assert walk.log_transition.shape == (1, 12, 12)
    torch.testing.assert_close(walk.before[0, :, 2, 3], features[0, :, 4, 6])  # a cell of one position
    torch.testing.assert_close(walk.before[0, :, 0, 1], features[0, :, :2, 2:4].mean((1, 2)))
    coarse = _layer(cell=1)(walk.before)
    torch.testing.assert_close(walk.after, coarse.features)
    flat = _layer(cell=2)(torch.ones(1, 6, 5, 7, dtype=torch.float64))
    torch.testing.assert_close(flat.features, torch.full((1, 6, 5, 7), 1.5, dtype=torch.float64))


def test_two_kinds_of_positions_become_two_means():
    kinds = torch.zeros(1, 2, 2, 4)
    kinds[:, 0, :, :2], kinds[:, 1, :, 2:] = 30, 30
    kinds = kinds + 0.1 * _features((1, 2, 2, 4), dtype=torch.float32)
    walk = _layer(2, alpha=1.0, dtype=torch.float32)(kinds)
    walked = walk.after - walk.before
    left, right = walked[..., :2], walked[..., 2:]
    assert left.std((2, 3)).max() < kinds[..., :2].std((2, 3)).max()
    assert (left[:, 0].mean() - left[:, 1].mean()) > 29
    assert (right[:, 1].mean() - right[:, 0].mean()) > 29


def test_long_features_draw_others_only_by_inner_products():
    features = torch.tensor([[1.0, 0.2], [0.9, 0.3], [6.0, 6.0]], dtype=torch.float64).T.reshape(1, 2, 1, 3)
    inner, cosine = (
        _layer(2, embed=embed, scale=scale)(features, transition=True).log_transition[0].exp()
        for embed, scale in (("none", 1.0), ("cosine", 20.0))
    )
    assert inner[0, 2] > 0.9  # the third position is the longest, not the most similar
    assert cosine[0, 1] > 4 * cosine[0, 2]
    nothing = _layer(2, embed="cosine")(torch.zeros(1, 2, 2, 2, dtype=torch.float64), transition=True)
    torch.testing.assert_close(nothing.log_transition.exp(), torch.full((1, 4, 4), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("embed", ["cosine", "qkv"])
@pytest.mark.parametrize("transition", [False, True])
def test_runs_under_autocast(transition, embed):
    layer, features = _layer(dtype=torch.float32, embed=embed), _features(dtype=torch.float32)
    plain = layer(features, transition)
    with torch.autocast("cpu", torch.bfloat16):
        walk = layer(features.bfloat16(), transition)
    assert walk.features.dtype == torch.bfloat16
    torch.testing.assert_close(walk.features.float(), plain.features, rtol=0.05, atol=0.05)
    if transition:
        assert walk.log_transition.dtype == torch.float32


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="cell"):
        FeatureWalk(4, cell=0)
    with pytest.raises(UsageError, match="none, cosine or qkv"):
        FeatureWalk(4, embed="gaussian")
