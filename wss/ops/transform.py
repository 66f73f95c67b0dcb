"""Transforms for self-supervision, applied alike to images, feature maps and transition matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError

TransformKind = Literal["flip", "translation", "random"]


@dataclass(frozen=True)
class Transform:
    """A horizontal flip, a vertical translation by cutting off rows, or both.

    Attributes:
        flip: Mirror left and right.
        rows: Number of rows of the feature map that are cut off: at the top if positive, at the bottom if negative.
    """

    flip: bool = False
    rows: int = 0

    def image(self, image: Tensor, stride: int) -> Tensor:
        """Transform images or maps (...,H,W) to (...,H',W) with H' = H - abs(rows) stride.

        Features of the image and of its transform correspond if the network commutes with the transform. At best it
        does so except near the border, where it sees padding. For flips W must fit the sampling of the network: a
        multiple of the stride, or 1 more than a multiple.

        Args:
            image: Images or maps.
            stride: Stride of the feature map in pixels.

        Raises:
            UsageError: No row would be left.
        """
        return self._apply(image, (image.ndim - 2, image.ndim - 1), self.rows * stride)

    def features(self, features: Tensor, axes: tuple[int, int] = (-2, -1)) -> Tensor:
        """Transform feature maps (...,h,w) to (...,h - abs(rows),w).

        Args:
            features: Feature maps.
            axes: The axes of height and width.

        Raises:
            UsageError: No row would be left.
        """
        return self._apply(features, axes, self.rows)

    def _apply(self, maps: Tensor, axes: tuple[int, int], rows: int) -> Tensor:
        height = maps.shape[axes[0]]
        if abs(rows) >= height:
            raise UsageError(f"a translation by {rows} rows leaves nothing of a height of {height}")
        if rows:
            maps = maps.narrow(axes[0], max(rows, 0), height - abs(rows))
        return maps.flip(axes[1]) if self.flip else maps


def draw_transform(
    kind: TransformKind, height: int, *, max_shift: float, generator: torch.Generator | None = None
) -> Transform:
    """Draw a random transform for one batch.

    Args:
        kind: ``flip``; ``translation``, up or down by 1 row to ``max_shift`` of the height; or ``random``, one of the
            two with equal probability.
        height: Number of rows of the feature map. A map with a single row is always flipped.
        max_shift: Largest share of the rows that is cut off, in 0..1.
        generator: Random generator on the CPU. None is PyTorch's default generator, whose state training saves.

    Source: Pan et al. 2021 (see ``transition_matrix``), "Transform Operation and Computing Matrix", Table 1.
    Differs: the paper does not say how far images are translated.
    """
    if kind not in ("flip", "translation", "random"):
        raise UsageError(f"a transform is flip, translation or random; got {kind!r}")
    choice, amount, direction = torch.rand(3, generator=generator).tolist()
    if height < 2 or kind == "flip" or (kind == "random" and choice < 0.5):
        return Transform(flip=True)
    largest = min(max(1, int(max_shift * height)), height - 1)
    rows = min(1 + int(amount * largest), largest)
    return Transform(rows=rows if direction < 0.5 else -rows)
