import numpy as np
import pytest
import torch

from tests.reference.spanning_tree import averages, distances, lengths_of, prim
from wss.errors import DataError, UsageError
from wss.kernels import tree as kernel
from wss.ops import SpanningTree, spanning_tree, tree_filter

BACKENDS = ["scipy", pytest.param("native", marks=pytest.mark.skipif(not kernel.available(), reason="not compiled"))]
SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (2, 7), (7, 2), (6, 9)]


def _features(height, width, batch=2, levels=4, seed=0):
    """Few levels, so that many edges are equally long, and flat parts."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, levels, (batch, 2, height, width), generator=generator).float() / 2
    maps[:, :, : height // 2] = 0.5
    return maps


def _edges(trees, image):
    order, parent = trees.order[image].tolist(), trees.parent[image].tolist()
    pairs = {tuple(sorted((pixel, order[above]))) for pixel, above in zip(order[1:], parent[1:], strict=True)}
    assert sorted(order) == list(range(len(order)))
    assert all(above < place for place, above in enumerate(parent) if place)
    return pairs


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [2, 1000])
def test_trees_and_averages_are_those_of_the_reference(backend, size, levels):
    features = _features(*size, levels=levels)
    values = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    trees = spanning_tree(features, backend=backend)
    found = tree_filter(values, trees, sigma=0.7)
    for b in range(2):
        lengths = lengths_of(features[b].numpy())
        edges = prim(lengths, size[0] * size[1])
        assert _edges(trees, b) == edges
        order, parent = trees.order[b].tolist(), trees.parent[b].tolist()
        for place in range(1, len(order)):
            pair = tuple(sorted((order[place], order[parent[place]])))
            assert float(trees.length[b, place]) == pytest.approx(float(lengths[pair]))
        expected = averages(values[b].flatten(1).numpy(), distances(edges, lengths, size[0] * size[1]), 0.7)
        np.testing.assert_allclose(found[b].flatten(1).numpy(), expected, rtol=1e-9)


@pytest.mark.skipif(not kernel.available(), reason="not compiled")
@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_backends_agree_on_larger_images(levels):
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(0, levels, (3, 3, 61, 83), generator=generator).float().mul(1 / levels)
    values = torch.rand(3, 4, 61, 83, generator=generator)
    trees = [spanning_tree(features, backend=backend) for backend in ("scipy", "native")]
    for b in range(3):
        assert _edges(trees[0], b) == _edges(trees[1], b)
    slow, fast = (tree_filter(values, each, sigma=0.05) for each in trees)
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-7)
    one = tree_filter(values, spanning_tree(features, backend="native", jobs=2), sigma=0.05, jobs=2)
    assert torch.equal(one, fast)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_passes_what_is_not_valid(backend):
    features, values = _features(6, 9), torch.rand(2, 3, 6, 9)
    valid = torch.ones(2, 6, 9, dtype=torch.bool)
    valid[0, :, 4], valid[1] = False, False
    features[~valid[:, None].expand_as(features)] = torch.nan
    found = tree_filter(values, spanning_tree(features, valid=valid, backend=backend))
    for part in (slice(0, 4), slice(5, 9)):
        alone = tree_filter(values[:1, ..., part], spanning_tree(features[:1, ..., part], backend=backend))
        torch.testing.assert_close(found[:1, ..., part], alone)
    assert torch.equal(found[0, :, :, 4], values[0, :, :, 4])
    assert torch.equal(found[1], values[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_range_constants_and_extremes_of_sigma(backend):
    features = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    values = torch.rand(1, 2, 8, 8)
    trees = spanning_tree(features, backend=backend)
    found = tree_filter(values, trees, sigma=0.1)
    assert values.min() <= found.min() <= found.max() <= values.max()
    torch.testing.assert_close(tree_filter(torch.ones_like(values), trees, sigma=0.1), torch.ones_like(values))
    torch.testing.assert_close(tree_filter(values, trees, sigma=1e-9), values)
    everywhere = values.mean((2, 3), keepdim=True).expand_as(values)
    torch.testing.assert_close(tree_filter(values, trees, sigma=1e9), everywhere)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_layouts_and_gradients(backend, dtype):
    features, values = _features(6, 9).to(dtype), torch.rand(2, 3, 6, 9).to(dtype)
    trees = spanning_tree(features, backend=backend)
    found = tree_filter(values.requires_grad_(), trees)
    assert found.dtype == dtype
    assert not found.requires_grad
    other = spanning_tree(features.contiguous(memory_format=torch.channels_last), backend=backend)
    assert torch.equal(other.order, trees.order)
    strided = values.detach().repeat_interleave(2, 3)[..., ::2]
    assert torch.equal(tree_filter(strided, trees), found)


def test_an_empty_batch():
    trees = spanning_tree(torch.rand(0, 3, 4, 5), backend="auto")
    assert tree_filter(torch.rand(0, 2, 4, 5), trees).shape == (0, 2, 4, 5)


def test_wrong_arguments_are_named():
    features = torch.rand(2, 3, 4, 5)
    cases = [
        (UsageError, "floating point", features.long(), {}),
        (UsageError, r"\(B,C,H,W\)", features[0], {}),
        (UsageError, "valid must be bool", features, {"valid": torch.ones(2, 4, 5)}),
        (UsageError, "auto, native or scipy", features, {"backend": "torch"}),
        (DataError, "finite on valid pixels", features * torch.nan, {}),
    ]
    for error, message, given, settings in cases:
        with pytest.raises(error, match=message):
            spanning_tree(given, **settings)
    trees = spanning_tree(features)
    assert isinstance(trees, SpanningTree)
    with pytest.raises(UsageError, match="2 images of 4x5"):
        tree_filter(torch.rand(2, 3, 5, 5), trees)
    with pytest.raises(UsageError, match="2 images of 4x5"):
        tree_filter(torch.rand(3, 4, 5), trees)
    with pytest.raises(UsageError, match="sigma must be positive"):
        tree_filter(features, trees, sigma=0.0)


def test_without_the_kernel_scipy_takes_over(monkeypatch):
    monkeypatch.setattr(kernel, "library", lambda: None)
    assert spanning_tree(torch.rand(1, 3, 4, 5)).backend == "scipy"
    with pytest.raises(UsageError, match=r"compiled kernels.*backend='scipy'"):
        spanning_tree(torch.rand(1, 3, 4, 5), backend="native")
