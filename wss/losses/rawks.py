"""The RAWKS loss: random-walk label probabilities and the segmentation network are trained on each other."""

from __future__ import annotations

import torch
from torch import Tensor

from wss import devices
from wss.errors import DataError, UsageError
from wss.losses.mean import mean_over_batch


def rawks_loss(
    walk_probs: Tensor,
    logits: Tensor,
    *,
    alpha: float,
    valid: Tensor | None = None,
) -> Tensor:
    """sum_x w(x) KL(P(x) || Q(x)) + H(P(x)) with w = exp(-alpha H(P)).

    P is the random walk's distribution, Q = softmax(logits) the network's. Gradients flow to both. As in the paper,
    they also flow through w. Where P is 0, its gradient is set to 0. This is the limit of the gradient that reaches the
    boundary network, because the influence of the boundaries on P_l is proportional to P_l.

    Args:
        walk_probs: P, float (B,K,H,W) summing to 1 over K, from ``wss.ops.hitting_probabilities``.
        logits: Scores of Q before softmax, float (B,K,H,W).
        alpha: Rate at which uncertain pixels lose weight, at least 0. A larger value ignores uncertain pixels more. 0
            gives equation (2), soft cross-entropy. The paper does not publish its value.
        valid: bool (B,H,W), True on pixels that count: those of ``wss.ops.reachable``, without padding. None counts
            all.

    Returns:
        A scalar, at least float32: the mean over the valid pixels of the batch. Without valid pixels it is a
        differentiable 0.

    Raises:
        UsageError: Shapes, dtypes or alpha are unusable.
        DataError: walk_probs are not in 0..1.

    Source: Vernaza, Chandraker 2017, "Learning Random-Walk Label Propagation for Weakly-Supervised Semantic Segmentation", (11).
    Differs: the paper sums over pixels. The mean makes the learning rate independent of resolution and batch size.
    """
    if logits.shape != walk_probs.shape or logits.ndim != 4:
        raise UsageError(
            f"walk_probs and logits must both be (B,K,H,W), got {tuple(walk_probs.shape)} and {tuple(logits.shape)}"
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if valid is not None and (valid.shape != expected or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {expected}, got {valid.dtype} {tuple(valid.shape)}")
    dtype = torch.promote_types(torch.promote_types(walk_probs.dtype, logits.dtype), torch.float32)
    probs = walk_probs.to(dtype)
    entropy = _entropy(probs)
    weights = _weights(entropy, alpha)
    divergence = -(probs * torch.log_softmax(logits.to(dtype), 1)).sum(1) - entropy
    loss = weights * divergence + entropy
    if valid is not None:
        loss = torch.where(valid, loss, 0)
    return mean_over_batch(loss, valid)


def uncertainty_weights(walk_probs: Tensor, *, alpha: float) -> Tensor:
    """Weights w = exp(-alpha H(P)), (B,H,W) in 0..1: 1 where P is certain. The paper abstains where w < 0.5.

    Args:
        walk_probs: P, float (B,K,H,W) summing to 1 over K.
        alpha: Rate at which uncertain pixels lose weight, at least 0.

    Raises:
        UsageError: alpha is negative.
        DataError: walk_probs are not in 0..1.
    """
    return _weights(_entropy(walk_probs.to(torch.promote_types(walk_probs.dtype, torch.float32))), alpha)


def _entropy(probs: Tensor) -> Tensor:
    detached = probs.detach()
    devices.refuse(
        ~((detached >= 0) & (detached <= 1 + 1e-4)).all(),
        lambda: DataError("walk_probs must be in 0..1: pass the result of hitting_probabilities, not logits"),
    )
    positive = probs > 0
    return -(torch.where(positive, probs, 0) * torch.where(positive, probs, 1).log()).sum(1)


def _weights(entropy: Tensor, alpha: float) -> Tensor:
    if not alpha >= 0:
        raise UsageError(f"alpha must be at least 0; got {alpha}")
    return torch.exp(-alpha * entropy)
