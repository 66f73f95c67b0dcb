"""A random walk on features as a layer: similar features become more similar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.ops.transition import feature_walk_step, transition_matrix

Embedding = Literal["none", "cosine", "qkv"]

SIMILARITY_WIDTH = 64


@dataclass(frozen=True)
class FeatureWalkResult:
    """Result of a random-walk layer.

    Attributes:
        features: The layer's output, (B,C,h,w), for the classifier.
        before: f^{L-1}, the features before the walk on its grid, (B,C,m,n).
        after: f^L, the features after the walk on its grid, (B,C,m,n).
        log_transition: log P, (B,mn,mn), float32 or float64; None unless requested.
    """

    features: Tensor
    before: Tensor
    after: Tensor
    log_transition: Tensor | None


class FeatureWalk(nn.Module):
    """f <- alpha P f + f, with the ``transition_matrix`` P of similarities between positions.

    Alpha is learned and starts at 0, so a new layer changes nothing.

    P has one row and one column per position of the feature map. A fine feature map is therefore first averaged over
    cells. The step of the walk is interpolated back and added to the fine features, which keep their detail. With
    ``cell`` 1 this is exactly the equation.

    Args:
        channels: C.
        embed: ``none``: P = softmax(f' f), and the step is P f. ``cosine``: P from features of unit length, and the
            step is P f. With inner products all features walk to the longest ones, with cosines to the most similar
            ones. ``qkv``: 1x1 convolutions of f, to 64 channels for the queries and keys of P and to C channels for the
            values. They have C^2 + 129 C + 128 parameters; with alpha, 328,321 for 512 channels. They start with
            PyTorch's small default weights; with larger weights each row of P would have a single dominant entry.
        cell: Side of a cell of the walk in positions of the feature map.
        scale: Factor of the inner products, see ``transition_matrix``. Cosines need about 5 to distinguish positions.

    Attributes:
        alpha: Weight of the step, a scalar without weight decay.

    Raises:
        UsageError: ``cell`` is below 1, or the name of the embedding is unknown.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (2), (4), (5). ``qkv`` is from the authors' later code; its number of
        parameters is that of Table 5.
    Differs: cells of more than one position are ours, for networks with features finer than stride 8 or 16. ``cosine``
        is not in the paper.
    """

    def __init__(self, channels: int, *, embed: Embedding = "none", cell: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        if cell < 1:
            raise UsageError(f"a cell of a random walk has at least 1 position a side; got {cell}")
        if embed not in ("none", "cosine", "qkv"):
            raise UsageError(f"embed is none, cosine or qkv; got {embed!r}")
        self.cell = cell
        self.scale = scale
        self.embed = embed
        widths = {"query": SIMILARITY_WIDTH, "key": SIMILARITY_WIDTH, "value": channels} if embed == "qkv" else {}
        self.embedding = nn.ModuleDict({name: nn.Conv2d(channels, width, 1) for name, width in widths.items()})
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, transition: bool = False) -> FeatureWalkResult:
        """Apply one step of the walk to features (B,C,h,w).

        Args:
            features: Features of any size. Cells at the right and bottom border can be smaller.
            transition: Return log P. If False, P is never stored as a whole.
        """
        before = cells(features, self.cell)
        query, key, value = self._embedded(before)
        log_transition = transition_matrix(query, key, scale=self.scale, log=True) if transition else None
        if log_transition is None:
            walked = feature_walk_step(query, key, value, scale=self.scale)
        else:
            with torch.autocast(features.device.type, enabled=False):
                flat = log_transition.exp() @ value.flatten(2).transpose(1, 2).to(log_transition.dtype)
            walked = flat.transpose(1, 2).reshape_as(value)
        added = (self.alpha * walked).to(before.dtype)
        after = before + added
        if self.cell == 1:
            return FeatureWalkResult(after, before, after, log_transition)
        return FeatureWalkResult(features + spread(added, self.cell, features.shape[2:]), before, after, log_transition)

    def _embedded(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the walk."""
        if self.embed == "qkv":
            query, key, value = (self.embedding[name](features) for name in self.embedding)
            return query, key, value
        if self.embed == "cosine":
            unit = directions(features)
            return unit, unit, features
        return features, features, features


def cells(features: Tensor, cell: int) -> Tensor:
    """Means of features (B,C,h,w) over cells, (B,C,ceil(h/cell),ceil(w/cell)). Border cells can be smaller."""
    return functional.avg_pool2d(features, cell, ceil_mode=True) if cell > 1 else features


def spread(maps: Tensor, cell: int, size: torch.Size) -> Tensor:
    """Interpolate maps of cells (B,C,m,n) bilinearly to the positions of the feature map, (B,C,*size)."""
    fine = functional.interpolate(maps, scale_factor=cell, mode="bilinear", align_corners=False)
    return fine[:, :, : size[0], : size[1]]


def directions(features: Tensor) -> Tensor:
    """Features (B,C,h,w) scaled to unit length over channels, at least float32. Their inner products are cosines."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
