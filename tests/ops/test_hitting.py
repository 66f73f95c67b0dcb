import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.reference import hitting as reference
from wss.errors import DataError, UsageError
from wss.kernels import hitting as kernel
from wss.ops import hitting_probabilities, reachable

BACKENDS = [
    "scipy",
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(not kernel.available(), reason="native kernels not built")),
]
EXACT = 1e-10

extended = pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 16384, reason="no extended precision here")


def uniform(*shape, high=1.0, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * high


def scribbles(batch, height, width, classes=3, share=0.05, seed=0):
    """Random labels, at least two per image where there is room, other ones on each image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) > share] = 255
    labels[:, 0, 0], labels[:, -1, -1] = 0, classes - 1
    return labels


def walls(height, width, score):
    """A free plane cut by a closed ring, a line with a gap, and a line without."""
    boundary = torch.zeros(1, height, width, dtype=torch.float64)
    boundary[0, 2, 2:6] = boundary[0, 5, 2:6] = boundary[0, 2:6, 2] = boundary[0, 2:6, 5] = score
    boundary[0, :-2, width // 2 + 1] = score
    boundary[0, height - 3] = score
    return boundary


def serpent(size, score=1000.0):
    """One corridor through the whole image between walls."""
    boundary = torch.full((1, size, size), score, dtype=torch.float64)
    boundary[:, ::2] = 0
    for row in range(1, size, 2):
        boundary[:, row, -1 if row // 2 % 2 == 0 else 0] = 0
    return boundary


CASES = {
    "zero": torch.zeros(2, 9, 11, dtype=torch.float64),
    "uniform 1": uniform(2, 9, 11),
    "uniform 10": uniform(2, 9, 11, high=10.0),
    "thousand": torch.full((2, 5, 6), 1000.0, dtype=torch.float64),
    "uniform 1000": uniform(2, 6, 7, high=1000.0),
    "few thousands": 1000 * (uniform(2, 9, 11) < 0.3).double(),
    "walls of 40": walls(11, 13, 40.0),
    "walls of 1000": walls(11, 13, 1000.0),
    "row": uniform(3, 1, 17, high=5.0),
    "column": uniform(1, 17, 1, high=5.0),
    "two by two": uniform(1, 2, 2),
    "corridor": serpent(13),
    "free corridor": serpent(13, 3.0),
}


def expected(boundary, labels, classes=3):
    images = zip(boundary.numpy(), labels.numpy(), strict=True)
    return np.stack([reference.hitting_probabilities(b, s, classes) for b, s in images])


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    # Label 0, x, y, label 1 in a row: Z_x0 = a_x (1 + Z_y0), Z_y0 = a_y Z_x0 and so on, hence P_x0 = 1 / (1 + a_y).
    boundary = torch.tensor([[[9.0, 0.3, 0.7, 2.0]]], dtype=torch.float64)
    probs = hitting_probabilities(boundary, torch.tensor([[[0, 255, 255, 1]]]), 2, backend=backend)
    a_x, a_y = (math.exp(-b) / 4 for b in (0.3, 0.7))
    np.testing.assert_allclose(probs[0, 0, 0], [1, 1 / (1 + a_y), a_x / (1 + a_x), 0], rtol=1e-14)
    torch.testing.assert_close(probs.sum(1), torch.ones(1, 1, 4, dtype=torch.float64))


@extended
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_reference(name, backend):
    boundary = CASES[name]
    labels = scribbles(*boundary.shape)
    probs = hitting_probabilities(boundary, labels, 3, backend=backend)
    np.testing.assert_allclose(probs, expected(boundary, labels).astype(float), rtol=EXACT, atol=1e-200)


@extended
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["zero", "uniform 10", "walls of 40", "walls of 1000", "thousand", "corridor"])
def test_gradient_against_differences(name, backend):
    boundary = CASES[name][:1, :7, :8].clone()
    labels = scribbles(*boundary.shape)
    weights = uniform(1, 3, *boundary.shape[1:], seed=5)
    # From walls and from 0 upwards and downwards: the equations hold for any B.
    truth = reference.gradient(boundary[0].numpy(), labels[0].numpy(), weights[0].numpy())
    boundary.requires_grad_()
    (hitting_probabilities(boundary, labels, 3, backend=backend) * weights).sum().backward()
    np.testing.assert_allclose(boundary.grad[0], truth.astype(float), atol=1e-9 * float(abs(truth).max()) + 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend):
    labels = scribbles(2, 5, 6)
    labels[1] = torch.where(labels[1] == 1, 2, labels[1])
    assert gradcheck(
        lambda b: hitting_probabilities(b, labels, 4, backend=backend), uniform(2, 5, 6, high=3.0).requires_grad_()
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("score", [0.0, 1.0, 40.0, 1000.0])
def test_labels_stay_and_probabilities_sum_to_one(score, backend):
    boundary = uniform(2, 33, 29, high=score)
    labels = scribbles(2, 33, 29)
    probs = hitting_probabilities(boundary, labels, 3, backend=backend)
    assert ((probs >= 0) & (probs <= 1)).all()
    torch.testing.assert_close(probs.sum(1), torch.ones_like(boundary), rtol=0, atol=1e-14)
    hot = torch.nn.functional.one_hot(labels[labels != 255], 3).double()
    assert probs.movedim(1, -1)[labels != 255].equal(hot)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_corridor_keeps_its_middle(backend):
    """Z falls to about 1e-800 in the middle; by symmetry both labels are as near there."""
    size = 53
    boundary = serpent(size)
    labels = torch.full((1, size, size), 255)
    labels[0, 0, 0], labels[0, -1, -1] = 0, 1
    probs = hitting_probabilities(boundary, labels, 2, backend=backend)
    turned = hitting_probabilities(boundary.flip(1, 2), labels.flip(1, 2), 2, backend=backend).flip(2, 3)
    torch.testing.assert_close(turned, probs, rtol=1e-9, atol=1e-12)
    assert probs[0, 0, 26, 26].item() == pytest.approx(0.5, abs=1e-9)
    # Along a straight corridor Z ~ r^n with r + 1 / r = 4.
    ratio = probs[0, :, 26, 27].div(probs[0, :, 26, 26])
    odds = (ratio.max() / ratio.min()).item()
    assert odds == pytest.approx((2 + math.sqrt(3)) ** 2, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_image_matches_a_smaller_part(backend):
    """Behind walls that hardly anything passes, the rest of the image does not matter."""
    boundary = uniform(1, 40, 50)
    boundary[:, 20] = 60.0
    labels = scribbles(1, 40, 50, share=0.02)
    whole = hitting_probabilities(boundary, labels, 3, backend=backend)
    part = hitting_probabilities(boundary[:, :21], labels[:, :21], 3, backend=backend)
    torch.testing.assert_close(whole[:, :, :20], part[:, :, :20], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_invariances(backend):
    boundary, labels = uniform(3, 12, 10, high=4.0), scribbles(3, 12, 10)
    probs = hitting_probabilities(boundary, labels, 3, backend=backend)

    def same(result):
        torch.testing.assert_close(result, probs, rtol=1e-11, atol=1e-14)

    order = torch.tensor([2, 0, 1])
    renamed = torch.where(labels == 255, 255, order[labels.clamp(max=2)])
    same(hitting_probabilities(boundary, renamed, 3, backend=backend)[:, order])
    same(hitting_probabilities(boundary.flip(2), labels.flip(2), 3, backend=backend).flip(3))
    same(hitting_probabilities(boundary.mT, labels.mT, 3, backend=backend).mT)
    same(hitting_probabilities(boundary[[2, 0, 1]], labels[[2, 0, 1]], 3, backend=backend)[[1, 2, 0]])
    same(hitting_probabilities(boundary, labels, 7, backend=backend)[:, :3])
    same(torch.cat([hitting_probabilities(b[None], s[None], 3) for b, s in zip(boundary, labels, strict=True)]))
    # Scores of labelled pixels do not matter.
    same(hitting_probabilities(torch.where(labels == 255, boundary, 77.0), labels, 3, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_batch_is_that_of_its_images(backend):
    """Images that need scaling, that need none, without scribble, and without some of the classes."""
    boundary = torch.cat([uniform(1, 11, 13), walls(11, 13, 1000.0), uniform(1, 11, 13), uniform(1, 11, 13, seed=3)])
    labels = scribbles(4, 11, 13, classes=5)
    labels[2] = 255
    labels[3][labels[3] != 255] = 1
    weights = uniform(4, 5, 11, 13, seed=7)

    def gradient(chosen):
        b = boundary[chosen].clone().requires_grad_()
        (hitting_probabilities(b, labels[chosen], 5, backend=backend) * weights[chosen]).sum().backward()
        return b.grad

    together = gradient([0, 1, 2, 3])
    torch.testing.assert_close(torch.cat([gradient([i]) for i in range(4)]), together, rtol=1e-10, atol=1e-13)
    assert together[[0, 1]].abs().amax((1, 2)).min() > 0
    assert together[[2, 3]].abs().max() < 1e-14
    assert together[labels != 255].abs().max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_labelled_is_uniform_with_gradient_zero(backend):
    boundary = uniform(2, 4, 5).requires_grad_()
    labels = torch.full((2, 4, 5), 255)
    labels[1, 1, 1] = 2
    probs = hitting_probabilities(boundary, labels, 4, backend=backend)
    assert (probs[0] == 0.25).all()
    assert (probs[1, 2] == 1).all()
    probs.square().sum().backward()
    assert boundary.grad.abs().max() == 0
    assert reachable(boundary, labels).flatten(1).all(1).tolist() == [False, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_labelled_one_pixel_and_empty_batch(backend):
    labels = torch.arange(6).reshape(1, 2, 3) % 3
    hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert hitting_probabilities(torch.rand(1, 2, 3), labels, 3, backend=backend).equal(hot)
    one = torch.tensor([[[0]]])
    assert hitting_probabilities(torch.ones(1, 1, 1), one, 1, backend=backend).tolist() == [[[[1.0]]]]
    assert hitting_probabilities(torch.ones(1, 1, 1), one + 255, 2, backend=backend).flatten().tolist() == [0.5, 0.5]
    empty = hitting_probabilities(torch.ones(0, 3, 4), torch.ones(0, 3, 4, dtype=torch.int64), 2, backend=backend)
    assert empty.shape == (0, 2, 3, 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_walls_cut_off(backend):
    boundary = torch.rand(1, 6, 7)
    boundary[0, :, 3] = math.inf
    labels = torch.full((1, 6, 7), 255)
    labels[0, 0, 0], labels[0, 5, 1] = 0, 1
    labels[0, 2, 3] = 1  # a label within the wall is reached from both sides
    mask = reachable(boundary, labels)
    assert mask[0, :, :3].all()
    assert mask[0, :, 4:].all()
    assert mask[0, :, 3].tolist() == [False, False, True, False, False, False]
    labels[0, 2, 3] = 255
    mask = reachable(boundary, labels)
    assert mask[0, :, :3].all()
    assert not mask[0, :, 3:].any()
    boundary.requires_grad_()
    probs = hitting_probabilities(boundary, labels, 2, backend=backend)
    assert (probs[:, :, :, 3:] == 0.5).all()
    torch.testing.assert_close(
        probs[..., :3], hitting_probabilities(boundary[..., :3], labels[..., :3], 2, backend=backend)
    )
    probs.square().sum().backward()
    assert boundary.grad.isfinite().all()
    assert boundary.grad[..., 3:].abs().max() == 0
    assert boundary.grad[..., :3].abs().max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_dtypes_and_memory_layout(backend):
    boundary, labels = uniform(2, 8, 9, high=4.0), scribbles(2, 8, 9)
    exact = hitting_probabilities(boundary.float().double(), labels, 3, backend=backend)
    single = hitting_probabilities(boundary.float(), labels, 3, backend=backend)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, exact.float(), rtol=1e-6, atol=0)
    half = boundary.half().requires_grad_()
    probs = hitting_probabilities(half, labels, 3, backend=backend)
    assert probs.dtype == torch.float32
    probs[:, 0].sum().backward()
    assert half.grad.dtype == torch.float16
    strided = boundary.movedim(0, -1).contiguous().movedim(-1, 0)
    assert not strided.is_contiguous()
    odd = labels.movedim(0, -1).contiguous().movedim(-1, 0)
    assert hitting_probabilities(strided, odd, 3, backend=backend).equal(
        hitting_probabilities(boundary, labels, 3, backend=backend)
    )
    with torch.no_grad():
        assert not hitting_probabilities(boundary.requires_grad_(), labels, 3, backend=backend).requires_grad


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "torch"])
def test_jobs_do_not_matter(backend):
    boundary, labels = uniform(3, 12, 10, high=30.0), scribbles(3, 12, 10)
    one = hitting_probabilities(boundary, labels, 3, backend=backend, jobs=1)
    assert hitting_probabilities(boundary, labels, 3, backend=backend, jobs=3).equal(one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_wait_for_each_other(backend):
    generator = torch.Generator().manual_seed(3)
    scribble = torch.full((1, 9, 11), 255)
    scribble[0, 1, 1], scribble[0, 7, 8] = 0, 1
    upstream = torch.rand(1, 2, 9, 11, generator=generator, dtype=torch.float64)
    boundaries = [3 * torch.rand(1, 9, 11, generator=generator, dtype=torch.float64) for _ in range(3)]
    alone = []
    for boundary in boundaries:
        leaf = boundary.clone().requires_grad_()
        hitting_probabilities(leaf, scribble, 2, backend=backend).backward(upstream)
        alone.append(leaf.grad)
    leaves = [boundary.clone().requires_grad_() for boundary in boundaries]
    results = [hitting_probabilities(leaf, scribble, 2, backend=backend) for leaf in leaves]
    for leaf, result, expected in zip(leaves, results, alone, strict=True):
        result.backward(upstream)
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=0)


def test_native_is_asked_for_but_missing(monkeypatch):
    monkeypatch.setattr(kernel, "library", lambda: None)
    boundary, labels = uniform(1, 3, 19), scribbles(1, 3, 19)
    with pytest.raises(UsageError, match="compiled kernels"):
        hitting_probabilities(boundary, labels, 3, backend="native")
    expected = hitting_probabilities(boundary, labels, 3, backend="scipy")
    assert hitting_probabilities(boundary, labels, 3).equal(expected)


def test_another_ignore_index():
    boundary, labels = uniform(1, 6, 6), scribbles(1, 6, 6)
    other = torch.where(labels == 255, -1, labels)
    assert hitting_probabilities(boundary, other, 3, ignore_index=-1).equal(hitting_probabilities(boundary, labels, 3))


def test_wrong_arguments_are_named():
    boundary, labels = torch.rand(2, 3, 4), torch.full((2, 3, 4), 255)
    negative, undefined, unknown, below = boundary.clone(), boundary.clone(), labels.clone(), labels.clone()
    negative[1, 2, 3], undefined[0, 0, 0], unknown[0, 1, 1], below[0, 1, 1] = -0.5, math.nan, 3, -1
    cases = [
        (UsageError, r"\(B,H,W\)", (boundary[0], labels[0], 3), {}),
        (UsageError, r"\(B,H,W\)", (boundary, labels[:, :2], 3), {}),
        (UsageError, "not empty", (boundary[:, :0], labels[:, :0], 3), {}),
        (UsageError, "floating point.*int64", (boundary.long(), labels, 3), {}),
        (UsageError, "floating point.*int64", (boundary, labels.int(), 3), {}),
        (UsageError, "num_classes", (boundary, labels, 0), {}),
        (UsageError, "jobs", (boundary, labels, 3), {"jobs": 0}),
        (UsageError, "backend", (boundary, labels, 3), {"backend": "other"}),
        (DataError, "at least 0.*-0.5", (negative, labels, 3), {}),
        (DataError, "at least 0.*nan", (undefined, labels, 3), {}),
        (DataError, "below num_classes = 3.*holds 3", (boundary, unknown, 3), {}),
        (DataError, "below num_classes = 3.*holds -1", (boundary, below, 3), {}),
    ]
    for error, message, arguments, settings in cases:
        with pytest.raises(error, match=message):
            hitting_probabilities(*arguments, **settings)


@pytest.mark.parametrize("height", [1, 2, 5, 24, 37])
@pytest.mark.parametrize("width", [1, 3, 25, 64])
@pytest.mark.parametrize("high", [2.0, 200.0])
def test_backends_agree_at_any_size(height, width, high):
    boundary, labels = uniform(2, height, width, high=high), scribbles(2, height, width, share=0.02)
    weights = uniform(2, 3, height, width, seed=4)
    results, gradients = [], []
    for backend in ["scipy", "torch"] + ["native"] * kernel.available():
        leaf = boundary.clone().requires_grad_()
        results.append(hitting_probabilities(leaf, labels, 3, backend=backend))
        (results[-1] * weights).sum().backward()
        gradients.append(leaf.grad)
    for result, gradient in zip(results, gradients, strict=True):
        torch.testing.assert_close(result, results[0], rtol=EXACT, atol=1e-200)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_agrees_with_the_cpu():
    boundary, labels = uniform(3, 37, 64, high=20.0), scribbles(3, 37, 64, share=0.02)
    results = []
    for device in ("cpu", "cuda"):
        leaf = boundary.to(device).requires_grad_()
        probs = hitting_probabilities(leaf, labels.to(device), 3)
        assert probs.device.type == device
        probs[:, 0].square().sum().backward()
        results.append((probs.cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_factorisation_serves_all_labels_and_the_backward_pass(backend, monkeypatch):
    from wss.ops import hitting

    made = []

    def counted(*arguments):
        made.append(arguments)
        return eliminate(*arguments)

    eliminate = hitting._eliminate
    monkeypatch.setattr(hitting, "_eliminate", counted)
    boundary = uniform(2, 9, 11).requires_grad_()
    probs = hitting_probabilities(boundary, scribbles(2, 9, 11, classes=6, share=0.2), 6, backend=backend)
    probs.square().sum().backward()
    assert len(made) == 1
    assert boundary.grad.abs().max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_far_beyond_a_thousand(backend):
    """Squared and higher powers of gradients reach millions: the exact limit is the scribble across the lowest walls."""
    boundary = torch.zeros(1, 3, 9, dtype=torch.float64)
    boundary[:, :, 3], boundary[:, :, 5] = 1e6, 2e6
    labels = torch.full((1, 3, 9), 255)
    labels[:, :, 0], labels[:, :, 8] = 0, 1
    probs = hitting_probabilities(boundary.requires_grad_(), labels, 2, backend=backend)
    assert (probs[0, 0, :, :5] == 1).all()
    assert (probs[0, 1, :, 6:] == 1).all()
    probs[:, 0].sum().backward()
    assert boundary.grad.isfinite().all()
