import numpy as np
import pytest

from wss.errors import UsageError
from wss.ops import leading_eigenvectors
from wss.ops.eigenvectors import DENSE_SIZE


def _two_groups(first, second, leak):
    """Two groups in which a walk stays but for a small chance."""
    size = first + second
    matrix = np.full((size, size), leak)
    matrix[:first, :first] = matrix[first:, first:] = 1.0
    return matrix / matrix.sum(1, keepdims=True)


@pytest.mark.parametrize("sizes", [(5, 9), (DENSE_SIZE // 2 + 20, DENSE_SIZE // 2 + 5)])
def test_the_slow_mode_tells_groups_apart(sizes):
    matrix = _two_groups(*sizes, 1e-3)
    values, vectors = leading_eigenvectors(matrix.astype(np.float32), 1)
    assert vectors.shape == (sum(sizes), 1)
    np.testing.assert_allclose(matrix @ vectors[:, 0], values[0] * vectors[:, 0], atol=1e-6)
    assert 0.9 < values[0] < 1
    assert len(set(np.sign(vectors[: sizes[0], 0]))) == len(set(np.sign(vectors[sizes[0] :, 0]))) == 1
    assert np.sign(vectors[0, 0]) != np.sign(vectors[-1, 0])


def test_values_fall_and_signs_are_fixed():
    rng = np.random.default_rng(0)
    matrix = rng.random((30, 30)) ** 4
    matrix /= matrix.sum(1, keepdims=True)
    values, vectors = leading_eigenvectors(matrix, 4)
    assert (np.diff(values) <= 1e-12).all()
    assert values[0] < 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1)
    assert ((vectors**3).sum(0) >= 0).all()


def test_small_matrices_have_fewer():
    values, vectors = leading_eigenvectors(np.array([[0.9, 0.1], [0.2, 0.8]]), 3)
    np.testing.assert_allclose(values, [0.7])
    assert vectors.shape == (2, 1)
    assert leading_eigenvectors(np.ones((1, 1)), 2)[1].shape == (1, 0)


def test_wrong_arguments():
    with pytest.raises(UsageError, match="square"):
        leading_eigenvectors(np.ones((2, 3)), 1)
    with pytest.raises(UsageError, match="at least 1"):
        leading_eigenvectors(np.eye(2), 0)
