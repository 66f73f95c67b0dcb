from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.ops.test_mean_field import BACKENDS, scene
from tests.reference.unrolled_mean_field import unrolled_mean_field
from wss.errors import DataError, UsageError
from wss.ops import BilateralFilter, differentiable_mean_field, mean_field

SIGMAS: dict[str, Any] = {"pos_xy_std": 2.0, "bi_xy_std": 4.0, "bi_rgb_std": 30.0}
WEIGHTS: dict[str, Any] = {"pos_weight": 1.5, "bi_weight": 2.5}


def _tiny(classes: int = 3, height: int = 4, width: int = 5, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(batch, classes, height, width, generator=generator, dtype=torch.float64)
    images = (torch.rand(batch, 3, height, width, generator=generator) * 90).round()
    return logits, images


def _padded(height: int, width: int, batch: int = 1) -> torch.Tensor:
    roi = torch.ones(batch, height, width, dtype=torch.bool)
    roi[:, :, -1] = False
    roi[0, 0, :2] = False
    return roi


@pytest.mark.parametrize("normalisation", ["symmetric", "rows"])
@pytest.mark.parametrize("with_roi", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_reference(normalisation: str, with_roi: bool, classes: int) -> None:
    logits, images = _tiny(classes, batch=2)
    generator = torch.Generator().manual_seed(7)
    pos, bi = (3 * torch.rand(classes, generator=generator, dtype=torch.float64) for _ in range(2))
    mu = torch.randn(classes, classes, generator=generator, dtype=torch.float64)
    roi = _padded(4, 5, 2) if with_roi else None
    result = differentiable_mean_field(
        logits,
        images,
        iterations=3,
        pos_weight=pos,
        bi_weight=bi,
        compatibility=mu,
        normalisation=normalisation,
        roi=roi,
        exact=True,
        **SIGMAS,
    )
    for b in range(2):
        expected = unrolled_mean_field(
            logits[b].numpy(),
            images[b].numpy(),
            [(pos.numpy(), 2.0, None), (bi.numpy(), 4.0, 30.0)],
            mu.numpy(),
            3,
            rows=normalisation == "rows",
            roi=None if roi is None else roi[b].numpy(),
        )
        np.testing.assert_allclose(result[b].exp().numpy(), expected, rtol=1e-10, atol=1e-14)


def test_two_pixels_by_hand() -> None:
    """Pixels too far apart to meet, rows normalised: each hears only itself, and class 1 pays 2 for meeting class 0."""
    images = torch.tensor([0.0, 255.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    logits = torch.tensor([[1.0, -0.5], [0.2, 0.3]]).reshape(1, 2, 1, 2)
    mu = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    weights = torch.tensor([0.5, 3.0])
    probs = logits.softmax(1)
    scores = logits - torch.stack([3.0 * probs[:, 1], 2 * 0.5 * probs[:, 0]], 1)
    result = differentiable_mean_field(
        logits,
        images,
        iterations=1,
        pos_weight=0,
        pos_xy_std=1,
        bi_weight=weights,
        bi_xy_std=1,
        bi_rgb_std=1,
        compatibility=mu,
        normalisation="rows",
    )
    torch.testing.assert_close(result, scores.log_softmax(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", [(3, 3, 5, 50, 10), (3, 1, 4, 67, 3), (3, 3, 10, 80, 13)], ids=str)
def test_agrees_with_mean_field(backend: str, preset: tuple[float, ...]) -> None:
    names = ("pos_weight", "pos_xy_std", "bi_weight", "bi_xy_std", "bi_rgb_std")
    settings: dict[str, Any] = dict(zip(names, preset, strict=True))
    pairs = [scene(61, 83, 7, seed) for seed in range(2)]
    logits, images = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
    expected = mean_field(logits, images, **settings)
    result = differentiable_mean_field(logits, images, iterations=10, backend=backend, **settings).exp()
    assert float((result.argmax(1) == expected.argmax(1)).float().mean()) >= 0.999
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
    assert float((logits.argmax(1) == expected.argmax(1)).float().mean()) < 0.95  # the CRF had something to do


@pytest.mark.parametrize("normalisation", ["symmetric", "rows"])
@pytest.mark.parametrize("exact", [True, False])
def test_gradcheck(normalisation: str, exact: bool) -> None:
    logits, images = _tiny(3, 3, 4, batch=2)
    roi = _padded(3, 4, 2)
    pos, bi = (torch.tensor(w, dtype=torch.float64) for w in ([1.0, 0.5, 2.0], [2.0, 1.0, 0.3]))
    mu = 1 - torch.eye(3, dtype=torch.float64) + 0.1 * torch.arange(9, dtype=torch.float64).view(3, 3)

    def refined(logits: torch.Tensor, pos: torch.Tensor, bi: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
        return differentiable_mean_field(
            logits,
            images,
            iterations=2,
            pos_weight=pos,
            bi_weight=bi,
            compatibility=mu,
            normalisation=normalisation,
            roi=roi,
            backend="torch",
            exact=exact,
            **SIGMAS,
        )

    assert gradcheck(refined, tuple(t.requires_grad_() for t in (logits, pos, bi, mu)))


def test_gradcheck_of_scalar_weights() -> None:
    logits, images = _tiny(2, 3, 3)
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def refined(weight: torch.Tensor) -> torch.Tensor:
        return differentiable_mean_field(logits, images, iterations=2, pos_weight=weight, bi_weight=weight, **SIGMAS)

    assert gradcheck(refined, (weight,))
    assert gradgradcheck(refined, (weight,))


def test_native_gradients_are_torchs() -> None:
    logits, images = scene(21, 27, 4)
    found = []
    for backend in ("torch", "auto"):
        leaf = logits.clone().requires_grad_()
        weight = torch.full((4,), 2.0, requires_grad=True)
        result = differentiable_mean_field(leaf, images, pos_weight=weight, bi_weight=weight, backend=backend, **SIGMAS)
        (result * logits).mean().backward()
        found.append((leaf.grad, weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_does_not_matter(backend: str) -> None:
    logits, images = scene(20, 26, 3)
    settings: dict[str, Any] = {**WEIGHTS, **SIGMAS, "backend": backend}
    alone = differentiable_mean_field(logits[..., :19], images[..., :19], **settings)
    roi = torch.ones(1, 20, 26, dtype=torch.bool)
    roi[..., 19:] = False
    leaf = logits.clone().requires_grad_()
    padded = differentiable_mean_field(leaf, images, roi=roi, **settings)
    torch.testing.assert_close(padded[..., :19], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded[..., 19:], logits[..., 19:].log_softmax(1))
    padded[..., :19].square().sum().backward()
    assert leaf.grad[..., :19].abs().sum() > 0
    assert (leaf.grad[..., 19:] == 0).all()
    nothing = differentiable_mean_field(logits, images, roi=torch.zeros_like(roi), **settings)
    torch.testing.assert_close(nothing, logits.log_softmax(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_images_one_by_one(backend: str) -> None:
    pairs = [scene(17, 22, 3, seed) for seed in range(3)]
    settings: dict[str, Any] = {**WEIGHTS, **SIGMAS, "backend": backend}
    together = differentiable_mean_field(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]), **settings)
    for b, (logits, images) in enumerate(pairs):
        torch.testing.assert_close(
            differentiable_mean_field(logits, images, **settings)[0], together[b], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (17, 33)])
@pytest.mark.parametrize("classes", [1, 3])
def test_any_size(backend: str, size: tuple[int, int], classes: int) -> None:
    logits, images = scene(*size, classes)
    leaf = logits.clone().requires_grad_()
    result = differentiable_mean_field(leaf, images, **WEIGHTS, **SIGMAS, backend=backend)
    torch.testing.assert_close(result.exp().sum(1), torch.ones(1, *size))
    result.square().sum().backward()
    assert torch.isfinite(leaf.grad).all()


def test_constants_in_a_column_of_the_compatibility_change_nothing() -> None:
    logits, images = _tiny()
    expected = differentiable_mean_field(logits, images, **WEIGHTS, **SIGMAS)
    mu = -torch.eye(3, dtype=torch.float64) + torch.tensor([0.0, 5.0, -2.0])
    torch.testing.assert_close(
        differentiable_mean_field(logits, images, compatibility=mu, **WEIGHTS, **SIGMAS), expected
    )
    other = differentiable_mean_field(logits, images, compatibility=mu.tril(), **WEIGHTS, **SIGMAS)
    assert not torch.allclose(other, expected)


def test_no_iterations_and_no_kernels_are_log_softmax() -> None:
    logits, images = _tiny()
    for changes in ({"iterations": 0}, {"pos_weight": 0, "bi_weight": 0}):
        result = differentiable_mean_field(logits, images, **(WEIGHTS | SIGMAS | changes))
        torch.testing.assert_close(result, logits.log_softmax(1))


def test_forbidden_classes_stay_forbidden_and_gradients_finite() -> None:
    logits, images = scene(15, 18, 3)
    leaf = logits.clone().requires_grad_()
    allowed = torch.ones_like(logits, dtype=torch.bool)
    allowed[:, 1, :, :9] = False
    probs = differentiable_mean_field(leaf.masked_fill(~allowed, float("-inf")), images, **WEIGHTS, **SIGMAS).exp()
    assert (probs[~allowed] == 0).all()
    probs[:, 0].sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.abs().sum() > 0


def test_backward_keeps_one_map_per_iteration() -> None:
    logits, images = scene(24, 30, 5)
    logits.requires_grad_()
    weight = torch.full((5,), 2.0, requires_grad=True)
    stored: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == logits.numel():
            stored[tensor.data_ptr()] = 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = differentiable_mean_field(logits, images, iterations=4, pos_weight=weight, bi_weight=weight, **SIGMAS)
    assert len(stored) == 4 + 1  # and the result itself
    assert result.requires_grad


def test_builds_each_lattice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = BilateralFilter.__init__

    def count(self: BilateralFilter, *args: Any, **settings: Any) -> None:
        built.append(settings["mode"])
        original(self, *args, **settings)

    monkeypatch.setattr(BilateralFilter, "__init__", count)
    logits, images = scene(9, 11, 3)
    differentiable_mean_field(logits.requires_grad_(), images, **WEIGHTS, **SIGMAS).mean().backward()
    assert built == ["compat", "compat"]


def test_dtypes_and_layouts() -> None:
    logits, images = scene(15, 18, 3)
    settings: dict[str, Any] = {**WEIGHTS, **SIGMAS}
    expected = differentiable_mean_field(logits, images, **settings)
    for other_logits, other_images in (
        (logits.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)),
        (torch.cat([logits, logits], 3)[..., 18:], images.to(torch.uint8)),
        (logits.double(), images.double()),
    ):
        result = differentiable_mean_field(other_logits, other_images, **settings)
        assert result.dtype == other_logits.dtype
        torch.testing.assert_close(result.float(), expected, rtol=1e-3, atol=1e-4)
    half = differentiable_mean_field(logits.bfloat16(), images, **settings)
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(differentiable_mean_field(logits, images, **settings), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_weight": torch.ones(4)}, "pos_weight"),
        ({"bi_weight": float("nan")}, "bi_weight"),
        ({"bi_xy_std": 0}, "bi_xy_std"),
        ({"iterations": -1}, "iterations"),
        ({"compatibility": torch.zeros(2, 2)}, r"\(3,3\)"),
        ({"normalisation": "none"}, "symmetric or rows"),
        ({"roi": torch.ones(1, 5, 6)}, "roi"),
    ],
)
def test_refuses_parameters(change: dict[str, Any], message: str) -> None:
    logits, images = scene(5, 6, 3)
    with pytest.raises(UsageError, match=message):
        differentiable_mean_field(logits, images, **(WEIGHTS | SIGMAS | change))


def test_refuses_broken_logits_and_shapes() -> None:
    logits, images = scene(5, 6, 3)
    with pytest.raises(UsageError, match="agree"):
        differentiable_mean_field(logits[..., :5], images, **WEIGHTS, **SIGMAS)
    logits[0, 1, 2, 3] = float("nan")
    with pytest.raises(DataError, match="logits"):
        differentiable_mean_field(logits, images, **WEIGHTS, **SIGMAS)
