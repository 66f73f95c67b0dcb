"""The tree energy loss: distance of predictions to their averages along spanning trees of image and features."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch
from wss.ops import spanning_tree, tree_filter
from wss.ops.spanning_tree import Backend


def tree_targets(
    probs: Tensor,
    colours: Tensor,
    features: Tensor,
    *,
    sigma_colour: float = 0.02,
    sigma_feature: float = 1.0,
    valid: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Soft labels: predictions averaged along the spanning tree of the colours, then along that of the features.

    In an average, another pixel has the weight exp(-D / sigma); D is the sum of squared differences along the tree, see
    ``tree_filter``. The averages are computed on the CPU, for tensors of any device.

    Args:
        probs: P, float (B,K,H,W), in 0..1 and summing to 1 over K; taken as constants.
        colours: Low-level features, float (B,C,H,W): the normalised image that the network gets.
        features: High-level features, float (B,F,H,W), at the resolution of P.
        sigma_colour: Scale of colour distances, positive. A larger value averages over less similar colours.
        sigma_feature: Scale of feature distances, positive. A larger value averages over less similar features.
        valid: bool (B,H,W), False on padding, which takes no part in the averages. None means True everywhere.
        backend: Backend of the trees, see ``spanning_tree``.

    Returns:
        (B,K,H,W) like P, in 0..1 and summing to 1 over K. It carries no gradient.

    Raises:
        UsageError: Shapes or sigmas are unusable.
        DataError: Colours or features are not finite.

    Source: Liang et al. 2022, "Tree Energy Loss: Towards Sparsely Annotated Semantic Segmentation", arXiv:2203.10739, (3) to (7).
    """
    for name, maps in (("colours", colours), ("features", features)):
        if maps.ndim != 4 or (maps.shape[0], *maps.shape[2:]) != (probs.shape[0], *probs.shape[2:]):
            raise UsageError(
                f"{name} must have the images and the size of probs, {tuple(probs.shape)}; got {tuple(maps.shape)}"
            )
    near = tree_filter(probs, spanning_tree(colours, valid=valid, backend=backend), sigma=sigma_colour)
    return tree_filter(near, spanning_tree(features, valid=valid, backend=backend), sigma=sigma_feature)


def tree_energy_loss(probs: Tensor, targets: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """Mean over pixels of sum_k |P_k - Y_k|.

    Args:
        probs: P, float (B,K,H,W), in 0..1. Half precision is computed in float32.
        targets: Y, (B,K,H,W), from ``tree_targets``; taken as constants.
        counted: bool (B,H,W), True on pixels that count: the image's unlabelled pixels. None counts all pixels.

    Returns:
        A scalar in 0..2. If nothing counts, it is a differentiable 0.

    Raises:
        UsageError: Shapes disagree.

    Source: Liang et al. 2022, arXiv:2203.10739.
    """
    if probs.ndim != 4 or targets.shape != probs.shape:
        raise UsageError(
            f"probs and targets must both be (B,K,H,W); got {tuple(probs.shape)} and {tuple(targets.shape)}"
        )
    expected = (probs.shape[0], *probs.shape[2:])
    if counted is not None and (counted.shape != expected or counted.dtype != torch.bool):
        raise UsageError(f"counted must be bool {expected}; got {counted.dtype} {tuple(counted.shape)}")
    wide = probs.to(torch.promote_types(probs.dtype, torch.float32))
    distance = (wide - targets.detach().to(wide.dtype)).abs().sum(1)
    return mean_over_batch(distance, counted)
