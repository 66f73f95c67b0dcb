"""Random-walk hitting probabilities: which label a walk that avoids boundaries meets first."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch.autograd.function import once_differentiable

from wss import devices
from wss.errors import DataError, UsageError, WssError
from wss.kernels import hitting
from wss.labels import UNLABELLED
from wss.ops.hitting_dissection import DissectionElimination
from wss.ops.hitting_sparse import SparseElimination

Backend = Literal["auto", "native", "scipy", "torch"]

_FLOOR = 1e-250
"""Sums Z below this may have lost contributions to underflow."""
_KNOWN = 1e-150
"""Sums above this have not."""
_ROUNDS = 1000


class Elimination(Protocol):
    """Solver for the systems of a batch: I - T, with T (B,4,H,W) the weights of a step up, left, right and down."""

    def solve(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T) z = rhs; (B,L,H,W) float64."""

    def solve_transposed(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T)' z = rhs; (B,L,H,W) float64."""


def hitting_probabilities(
    boundary: Tensor,
    scribble: Tensor,
    num_classes: int,
    *,
    backend: Backend = "auto",
    jobs: int | None = None,
    ignore_index: int = UNLABELLED,
    potential: Tensor | None = None,
) -> Tensor:
    """Probability that a random walk from each pixel first meets a scribble of each class.

    Walks step to one of the four neighbours, end at the first labelled pixel and are lost outside the image; a walk weighs
    4^-steps exp(-sum of the boundary scores of the pixels it leaves). With Z_xl the sum of the weights of all walks from x to
    label l, 4 exp(B_x) Z_xl = sum over neighbours of Z_x'l on unlabelled pixels, Z_xl = [label of x is l] on labelled ones, and
    P_xl = Z_xl / sum_m Z_xm.

    All is computed in float64, by direct elimination, which is exact to rounding for these systems however small Z is. Where
    Z leaves the range of float64 the system is rescaled, Z = exp(phi) Z^, and solved again, until nothing underflows; phi comes
    from the cheapest paths to the scribbles. One factorisation per image serves all labels and the backward pass.

    Args:
        boundary: B, float (B,H,W), at least 0; differentiable, once. Infinity is a wall that no walk passes: padding, say.
        scribble: int64 (B,H,W), classes, ``ignore_index`` where unlabelled.
        num_classes: K.
        backend: ``native`` (nested dissection, compiled, on the CPU), ``scipy`` (sparse LU on the CPU), ``torch`` (nested
            dissection, batched, on the device of the boundary), or ``auto``: torch on CUDA, else native if it is installed,
            else scipy.
        jobs: Images solved at a time by ``native`` and ``scipy``; None takes ``torch.get_num_threads()``.
        ignore_index: The unlabelled code.
        potential: float64 (B,H,W), the scaling phi to begin with, such as ``cheapest_levels``; where Z is known to underflow this
            saves a factorisation. None begins without scaling. The result is the same up to rounding.

    Returns:
        (B,K,H,W) in 0..1, summing to 1 over K; float64 if the boundary is, else float32. Labelled pixels are one-hot. Pixels
        from which no walk reaches a scribble (see ``reachable``) are uniform, with gradient 0: losses must weigh them 0.

    Raises:
        UsageError: Shapes, dtypes, devices or names are unusable.
        DataError: The boundary is negative or NaN, or a label is neither a class nor ``ignore_index``.

    Source: Vernaza, Chandraker 2017, "Learning Random-Walk Label Propagation for Weakly-Supervised Semantic Segmentation"
        (corrected version), (4) to (10).
    Differs: the derivative is taken with respect to B, not C, with the factor 4 that (10) leaves out.
    """
    _check_shapes(boundary, scribble)
    if backend not in ("auto", "native", "scipy", "torch"):
        raise UsageError(f"backend is auto, native, scipy or torch; got {backend!r}")
    if backend == "auto":
        backend = "torch" if not devices.on_host(boundary) else "native" if hitting.available() else "scipy"
    if num_classes < 1 or (jobs is not None and jobs < 1):
        raise UsageError(f"num_classes and jobs must be at least 1; got {num_classes} and {jobs}")
    labelled = scribble != ignore_index
    classes = torch.where(labelled & (scribble >= 0) & (scribble < num_classes), scribble, num_classes)
    with torch.no_grad():
        # Images carry few of the classes: solve for those, in L slots.
        present = torch.zeros(len(scribble), num_classes + 1, dtype=torch.bool, device=boundary.device)
        present.scatter_(1, classes.flatten(1), torch.ones_like(classes.flatten(1), dtype=torch.bool))
        present = present[:, :num_classes]
        walls, count = _check_values(boundary, scribble, labelled, present, ignore_index)
        reach = _reach(boundary, labelled, walls)
        slots = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count, None, None]
        source = classes[:, None] == slots
    by_slot: Tensor = _Hitting.apply(  # type: ignore[no-untyped-call]
        boundary.to(torch.float64), source, reach, backend, jobs or torch.get_num_threads(), potential
    )
    by_slot = by_slot.to(torch.promote_types(boundary.dtype, torch.float32))
    probs = by_slot.new_zeros(len(by_slot), num_classes, *by_slot.shape[2:]).scatter(
        1, slots.expand_as(by_slot), by_slot
    )
    return torch.where(reach[:, None], probs, 1 / num_classes)


def reachable(boundary: Tensor, scribble: Tensor, *, ignore_index: int = UNLABELLED) -> Tensor:
    """Mask of the pixels from which some walk reaches a scribble, so that ``hitting_probabilities`` is defined there.

    With finite boundaries, however high, it is all pixels of images with a scribble. Infinite ones cut off what they enclose.

    Args:
        boundary: float (B,H,W), at least 0.
        scribble: int64 (B,H,W), ``ignore_index`` where unlabelled.
        ignore_index: The unlabelled code.

    Returns:
        bool (B,H,W).

    Raises:
        UsageError: Shapes, dtypes or devices disagree.
    """
    _check_shapes(boundary, scribble)
    return _reach(boundary, scribble != ignore_index, bool(boundary.isinf().any()))


class _Round(NamedTuple):
    """Images solved with one scaling; later rounds supersede earlier ones."""

    images: Tensor | slice
    elimination: Elimination


class _Hitting(torch.autograd.Function):
    """P of the labels in ``source``, 0 where no label is reached."""

    @staticmethod
    def forward(
        ctx: Any,
        boundary: Tensor,
        source: Tensor,
        reach: Tensor,
        backend: Backend,
        jobs: int,
        start: Tensor | None,
    ) -> Tensor:
        labelled = source.any(1)
        free = reach & ~labelled
        finite = torch.where(free, boundary, 0)
        # Without a start there is no scaling at first: most images need none.
        images: Tensor | slice = slice(None)
        potential = None if start is None else torch.where(free, start, 0)
        weights = total = labelled.to(torch.float64)
        ctx.rounds = []
        for attempt in range(_ROUNDS):
            unknown = free[images]
            steps, rhs = _system(finite[images], unknown, source[images], potential)
            elimination = _eliminate(steps, backend, jobs)
            ctx.rounds.append(_Round(images, elimination))
            solved = elimination.solve(rhs)
            sums = solved.sum(1)
            if attempt == 0:
                weights, total = solved, sums
            else:
                weights[images] = solved
                total[images] = sums
            low = ((sums < _FLOOR) & unknown).flatten(1).any(1)
            if not low.any():
                break
            known = labelled[images] | ((sums > _KNOWN) & unknown & (potential is not None))
            level = sums.clamp(min=_KNOWN).log()
            if potential is not None:
                level += potential
            images = torch.arange(len(boundary), device=boundary.device)[images][low]
            potential = _potential(finite[images], free[images], known[low], level[low])
        else:
            raise WssError(
                f"the random walk underflows after {_ROUNDS} rescalings: the image is a maze of infinite or huge boundaries; "
                "lower the boundary scores or reduce the image"
            )
        probs = weights / torch.where(reach, total, 1)[:, None]
        ctx.save_for_backward(probs, weights, total, free)
        return probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        probs, weights, total, free = ctx.saved_tensors
        centred = gradient - (gradient * probs).sum(1, keepdim=True)
        # An absent label (Z = 0 everywhere) has no part in the derivative with respect to B.
        used = free[:, None] & (weights > 0).flatten(2).any(2)[..., None, None]
        rhs = torch.where(used, centred / torch.where(free, total, 1)[:, None], 0)
        if len(ctx.rounds) == 1:
            derivative = (ctx.rounds[0].elimination.solve_transposed(rhs) * weights).sum(1).neg()
            return torch.where(free, derivative, 0), None, None, None, None, None
        result = torch.zeros_like(total)
        later = torch.zeros(len(total), dtype=torch.bool, device=total.device)
        for images, elimination in reversed(ctx.rounds):
            adjoint = elimination.solve_transposed(torch.where(later[images][:, None, None, None], 0, rhs[images]))
            derivative = -(adjoint * weights[images]).sum(1)
            result[images] = torch.where(later[images][:, None, None], result[images], derivative)
            later[images] = True
        return torch.where(free, result, 0), None, None, None, None, None


def _eliminate(steps: Tensor, backend: Backend, jobs: int) -> Elimination:
    if backend == "torch":
        return DissectionElimination(steps)
    return hitting.NativeElimination(steps, jobs) if backend == "native" else SparseElimination(steps, jobs)


def _system(boundary: Tensor, free: Tensor, source: Tensor, potential: Tensor | None) -> tuple[Tensor, Tensor]:
    """T among free pixels, (B,4,H,W), and the weights of steps onto labels, (B,L,H,W), with Z scaled by exp(-potential).

    T_xx' = exp(potential_x' - potential_x - B_x) / 4. At labelled pixels the weights are 1 for their label, as Z is.
    """
    steps = boundary.new_zeros(len(boundary), len(_STEPS), *boundary.shape[1:])
    onto = source.to(torch.float64)
    rhs = onto.clone()
    leaving = torch.where(free, 0.25 * torch.exp(-boundary), 0) if potential is None else boundary
    reach = free | source.any(1)
    for direction, (here, there) in enumerate(_STEPS):
        if potential is None:
            step = leaving[here]
        else:
            step = 0.25 * torch.exp(potential[there] - potential[here] - boundary[here])
            step = torch.where(free[here] & reach[there], step, 0)
        steps[:, direction][here] = torch.where(free[there], step, 0)
        rhs[here] += step[:, None] * onto[there]
    return steps, rhs


_STEPS = (
    ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),  # up
    ((..., slice(1, None)), (..., slice(None, -1))),
    ((..., slice(None, -1)), (..., slice(1, None))),
    ((..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))),  # down
)
"""Slices of the start and of the end pixels of steps up, left, right and down."""


def _potential(boundary: Tensor, free: Tensor, known: Tensor, level: Tensor) -> Tensor:
    """Upper bounds of log sum_l Z_l: ``level`` where known, elsewhere less the boundaries on the cheapest path from there.

    Then no T exceeds 1/4 but at the edge of what is known, where it stays of that order, and each round knows more pixels.
    """
    arrays = zip(*(x.cpu().numpy() for x in (boundary, free, known, level)), strict=True)
    return torch.from_numpy(np.stack([_cheapest(*a) for a in arrays])).to(boundary.device)


def cheapest_levels(boundary: Tensor, scribble: Tensor, *, ignore_index: int = UNLABELLED) -> Tensor:
    """Less the boundaries on the cheapest path from each pixel to a scribble: an upper bound of log sum_l Z_l.

    Args:
        boundary: float (B,H,W), at least 0 and finite.
        scribble: int64 (B,H,W), ``ignore_index`` where unlabelled.
        ignore_index: The unlabelled code.

    Returns:
        float64 (B,H,W), 0 on scribbles.
    """
    labelled = scribble != ignore_index
    finite = boundary.to(torch.float64)
    return _potential(finite, ~labelled, labelled, torch.zeros_like(finite))


def _cheapest(boundary: Any, free: Any, known: Any, level: Any) -> Any:
    height, width = boundary.shape
    pixel = np.arange(height * width).reshape(height, width)
    pairs = [
        (pixel[:-1], pixel[1:]),
        (pixel[1:], pixel[:-1]),
        (pixel[:, :-1], pixel[:, 1:]),
        (pixel[:, 1:], pixel[:, :-1]),
    ]
    start = np.concatenate([a.ravel() for a, _ in pairs])
    end = np.concatenate([b.ravel() for _, b in pairs])
    enters = (free & ~known).ravel()[end] & (free | known).ravel()[start]
    start, end = start[enters], end[enters]
    seeds = np.flatnonzero(known)
    # One more node leads to all that is known, at the cost of its level.
    weights = np.concatenate([boundary.ravel()[end], np.maximum(-level.ravel()[seeds], 0)])
    start, end = np.concatenate([start, np.full(len(seeds), pixel.size)]), np.concatenate([end, seeds])
    graph = csr_matrix((weights, (start, end)), shape=(pixel.size + 1, pixel.size + 1))
    costs = dijkstra(graph, indices=pixel.size)[:-1].reshape(height, width)
    return np.where(free, -costs, 0.0)


def _reach(boundary: Tensor, labelled: Tensor, walls: bool) -> Tensor:
    if not walls:
        return labelled.flatten(1).any(1)[:, None, None].expand_as(labelled)
    reach = []
    for passable, labels in zip((boundary.isfinite() | labelled).cpu().numpy(), labelled.cpu().numpy(), strict=True):
        parts, _ = ndimage.label(passable)
        reach.append(torch.from_numpy(passable & np.isin(parts, np.unique(parts[labels]))))
    return torch.stack(reach).to(boundary.device) if reach else torch.zeros_like(labelled)


def _check_shapes(boundary: Tensor, scribble: Tensor) -> None:
    if boundary.ndim != 3 or scribble.shape != boundary.shape or 0 in boundary.shape[1:]:
        raise UsageError(
            f"boundary and scribble must both be (B,H,W), not empty; got {tuple(boundary.shape)} and {tuple(scribble.shape)}"
        )
    if not boundary.is_floating_point() or scribble.dtype != torch.int64 or scribble.device != boundary.device:
        raise UsageError(
            "boundary must be floating point and scribble int64, on one device; "
            f"got {boundary.dtype} on {boundary.device} and {scribble.dtype} on {scribble.device}"
        )


def _check_values(
    boundary: Tensor, scribble: Tensor, labelled: Tensor, present: Tensor, ignore_index: int
) -> tuple[bool, int]:
    """Raise on what cannot be solved; return whether there are infinite boundaries, and how many classes an image has at most.

    What has to be known of values comes in one copy.
    """
    num_classes = present.shape[1]
    unknown = labelled & ((scribble < 0) | (scribble >= num_classes))
    unusable = ~(boundary >= 0)
    most = present.sum(1).amax() if len(present) else torch.zeros((), dtype=torch.int64)
    flags = torch.stack([unusable.any().long(), unknown.any().long(), boundary.isinf().any().long(), most]).tolist()
    if flags[0]:
        raise DataError(
            f"boundary must be at least 0 everywhere; it holds {boundary[unusable][0].item()}: end the network with softplus "
            "or ReLU, and look for a diverged training if it is NaN"
        )
    if flags[1]:
        raise DataError(
            f"scribble must hold classes below num_classes = {num_classes} or {ignore_index} (unlabelled); "
            f"it holds {scribble[unknown][0].item()}"
        )
    return bool(flags[2]), max(1, flags[3])
