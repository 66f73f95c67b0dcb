"""A random walk on features as a layer: what resembles each other becomes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.ops.transition import random_walk_step, transition_matrix

Embedding = Literal["none", "cosine", "qkv"]

SIMILARITY_WIDTH = 64


@dataclass(frozen=True)
class Walk:
    """What a random-walk layer did.

    Attributes:
        features: The layer's output, (B,C,h,w), for the classifier.
        before: f^{L-1}, the features on the grid of the walk, (B,C,m,n).
        after: f^L on that grid, (B,C,m,n).
        log_transition: log P, (B,mn,mn), float32 or float64, or None where nobody asked for it.
    """

    features: Tensor
    before: Tensor
    after: Tensor
    log_transition: Tensor | None


class RandomWalk(nn.Module):
    """f <- alpha P f + f, where P, from ``transition_matrix``, says which positions resemble each other.

    Alpha is learned and begins at 0: a new layer changes nothing.

    P has as many rows and columns as the feature map has positions, so that a map of a fine network is averaged over cells first;
    what the walk adds is interpolated back, and the features it is added to keep their detail. Where ``cell`` is 1 that is the
    equation itself.

    Args:
        channels: C.
        embed: ``none``, P = softmax(f' f) and P f. ``cosine``, the same of features divided by their lengths: inner products lead
            from everywhere to the longest features, cosines to the most similar ones. ``qkv``, 1x1 convolutions of f to 64
            channels for queries and keys of P, and to C for what is walked: C^2 + 129 C + 128 parameters, with alpha 328,321
            for 512 channels. They begin with PyTorch's small weights: larger ones give rows of P a single entry each.
        cell: Positions a side that are one of the walk.
        scale: Multiplies inner products, see ``transition_matrix``. Cosines need one of about 5 to tell positions apart.

    Attributes:
        alpha: How far features walk, a single number; without weight decay.

    Raises:
        UsageError: A cell has no positions, or the name of the embedding is unknown.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (2), (4), (5). ``qkv`` is what the authors published later; it has the parameters
        that Table 5 counts.
    Differs: cells of more than one position, for networks whose features are finer than stride 8 or 16; ``cosine`` is not in
        the paper.
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

    def forward(self, features: Tensor, transition: bool = False) -> Walk:
        """Walk on features (B,C,h,w).

        Args:
            features: Of any size; cells at the right and bottom border may be smaller.
            transition: Keep log P. Without, P is never held as a whole.
        """
        before = cells(features, self.cell)
        query, key, value = self._embedded(before)
        log_transition = transition_matrix(query, key, scale=self.scale, log=True) if transition else None
        if log_transition is None:
            walked = random_walk_step(query, key, value, scale=self.scale)
        else:
            with torch.autocast(features.device.type, enabled=False):
                flat = log_transition.exp() @ value.flatten(2).transpose(1, 2).to(log_transition.dtype)
            walked = flat.transpose(1, 2).reshape_as(value)
        added = (self.alpha * walked).to(before.dtype)
        after = before + added
        if self.cell == 1:
            return Walk(after, before, after, log_transition)
        return Walk(features + spread(added, self.cell, features.shape[2:]), before, after, log_transition)

    def _embedded(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and what is walked."""
        if self.embed == "qkv":
            query, key, value = (self.embedding[name](features) for name in self.embedding)
            return query, key, value
        if self.embed == "cosine":
            unit = directions(features)
            return unit, unit, features
        return features, features, features


def cells(features: Tensor, cell: int) -> Tensor:
    """Means (B,C,ceil(h/cell),ceil(w/cell)) of features (B,C,h,w) over cells; those at the right and bottom may be smaller."""
    return functional.avg_pool2d(features, cell, ceil_mode=True) if cell > 1 else features


def spread(maps: Tensor, cell: int, size: torch.Size) -> Tensor:
    """Maps of cells (B,C,m,n), interpolated bilinearly to the positions (B,C,*size) that the cells were means of."""
    fine = functional.interpolate(maps, scale_factor=cell, mode="bilinear", align_corners=False)
    return fine[:, :, : size[0], : size[1]]


def directions(features: Tensor) -> Tensor:
    """Features (B,C,h,w) divided by their lengths over channels, at least float32; their inner products are cosines."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
