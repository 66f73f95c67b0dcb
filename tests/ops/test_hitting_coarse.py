import numpy as np
import pytest
import torch

from wss.datasets.sample import SampleSource
from wss.errors import UsageError
from wss.ops import colour_gradient, hitting_coarse, hitting_probabilities
from wss.ops.hitting import cheapest_levels
from wss.ops.hitting_coarse import CoarseHitting
from wss.propagation import RandomWalk
from wss.scribbles import rasterise


def _scene(number, height=240, width=320):
    """Boundary scores of a generated scene, and its scribbles as ranks."""
    sample = SampleSource(train=number + 1, val=0, height=height, width=width).read(f"train-{number:04d}")
    rgb = torch.tensor(sample.image, dtype=torch.float64).permute(2, 0, 1)[None]
    scribble = rasterise(sample.strokes, (height, width))
    present, ranks = np.unique(scribble, return_inverse=True)
    ranks = np.where(scribble == 255, 255, ranks.reshape(scribble.shape)).astype(np.uint8)
    return 1e6 * colour_gradient(rgb, smooth_px=0.5)[0].numpy() ** 4, ranks, len(present) - 1


def _slow(boundary, ranks, count):
    """The walk over every pixel."""
    return hitting_probabilities(
        torch.from_numpy(boundary)[None], torch.from_numpy(ranks.astype(np.int64))[None], count
    )[0].numpy()


@pytest.mark.parametrize(
    ("number", "nodes", "scale", "agreement"),
    [(0, 20_000, 2, 0.97), (0, 9_000, 3, 0.96), (1, 20_000, 2, 0.94), (2, 20_000, 2, 0.96)],
)
def test_labels_agree_with_the_walk_over_every_pixel(number, nodes, scale, agreement):
    boundary, ranks, count = _scene(number)
    found = CoarseHitting(boundary, nodes).solve(ranks, count)
    assert found.scale == scale
    exact = _slow(boundary, ranks, count)
    assert (found.ranks == exact.argmax(0)).mean() > agreement
    coarse = np.repeat(np.repeat(found.probs, scale, 1), scale, 2)[:, : ranks.shape[0], : ranks.shape[1]]
    assert np.abs(coarse - exact).mean() < 0.03


def test_enough_nodes_give_the_walk_over_every_pixel():
    boundary, ranks, count = _scene(0, 60, 80)
    found = CoarseHitting(boundary, 60 * 80).solve(ranks, count)
    exact = _slow(boundary, ranks, count)
    np.testing.assert_allclose(found.probs, exact, atol=1e-12)
    np.testing.assert_array_equal(found.ranks, exact.argmax(0))


@pytest.mark.parametrize("column", [20, 21, 22, 23, 24, 25])
def test_a_label_ends_at_the_wall_wherever_nodes_are(column):
    boundary = np.zeros((48, 48))
    boundary[:, column] = 50.0
    ranks = np.full((48, 48), 255, np.uint8)
    ranks[20:28, 4], ranks[20:28, 44] = 0, 1
    found = CoarseHitting(boundary, 200).solve(ranks, 2)
    assert found.scale == 4
    assert (found.ranks[:, :column] == 0).all() and (found.ranks[:, column + 1 :] == 1).all()


@pytest.mark.parametrize("score", [0.0, 0.002, 0.02, 0.2])
def test_probabilities_of_nodes_are_those_of_their_pixels(score):
    """Between two walls of labels, at any boundary score: how soon one label gives way to the other depends on it."""
    ranks = np.full((16, 64), 255, np.uint8)
    ranks[:, :4], ranks[:, 60:] = 0, 1
    boundary = np.full((16, 64), score)
    found = CoarseHitting(boundary, 64).solve(ranks, 2)
    assert found.scale == 4
    exact = _slow(boundary, ranks, 2).reshape(2, 4, 4, 16, 4).mean((2, 4))
    np.testing.assert_allclose(found.probs, exact, atol=0.07)


def test_scribbled_pixels_keep_their_labels_even_where_a_node_has_two():
    ranks = np.full((40, 40), 255, np.uint8)
    ranks[10, ::2], ranks[10, 1::2], ranks[30] = 0, 1, 2
    found = CoarseHitting(np.zeros((40, 40)), 100).solve(ranks, 3)
    np.testing.assert_array_equal(found.ranks[ranks != 255], ranks[ranks != 255])


def test_sizes_that_the_scale_does_not_divide():
    rng = np.random.default_rng(0)
    for height, width in ((31, 47), (1, 200), (100, 3)):
        ranks = np.full((height, width), 255, np.uint8)
        ranks[0, 0], ranks[-1, -1] = 0, 1
        found = CoarseHitting(rng.uniform(0, 3, (height, width)), 60).solve(ranks, 2)
        assert found.ranks.shape == (height, width) and set(np.unique(found.ranks)) <= {0, 1}
        np.testing.assert_allclose(found.probs.sum(0), 1)


def test_walls_that_no_walk_passes():
    boundary = np.zeros((40, 40))
    boundary[:, 20] = np.inf
    ranks = np.full((40, 40), 255, np.uint8)
    ranks[5, 5], ranks[30, 35] = 0, 1
    found = CoarseHitting(boundary, 400).solve(ranks, 2)
    assert (found.ranks[:, :18] == 0).all() and (found.ranks[:, 23:] == 1).all()


def test_one_node_for_many_pixels_falls_off_as_they_do():
    """k(B) per pixel is what a plane wave loses: 2 cosh k + 2 = 4 exp B."""
    boundary = np.array([[0.0, 1e-9, 0.001, 0.3, 5.0, 29.0, 31.0, 1e6]])
    decay = hitting_coarse._decay(boundary).astype(np.float64)
    small = boundary < 20
    np.testing.assert_allclose(2 * np.cosh(decay[small]) + 2, 4 * np.exp(boundary[small]), rtol=1e-6)
    np.testing.assert_allclose(hitting_coarse._boundary_of(decay), boundary, rtol=1e-5, atol=1e-12)


def test_a_start_changes_the_time_and_not_the_result():
    boundary, ranks, count = _scene(1, 48, 64)
    b, s = torch.from_numpy(boundary)[None], torch.from_numpy(ranks.astype(np.int64))[None]
    plain = hitting_probabilities(b, s, count)
    started = hitting_probabilities(b, s, count, potential=cheapest_levels(b, s))
    torch.testing.assert_close(started, plain, atol=1e-10, rtol=1e-10)


def test_a_start_leaves_the_gradient_alone():
    boundary, ranks, count = _scene(2, 32, 40)
    s = torch.from_numpy(ranks.astype(np.int64))[None]
    gradients = []
    for start in (False, True):
        b = torch.from_numpy(boundary)[None].requires_grad_()
        probs = hitting_probabilities(b, s, count, potential=cheapest_levels(b.detach(), s) if start else None)
        (probs * torch.arange(probs.numel()).reshape(probs.shape)).sum().backward()
        gradients.append(b.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6 * float(gradients[0].abs().max()))


def test_unusable_arguments_are_refused():
    with pytest.raises(UsageError, match="at least one node"):
        CoarseHitting(np.zeros((4, 4)), 0)
    with pytest.raises(UsageError, match="boundary"):
        CoarseHitting(np.zeros((1, 4, 4)), 10)


def test_the_propagation_takes_it_by_a_parameter():
    sample = SampleSource(train=1, val=0).read("train-0000")
    scribble = rasterise(sample.strokes, sample.mask.shape)
    whole = RandomWalk().propagate(sample.image, scribble, 7)
    grid = RandomWalk(nodes=3100).propagate(sample.image, scribble, 7)
    assert whole.scale == 1 and grid.scale == 2 and grid.margin.shape == (48, 64)
    assert (whole.labels == grid.labels).mean() > 0.95
    assert grid.doubt.shape == scribble.shape and (grid.doubt[scribble != 255] == 0).all()
    assert grid.margin.min() >= 0 and grid.margin.max() <= 1
