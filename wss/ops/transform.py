"""The transforms of self-supervision, the same for images, feature maps and transition matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError

TransformKind = Literal["flip", "translation", "random"]


@dataclass(frozen=True)
class Transform:
    """A horizontal flip, or a vertical translation by cutting rows off, or both.

    Attributes:
        flip: Mirror left and right.
        rows: Rows of the feature map that are cut off: at the top where positive, at the bottom where negative.
    """

    flip: bool = False
    rows: int = 0

    def image(self, image: Tensor, stride: int) -> Tensor:
        """The transformed image (...,H',W) of one (...,H,W): H' = H - abs(rows) stride.

        Features of the two correspond where the network commutes with the transform. It does so at best up to what it sees
        beyond the border, and for flips where W is 1 more than a multiple of the stride, or a multiple, as the network samples.

        Args:
            image: Images or maps.
            stride: Of the feature map, in pixels.

        Raises:
            UsageError: Nothing would be left.
        """
        return self._apply(image, (image.ndim - 2, image.ndim - 1), self.rows * stride)

    def features(self, features: Tensor, axes: tuple[int, int] = (-2, -1)) -> Tensor:
        """The transformed feature map (...,h - abs(rows),w) of one (...,h,w).

        Args:
            features: Feature maps.
            axes: Which axes are height and width.

        Raises:
            UsageError: Nothing would be left.
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
    """A transform for one batch.

    Args:
        kind: ``flip``; ``translation``, up or down by 1 to ``max_shift`` of the height; ``random``, either with equal chance.
        height: Rows of the feature map. One of a single row is always flipped.
        max_shift: Largest share of the rows that is cut off, in 0..1.
        generator: Of the CPU; None is PyTorch's default one, on which training resumes.

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
