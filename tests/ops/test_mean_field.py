from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tests.reference.dense_gaussian import dense_crf
from wss.errors import DataError, UsageError
from wss.kernels import native
from wss.ops import mean_field
from wss.ops.pydensecrf_reference import mean_field_pydensecrf

PARAMETERS: dict[str, Any] = {"pos_weight": 3, "pos_xy_std": 3, "bi_weight": 5, "bi_xy_std": 50, "bi_rgb_std": 10}
BACKENDS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason="native kernels not built")),
]


def scene(
    height: int, width: int, classes: int, seed: int = 0, noise: float = 1.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture of coloured regions and noisy, blurred logits for them: (1,K,H,W), (1,3,H,W)."""
    rng = np.random.default_rng(seed)
    sites = rng.uniform(0, 1, (classes + 3, 2)) * (height, width)
    owner = rng.permutation(np.arange(classes + 3) % classes)
    y, x = np.mgrid[:height, :width]
    nearest = ((y[..., None] - sites[:, 0]) ** 2 + (x[..., None] - sites[:, 1]) ** 2).argmin(-1)
    labels = owner[nearest]
    colours = rng.uniform(20, 235, (classes + 3, 3))
    light = 20 * np.sin(y / height * 3) + 10 * np.cos(x / width * 5)
    image = np.clip(colours[nearest] + light[..., None] + rng.normal(0, 8, (height, width, 3)), 0, 255).round()
    shifted = np.roll(labels, (2, 3), (0, 1))
    logits = 3 * np.eye(classes)[shifted] + rng.normal(0, noise, (height, width, classes))
    return (
        torch.from_numpy(logits.transpose(2, 0, 1)[None].astype(np.float32)),
        torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_of_the_exact_crf(backend: str, seed: int) -> None:
    logits, images = scene(32, 40, 4, seed)
    truth = dense_crf(logits[0].numpy(), images[0].numpy(), [(3, 3.0, None), (5, 50.0, 10.0)], 10)
    probs = mean_field(logits, images, **PARAMETERS, backend=backend)[0].numpy()
    before = float((logits[0].numpy().argmax(0) == truth.argmax(0)).mean())
    assert float((probs.argmax(0) == truth.argmax(0)).mean()) > 0.985
    assert before < 0.95  # the CRF had something to do
    assert np.abs(probs - truth).mean() < 0.02


@pytest.mark.parametrize("backend", BACKENDS)
def test_far_apart_pixels_by_hand(backend: str) -> None:
    """Two pixels that do not see each other: each only receives its own message, Q <- softmax(U + w Q)."""
    images = torch.tensor([0.0, 255.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    logits = torch.tensor([[1.0, -0.5], [0.2, 0.3]]).reshape(1, 2, 1, 2)
    parameters = {**PARAMETERS, "pos_weight": 0, "bi_weight": 2.0, "bi_xy_std": 1.0, "bi_rgb_std": 1.0}
    expected = torch.softmax(logits, 1)
    for _ in range(3):
        expected = torch.softmax(logits + 2.0 * expected, 1)
    torch.testing.assert_close(mean_field(logits, images, **parameters, iterations=3, backend=backend), expected)


@pytest.mark.skipif(not native.available(), reason="native kernels not built")
@pytest.mark.parametrize("classes", [1, 2, 4, 5, 8, 13, 21, 32, 40, 64, 65, 150])
@pytest.mark.parametrize("batch", [1, 3])
def test_native_equals_torch(classes: int, batch: int) -> None:
    pairs = [scene(21, 27, classes, seed) for seed in range(batch)]
    logits, images = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
    a = mean_field(logits, images, **PARAMETERS, backend="native")
    b = mean_field(logits, images, **PARAMETERS, backend="torch")
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not native.available(), reason="native kernels not built")
@pytest.mark.parametrize(
    "parameters", [{"pos_weight": 0}, {"bi_weight": 0}, {"pos_weight": 0, "bi_weight": 0}, {"bi_weight": 200.0}]
)
def test_native_equals_torch_with_other_weights(parameters: dict[str, float]) -> None:
    logits, images = scene(21, 27, 5)
    a = mean_field(logits, images, **(PARAMETERS | parameters), backend="native")
    b = mean_field(logits, images, **(PARAMETERS | parameters), backend="torch")
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    changed = not torch.allclose(a, torch.softmax(logits, 1), atol=1e-2)
    assert changed == (len(parameters) == 1)


@pytest.mark.skipif(not native.available(), reason="native kernels not built")
def test_threads_do_not_matter() -> None:
    logits, images = scene(50, 61, 6)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(mean_field(logits, images, **PARAMETERS, backend="native"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (17, 33), (2, 2200)])
@pytest.mark.parametrize("classes", [1, 3])
def test_any_size(backend: str, size: tuple[int, int], classes: int) -> None:
    logits, images = scene(*size, classes)
    probs = mean_field(logits, images, **PARAMETERS, backend=backend)
    assert probs.shape == (1, classes, *size)
    torch.testing.assert_close(probs.sum(1), torch.ones(1, *size))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_iterations_is_softmax(backend: str) -> None:
    logits, images = scene(9, 11, 6)
    torch.testing.assert_close(
        mean_field(logits * 20, images, **PARAMETERS, iterations=0, backend=backend), torch.softmax(logits * 20, 1)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_relabelling_classes_permutes_the_result(backend: str) -> None:
    logits, images = scene(15, 18, 6)
    probs = mean_field(logits, images, **PARAMETERS, backend=backend)
    order = [3, 0, 5, 1, 4, 2]
    torch.testing.assert_close(
        mean_field(logits[:, order], images, **PARAMETERS, backend=backend), probs[:, order], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_constant_added_to_the_logits_changes_nothing(backend: str) -> None:
    logits, images = scene(15, 18, 3)
    a = mean_field(logits, images, **PARAMETERS, backend=backend)
    b = mean_field(torch.log_softmax(logits, 1), images, **PARAMETERS, backend=backend)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forbidden_classes_stay_forbidden(backend: str) -> None:
    logits, images = scene(15, 18, 3)
    logits[:, 1, :, :9] = float("-inf")
    probs = mean_field(logits, images, **PARAMETERS, backend=backend)
    assert (probs[:, 1, :, :9] == 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(1, 15, 18))


def test_dtypes_and_layouts() -> None:
    logits, images = scene(15, 18, 3)
    expected = mean_field(logits, images, **PARAMETERS)
    for other_logits, other_images in (
        (logits.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)),
        (torch.cat([logits, logits], 3)[..., 18:], images.to(torch.uint8)),
        (logits.double(), images.double()),
    ):
        probs = mean_field(other_logits, other_images, **PARAMETERS)
        assert probs.dtype == other_logits.dtype
        torch.testing.assert_close(probs.float(), expected, rtol=1e-3, atol=1e-4)
    assert mean_field(logits.half(), images, **PARAMETERS).dtype == torch.float16
    assert not mean_field(logits.requires_grad_(), images, **PARAMETERS).requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_refuses_broken_logits(backend: str) -> None:
    logits, images = scene(5, 6, 3)
    for bad in (float("nan"), float("inf")):
        broken = logits.clone()
        broken[0, 1, 2, 3] = bad
        with pytest.raises(DataError, match="logits"):
            mean_field(broken, images, **PARAMETERS, backend=backend)
    broken = logits.clone()
    broken[0, :, 2, 3] = float("-inf")
    with pytest.raises(DataError, match="every class"):
        mean_field(broken, images, **PARAMETERS, backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bi_rgb_std": 0}, "bi_rgb_std"),
        ({"bi_xy_std": -1}, "bi_xy_std"),
        ({"pos_xy_std": 0}, "pos_xy_std"),
        ({"pos_weight": -1}, "negative"),
        ({"iterations": -1}, "negative"),
        ({"bi_rgb_std": 0.05}, "12 bits"),
        ({"backend": "gpu"}, "auto, torch, native"),
    ],
)
def test_refuses_parameters(change: dict[str, Any], message: str) -> None:
    logits, images = scene(5, 6, 3)
    with pytest.raises(UsageError, match=message):
        mean_field(logits, images, **(PARAMETERS | change))


def test_refuses_shapes_and_ranges() -> None:
    logits, images = scene(5, 6, 3)
    with pytest.raises(UsageError, match="agree"):
        mean_field(logits[..., :5], images, **PARAMETERS)
    with pytest.raises(UsageError, match=r"\(B,K,H,W\)"):
        mean_field(logits[0], images, **PARAMETERS)
    with pytest.raises(UsageError, match="multiply by 255"):
        mean_field(logits, images / 255, **PARAMETERS)


needs_pydensecrf = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="pydensecrf is an optional extra"
)


@needs_pydensecrf
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "preset", [(3, 3, 5, 50, 10), (3, 3, 4, 83, 5), (2, 2, 4, 65, 3), (3, 1, 4, 67, 3), (3, 3, 10, 80, 13)], ids=str
)
def test_agrees_with_pydensecrf(backend: str, preset: tuple[float, ...]) -> None:
    names = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")
    parameters: dict[str, Any] = dict(zip(names, preset, strict=True))
    logits, images = scene(61, 83, 7, seed=5)
    theirs = mean_field_pydensecrf(logits[0], images[0], **parameters)
    ours = mean_field(logits, images, **parameters, backend=backend)[0]
    assert float((ours.argmax(0) == theirs.argmax(0)).float().mean()) > 0.995
    assert float((ours - theirs).abs().mean()) < 2e-3


def test_missing_pydensecrf_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    logits, images = scene(5, 6, 3)
    with pytest.raises(UsageError, match=r"pip install wss\[pydensecrf\]"):
        mean_field_pydensecrf(logits[0], images[0], **PARAMETERS)


@pytest.mark.skipif(not native.available(), reason="native kernels not built")
@pytest.mark.parametrize("low", [-float("inf"), -200.0])
def test_classes_that_cannot_occur_change_nothing(low: float) -> None:
    """Each image has its own; one class is possible at a single pixel of the second image only."""
    pairs = [scene(21, 27, 9, seed) for seed in range(2)]
    logits, images = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
    logits[0, [1, 2, 4, 5, 7, 8]] = low
    logits[1, [0, 8]] = low
    logits[1, 0, 13, 17] = 30.0
    probs = mean_field(logits, images, **PARAMETERS, backend="native")
    torch.testing.assert_close(probs, mean_field(logits, images, **PARAMETERS, backend="torch"), rtol=1e-3, atol=1e-4)
    kept = [0, 3, 6]
    alone = mean_field(logits[:1, kept], images[:1], **PARAMETERS, backend="native")
    torch.testing.assert_close(probs[:1, kept], alone, rtol=1e-4, atol=1e-5)
    assert float(probs[0, 1].max()) == 0 and float(probs[1, 0, 13, 17]) > 0.5
