import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference import eigenspace
from wss.errors import UsageError
from wss.ops import Transform, draw_transform, feature_walk_step, transform_transition, transition_matrix

TRANSFORMS = [Transform(True), Transform(rows=1), Transform(rows=-2), Transform(True, 2), Transform(True, -1)]


def _maps(shape=(2, 3, 4, 5), seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("with_keys", [False, True])
def test_reference(with_keys):
    queries, keys = _maps(), _maps(seed=1) if with_keys else None
    found = transition_matrix(queries, keys)
    expected = [
        eigenspace.transition(q.numpy(), k.numpy())
        for q, k in zip(queries, queries if keys is None else keys, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(transition_matrix(queries, keys, log=True).exp(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(2), 1)
    if not with_keys:
        np.testing.assert_allclose(transition_matrix(2 * queries, scale=0.25), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("similar", "moved"), [(3, 3), (2, 6), (6, 2)])
def test_a_step_is_the_matrix_times_the_features(similar, moved, dtype):
    queries, keys = (_maps((2, similar, 9, 7), seed, dtype).requires_grad_() for seed in (1, 2))
    values = _maps((2, moved, 9, 7), 3, dtype).requires_grad_()
    dense = (transition_matrix(queries, keys, scale=0.7) @ values.flatten(2).transpose(1, 2)).transpose(1, 2)
    fused = feature_walk_step(queries, keys, values, scale=0.7)
    torch.testing.assert_close(fused, dense.reshape_as(values))
    wanted = torch.autograd.grad(dense.square().sum(), (queries, keys, values))
    found = torch.autograd.grad(fused.square().sum(), (queries, keys, values))
    torch.testing.assert_close(found, wanted)


def test_a_step_on_the_features_themselves():
    features = _maps((1, 4, 1, 1))
    torch.testing.assert_close(feature_walk_step(features), features)  # there is nowhere else to go
    features = _maps(dtype=torch.float32).transpose(2, 3)
    walked = (transition_matrix(features) @ features.flatten(2).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(feature_walk_step(features), walked.reshape(features.shape))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("similar", "moved"), [(4, 4), (2, 6), (6, 2)])
def test_a_step_is_taken_by_the_fused_kernel(layout, similar, moved):
    queries = _maps((2, similar, 9, 7), dtype=torch.float32).to(memory_format=layout).requires_grad_()
    values = _maps((2, moved, 9, 7), 1, torch.float32).to(memory_format=layout)
    names, nodes = set(), [feature_walk_step(queries, queries, values).grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(node.name())
        nodes += [following for following, _ in node.next_functions if following is not None]
    assert any("ScaledDotProduct" in name for name in names), names
    assert not any("Softmax" in name for name in names), names


def test_gradients_of_the_matrix_and_of_a_step():
    queries, keys, values = (_maps((1, 2, 2, 3), seed).requires_grad_() for seed in (0, 1, 2))
    assert gradcheck(transition_matrix, (queries, keys))
    assert gradcheck(lambda q, k: transition_matrix(q, k, scale=0.5, log=True), (queries, keys))
    assert gradcheck(feature_walk_step, (queries, keys, values))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_a_transformed_matrix_is_that_of_transformed_features(transform, log):
    features = 2 * _maps()
    found = transform_transition(transition_matrix(features, log=log), transform, (4, 5), log=log)
    torch.testing.assert_close(found, transition_matrix(transform.features(features), log=log), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_indexing_is_the_product_with_computing_matrices(transform):
    matrix = _maps((3, 20, 20)).softmax(2)  # not of features: no symmetry may help
    expected = [eigenspace.transformed(p, 4, 5, transform.flip, transform.rows) for p in matrix.numpy()]
    np.testing.assert_allclose(transform_transition(matrix, transform, (4, 5)), expected, rtol=1e-12)
    logs = transform_transition(matrix.log(), transform, (4, 5), log=True)
    np.testing.assert_allclose(logs.exp(), expected, rtol=1e-12)
    if transform.flip and not transform.rows:
        again = transform_transition(transform_transition(matrix, transform, (4, 5)), transform, (4, 5))
        assert torch.equal(again, matrix)


@pytest.mark.parametrize("transform", [TRANSFORMS[0], TRANSFORMS[2]], ids=str)
def test_gradient_of_a_transformed_matrix(transform):
    matrix = _maps((1, 6, 6)).softmax(2).requires_grad_()
    assert gradcheck(lambda p: transform_transition(p, transform, (3, 2)), (matrix,))
    assert gradcheck(lambda p: transform_transition(p.log(), transform, (3, 2), log=True), (matrix,))


def test_logarithms_last_where_probabilities_end():
    features = torch.zeros(1, 2, 2, 2)
    features[0, 0, 0], features[0, 1, 1] = 20, 20  # rows of the map 400 apart
    features[0, 0, 1, 0] = -30
    assert (transition_matrix(features) == 0).any()
    cut = Transform(rows=1)
    logs = transform_transition(transition_matrix(features, log=True), cut, (2, 2), log=True)
    assert logs.isfinite().all()
    torch.testing.assert_close(logs, transition_matrix(cut.features(features), log=True))
    lost = torch.eye(4)[[1, 0, 0, 1]][None]  # the lower positions only go up
    assert not transform_transition(lost, cut, (2, 2)).any()


def test_images_features_and_matrices_share_a_transform():
    stride = 4
    image = _maps((1, 1, 14, 12))  # the last row of cells is half a cell
    for transform in TRANSFORMS[:3]:
        pool = torch.nn.AvgPool2d(stride, ceil_mode=True)
        if transform.rows < 0:
            image = image[:, :, :12]  # what is cut off at the bottom are whole cells
        torch.testing.assert_close(pool(transform.image(image, stride)), transform.features(pool(image)))


def test_transforms_that_leave_nothing_are_refused():
    with pytest.raises(UsageError, match="leaves nothing"):
        Transform(rows=-3).features(_maps((1, 2, 3, 3)))
    with pytest.raises(UsageError, match="leaves nothing"):
        transform_transition(torch.ones(1, 6, 6), Transform(rows=3), (3, 2))


@pytest.mark.parametrize("kind", ["flip", "translation", "random"])
def test_drawn_transforms(kind):
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_transform(kind, 12, max_shift=0.25, generator=generator) for _ in range(300)]
    assert all(t.flip != bool(t.rows) for t in drawn)
    assert {t.flip for t in drawn} == {"flip": {True}, "translation": {False}, "random": {True, False}}[kind]
    if kind != "flip":
        assert {t.rows for t in drawn if not t.flip} == {-3, -2, -1, 1, 2, 3}
    if kind == "random":
        assert 110 < sum(t.flip for t in drawn) < 190
    again = torch.Generator().manual_seed(0)
    assert drawn == [draw_transform(kind, 12, max_shift=0.25, generator=again) for _ in range(300)]


def test_a_single_row_is_flipped_and_two_may_lose_one():
    assert draw_transform("translation", 1, max_shift=0.9) == Transform(flip=True)
    assert abs(draw_transform("translation", 2, max_shift=0.9).rows) == 1


def test_wrong_arguments_are_named():
    maps = _maps()
    with pytest.raises(UsageError, match=r"\(B,C,h,w\)"):
        transition_matrix(maps, maps[:, :2])
    with pytest.raises(UsageError, match="scale"):
        transition_matrix(maps, scale=0)
    with pytest.raises(UsageError, match=r"\(B,D,h,w\)"):
        feature_walk_step(maps, maps, maps[:, :, 1:])
    with pytest.raises(UsageError, match=r"\(B,20,20\)"):
        transform_transition(torch.ones(2, 19, 19), Transform(True), (4, 5))
    with pytest.raises(UsageError, match="flip, translation or random"):
        draw_transform("rotation", 4, max_shift=0.5)
