"""A random walk at prediction, on features of a network that was trained without a walk."""

from __future__ import annotations

from torch import Tensor, nn

from wss.errors import UsageError
from wss.networks.layers.feature_walk import cells, directions, spread
from wss.ops.transition import feature_walk_step


class LazyFeatureWalk(nn.Module):
    """f <- (alpha P f + f) / (1 + alpha), P = softmax(scale c) over rows, with c the cosines of pairs of features.

    Features keep about the length on which the classifier was trained, so the classifier needs no further training.
    With cosines features walk to the most similar ones; with inner products they would walk to the longest ones. P is
    never stored as a whole. If the feature map is finer than the walk, the walk is between means over cells, and its
    step is interpolated back.

    Args:
        cell: Side of a cell of the walk in positions of the feature map.
        scale: Factor of the cosines, above 0. A larger value restricts the walk to more similar features.
        alpha: Weight of the step, at least 0; 0 changes nothing.

    Raises:
        UsageError: ``cell`` is below 1, or alpha is negative.

    Differs: not in the paper of RW-SS, whose walk (``FeatureWalk``) takes part in training and learns alpha.
    """

    def __init__(self, *, cell: int = 1, scale: float = 5.0, alpha: float = 0.5) -> None:
        super().__init__()
        if cell < 1:
            raise UsageError(f"a cell of a random walk has at least 1 position a side; got {cell}")
        if not alpha >= 0:
            raise UsageError(f"alpha of a random walk must be at least 0; got {alpha}")
        self.cell = cell
        self.scale = scale
        self.alpha = alpha

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,C,h,w), of any size, after the step."""
        before = cells(features, self.cell)
        added = (self.alpha * self.step(before)).to(features.dtype)
        if self.cell > 1:
            added = spread(added, self.cell, features.shape[2:])
        return (features + added) / (1 + self.alpha)

    def step(self, features: Tensor) -> Tensor:
        """P f of features (B,C,m,n), at least float32."""
        unit = directions(features)
        return feature_walk_step(unit, unit, features, scale=self.scale)
