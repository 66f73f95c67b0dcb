"""Segments of the pixels of a batch, their mean embeddings and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wss.errors import UsageError
from wss.labels import UNLABELLED


@dataclass(frozen=True)
class Segments:
    """A partition of the pixels of a batch.

    Attributes:
        ids: int64 (B,H,W), the segment of each pixel, 0 to S - 1 over the whole batch; -1 for pixels without segment.
        image: int64 (S,), the image of each segment, ascending.
    """

    ids: Tensor
    image: Tensor

    @property
    def count(self) -> int:
        """S, the number of segments. Each has at least one pixel."""
        return len(self.image)


@torch.no_grad()
def split_segments(clusters: Tensor, *partitions: Tensor, valid: Tensor | None = None) -> Segments:
    """Group pixels into segments by image, cluster and further partitions.

    Two pixels are in the same segment if their image, their cluster and their value in each partition are equal.
    Segments need not be connected.

    Args:
        clusters: int64 (B,H,W), from ``spherical_kmeans``; negative for pixels without segment.
        partitions: int64 (B,H,W) each, any values, for example superpixels or label maps. In a label map the unlabelled
            pixels are one more part.
        valid: bool (B,H,W), False for pixels without segment. None uses ``clusters`` only.

    Returns:
        The segments, numbered by image, then cluster, then partitions. The function waits for the device, because the
        number of segments must be known.

    Raises:
        UsageError: Shapes, dtypes or devices disagree.
    """
    for other in partitions:
        if other.dtype != torch.int64 or other.shape != clusters.shape or other.device != clusters.device:
            raise UsageError(
                f"partitions must be int64 {tuple(clusters.shape)} on {clusters.device} like the clusters; got {other.dtype} "
                f"{tuple(other.shape)} on {other.device}"
            )
    if clusters.dtype != torch.int64 or clusters.ndim != 3:
        raise UsageError(f"clusters must be int64 (B,H,W); got {clusters.dtype} {tuple(clusters.shape)}")
    used = (clusters >= 0) if valid is None else (clusters >= 0) & valid
    used = used.flatten()
    image = torch.arange(len(clusters), device=clusters.device)[:, None, None].expand_as(clusters).flatten()
    if not used.numel():
        return Segments(torch.full_like(clusters, -1), image)
    ids = image
    for part in (clusters, *partitions):
        # Renumbering after each partition keeps the codes within 64 bits.
        part = torch.where(used, part.flatten(), 0)
        least, most = part.aminmax()
        ids = _numbered(torch.where(used, ids * (most - least + 1) + part - least, _LAST))
    ids = torch.where(used, ids, -1)
    count = int(ids.max()) + 1
    owner = image.new_zeros(count + 1).scatter_(0, torch.where(used, ids, count), image)
    return Segments(ids.reshape(clusters.shape), owner[:count])


_LAST = torch.iinfo(torch.int64).max


def _numbered(codes: Tensor) -> Tensor:
    """Replace each value by its rank among the distinct values, from 0."""
    ordered, order = codes.sort()
    changes = torch.zeros_like(ordered)
    changes[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(codes).scatter_(0, order, changes.cumsum(0))


def segment_prototypes(embeddings: Tensor, segments: Segments) -> Tensor:
    """The mean direction of each segment.

    Args:
        embeddings: float (B,C,H,W). The result is differentiable in them.
        segments: Segments of the same batch.

    Returns:
        (S,C) of unit length; 0 for a segment whose embeddings cancel out.

    Raises:
        UsageError: Sizes disagree.

    Source: Ke, Hwang, Yu 2021, section 3.2, the M-step.
    """
    _check_size(embeddings.shape[0], embeddings.shape[2:], segments)
    rows = embeddings.permute(0, 2, 3, 1).flatten(0, 2)
    # Pixels without segment go to an extra row.
    target = torch.where(segments.ids < 0, segments.count, segments.ids).flatten()
    sums = rows.new_zeros(segments.count + 1, rows.shape[1]).index_add(0, target, rows)
    return normalize(sums[:-1], dim=1)


@torch.no_grad()
def segment_labels(labels: Tensor, segments: Segments, num_classes: int, *, ignore_index: int = UNLABELLED) -> Tensor:
    """The most frequent label among the labelled pixels of each segment; the lowest label if several are most frequent.

    If these labels have split the segments, a segment has only one label.

    Args:
        labels: int64 (B,H,W), classes, ``ignore_index`` where unlabelled.
        segments: Segments of the same batch.
        num_classes: K.
        ignore_index: The unlabelled code.

    Returns:
        int64 (S,), ``ignore_index`` for a segment without any labelled pixel.

    Raises:
        UsageError: Sizes disagree.

    Source: Ke, Hwang, Yu 2021, section 3 (2): majority vote among pixels.
    """
    _check_size(labels.shape[0], labels.shape[1:], segments)
    counted = (labels != ignore_index) & (segments.ids >= 0)
    codes = torch.where(counted, segments.ids * num_classes + labels, segments.count * num_classes).flatten()
    votes = torch.zeros(segments.count * num_classes + 1, dtype=torch.int64, device=labels.device)
    votes = votes.scatter_add_(0, codes, torch.ones_like(codes))[:-1].reshape(segments.count, num_classes)
    most, winner = votes.max(1)
    return torch.where(most > 0, winner, ignore_index)


def _check_size(batch: int, size: tuple[int, ...], segments: Segments) -> None:
    if (batch, *size) != tuple(segments.ids.shape):
        raise UsageError(f"the segments are of a batch {tuple(segments.ids.shape)}, not {(batch, *size)}")
