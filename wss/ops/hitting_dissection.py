"""Solve the random-walk systems of a batch by nested dissection with batched dense products: one code for CPU and GPU.

A line of pixels splits the image in two parts that meet nowhere else, further lines split these, down to small leaves. Parts are
eliminated from the leaves up; each leaves a dense matrix over the pixels around it, which is added into that of the part it
belongs to. All parts of a level are of one size, up to padding, and are worked on together, over the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Array = npt.NDArray[Any]

_LEAF = 24
"""Pixels of a part that is not split further."""


class DissectionElimination:
    """Factors of I - T for a batch; see ``wss.ops.hitting.Elimination``.

    Only dominant diagonal blocks are inverted. LAPACK's pivoting within columns would spoil the accuracy of small results: the
    transposes are inverted, whose columns are diagonally dominant, so that it finds nothing to exchange. Nothing here waits for
    the device.

    Args:
        steps: T, (B,4,H,W) float64: probability weights of a step up, left, right, down.
    """

    def __init__(self, steps: Tensor) -> None:
        height, width = steps.shape[2:]
        self._levels = _levels(height, width, steps.device)
        self._factors: list[tuple[Tensor, Tensor, Tensor]] = []
        batch = len(steps)
        flat = steps.flatten(1)
        below: Tensor | None = None
        for level in self._levels:
            parts, own, size = level.parts, level.own_size, level.size
            front = steps.new_zeros(batch, parts * size * size)
            front[:, level.entries] = -flat[:, level.sources]
            front = front.view(batch, parts, size, size)
            front[:, :, :own, :own].diagonal(dim1=2, dim2=3).fill_(1)
            if below is not None:
                for child in level.children:
                    # Rows, then columns, of what the child left; index `border` of the child is a row of zeros.
                    rows = below[:, child.part[:, None], child.place]
                    front += rows.gather(3, child.place[:, None, :].expand(batch, parts, size, size))
            inverse = torch.linalg.inv_ex(front[:, :, :own, :own].mT).inverse.mT
            left = front[:, :, own:, :own] @ inverse
            right = inverse @ front[:, :, :own, own:]
            self._factors.append((inverse, left, right))
            below = steps.new_zeros(batch, parts, size - own + 1, size - own + 1)
            below[:, :, :-1, :-1] = front[:, :, own:, own:] - left @ front[:, :, :own, own:]

    def solve(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T) z = rhs; (B,L,H,W) float64."""
        return self._substitute(rhs, self._factors)

    def solve_transposed(self, rhs: Tensor) -> Tensor:
        """Return z of (I - T)' z = rhs; (B,L,H,W) float64."""
        return self._substitute(rhs, [(inverse.mT, right.mT, left.mT) for inverse, left, right in self._factors])

    def _substitute(self, rhs: Tensor, factors: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        batch, labels = rhs.shape[:2]
        pixels = rhs.new_zeros(batch, rhs.shape[2] * rhs.shape[3] + 1, labels)  # the last stands for padding
        pixels[:, :-1] = rhs.flatten(2).mT
        reduced = []
        below: Tensor | None = None
        for level, (_, left, _) in zip(self._levels, factors, strict=True):
            own = pixels[:, level.own]
            around = rhs.new_zeros(batch, level.parts, level.size - level.own_size, labels)
            if below is not None:
                for child in level.children:
                    passed = below[:, child.part[:, None], child.place]
                    own = own + passed[:, :, : level.own_size]
                    around = around + passed[:, :, level.own_size :]
            reduced.append(own)
            below = rhs.new_zeros(batch, level.parts, level.size - level.own_size + 1, labels)
            below[:, :, :-1] = around - left @ own
        for level, (inverse, _, right), own in reversed(list(zip(self._levels, factors, reduced, strict=True))):
            pixels[:, level.own] = inverse @ own - right @ pixels[:, level.border]
            pixels[:, -1] = 0
        return pixels[:, :-1].mT.reshape(rhs.shape)


@dataclass(frozen=True)
class _Child:
    """One of the two children of each part, and the places of the pixels of a front in its border."""

    part: Tensor
    """(parts) index in the level below."""
    place: Tensor
    """(parts,size) index in the border of the child; its length where the pixel is not there."""


@dataclass(frozen=True)
class _Level:
    """Parts that are eliminated together. A front lists the pixels of the part that go now, then those around it."""

    own: Tensor
    """(parts,own_size) pixels eliminated here; the number of pixels is padding."""
    border: Tensor
    """(parts,size - own_size) pixels around the part."""
    entries: Tensor
    """Flat positions in the fronts (parts,size,size) of the steps that start or end at pixels eliminated here."""
    sources: Tensor
    """Their positions in T (4,H,W)."""
    children: tuple[_Child, ...]
    """None for leaves."""

    @property
    def parts(self) -> int:
        return len(self.own)

    @property
    def own_size(self) -> int:
        return self.own.shape[1]

    @property
    def size(self) -> int:
        return self.own.shape[1] + self.border.shape[1]

    def to(self, device: torch.device) -> _Level:
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "children"}
        return replace(
            self,
            **moved,
            children=tuple(_Child(child.part.to(device), child.place.to(device)) for child in self.children),
        )


@lru_cache(maxsize=16)
def _levels(height: int, width: int, device: torch.device) -> list[_Level]:
    """From the leaves to the line that splits the whole image."""
    regions = np.array([[0, height, 0, width]])
    plan: list[tuple[_Array, _Array, _Array]] = []
    while True:
        extent = regions[:, 1::2] - regions[:, ::2]
        if extent.prod(1).max() <= _LEAF:
            break
        axis = int(extent.max(0).argmax())
        middle = regions[:, 2 * axis] + (extent[:, axis] - 1) // 2
        line = regions.copy()
        line[:, 2 * axis], line[:, 2 * axis + 1] = middle, middle + 1
        plan.append(
            (_inside(line, height, width), _around(regions, height, width), np.arange(2 * len(regions)).reshape(-1, 2))
        )
        halves = np.stack([regions, regions], 1)
        halves[:, 0, 2 * axis + 1], halves[:, 1, 2 * axis] = middle, middle + 1
        regions = halves.reshape(-1, 4)
    plan.append(
        (_inside(regions, height, width), _around(regions, height, width), np.empty((len(regions), 0), dtype=int))
    )
    levels = []
    border_below = np.empty((0, 0), dtype=int)
    for own, border, children in reversed(plan):
        front = np.concatenate([own, border], 1)
        placed_children = [
            _Child(torch.from_numpy(part), torch.from_numpy(_find(border_below[part], front, height * width)))
            for part in children.T.copy()
        ]
        entries, sources = _entries(own, border, height, width)
        arrays = [torch.from_numpy(a).to(torch.int64) for a in (own, border, entries, sources)]
        levels.append(_Level(arrays[0], arrays[1], arrays[2], arrays[3], tuple(placed_children)).to(device))
        border_below = border
    return levels


def _inside(regions: _Array, height: int, width: int) -> _Array:
    """Pixels of rectangles (n,4) of first and end rows, first and end columns; padded with height * width."""
    top, bottom, left, right = (regions[:, i, None, None] for i in range(4))
    rows = top + np.arange(max(1, (bottom - top).max()))[:, None]
    columns = left + np.arange(max(1, (right - left).max()))
    pixels = np.where((rows < bottom) & (columns < right), rows * width + columns, height * width)
    return _compact(pixels.reshape(len(regions), -1), height * width)


def _around(regions: _Array, height: int, width: int) -> _Array:
    """Pixels beside rectangles, within the image."""
    top, bottom, left, right = regions.T
    empty = ((bottom <= top) | (right <= left))[:, None]
    sides = [
        np.stack([top - 1, top, left, right], 1),
        np.stack([bottom, bottom + 1, left, right], 1),
        np.stack([top, bottom, left - 1, left], 1),
        np.stack([top, bottom, right, right + 1], 1),
    ]
    outside = [s[:, :1] < 0 for s in sides[:1]] + [sides[1][:, :1] >= height]
    outside += [sides[2][:, 2:3] < 0, sides[3][:, 2:3] >= width]
    pixels = [
        np.where(o | empty, height * width, _inside(s, height, width)) for s, o in zip(sides, outside, strict=True)
    ]
    return _compact(np.concatenate(pixels, 1), height * width)


def _compact(pixels: _Array, padding: int) -> _Array:
    """Padding last, and no more than some row needs."""
    order = np.argsort(pixels == padding, axis=1, kind="stable")
    longest = int((pixels != padding).sum(1).max())
    result: _Array = np.take_along_axis(pixels, order, 1)[:, :longest]
    return result


def _find(lists: _Array, wanted: _Array, padding: int) -> _Array:
    """Place of each wanted pixel (n,m) in the list of its row (n,k), k where it is padding or absent."""
    row = np.arange(len(lists))[:, None] * (padding + 1)
    keys, sought = (lists + row).ravel(), wanted + row
    order = np.argsort(keys, kind="stable")
    at = order[np.searchsorted(keys[order], sought).clip(max=len(keys) - 1)]
    present = (keys[at] == sought) & (wanted != padding)
    result: _Array = np.where(present, at % lists.shape[1], lists.shape[1])
    return result


def _entries(own: _Array, border: _Array, height: int, width: int) -> tuple[_Array, _Array]:
    """Positions in the fronts, and in T, of steps between own pixels and from or to the border."""
    count = height * width
    front = np.concatenate([own, border], 1)
    size = front.shape[1]
    part, place = np.nonzero(own != count)
    pixel = own[own != count]
    targets, sources = [], []
    moves = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    for direction, (down, right) in enumerate(moves):
        row, column = pixel // width + down, pixel % width + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        neighbour = np.full(own.shape, count)
        neighbour[own != count] = np.where(inside, row * width + column, count)
        other = _find(front, neighbour, count)[own != count]
        there = other < size
        targets.append(((part * size + place) * size + other)[there])
        sources.append((direction * count + pixel)[there])
        back = there & (other >= own.shape[1])
        targets.append(((part * size + other) * size + place)[back])
        sources.append(((3 - direction) * count + row * width + column)[back])
    return np.concatenate(targets), np.concatenate(sources)
