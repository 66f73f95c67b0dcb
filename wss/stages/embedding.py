"""Pixel embeddings of whole images and their clusters, shared by the stages of SPML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wss.checkpoints import build_model
from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.methods.coarse import cell_means
from wss.methods.spml import EmbeddingSegmenter
from wss.ops import spherical_kmeans
from wss.params import Params
from wss.store import Store


class SegmentParams(Params):
    """Settings of the clustering that cuts an image into segments at inference."""

    grid: int = Field(default=12, ge=1)
    """Rows and columns of the initial clusters of k-means: grid x grid clusters. Larger: smaller segments."""
    iterations: int = Field(default=10, ge=0)
    """Number of k-means iterations."""
    location_scale: float = Field(default=1.0, ge=0)
    """Weight of the pixel's position relative to its embedding. Larger: more compact segments."""
    stride: int = Field(default=4, ge=1)
    """Side of the square cells that are clustered, in pixels. 1 clusters single pixels, as the authors' code does."""


def load_embedder(store: Store, device: torch.device) -> EmbeddingSegmenter:
    """Load the network of a model store in evaluation mode.

    Raises:
        UsageError: The network does not embed pixels.
    """
    model = build_model(store)
    if not isinstance(model, EmbeddingSegmenter):
        raise UsageError(
            f"this stage needs a network that embeds pixels, trained by spml; {store.path} was trained by "
            f"{store.meta['method']['name']}"
        )
    return model.to(device).eval()


@torch.inference_mode()
def embedded(model: EmbeddingSegmenter, rgb: Tensor, stride: int, amp: bool = False) -> Tensor:
    """Embeddings on a grid of cells of ``stride`` pixels.

    Args:
        model: The network.
        rgb: float32 (B,3,H,W) in 0..255.
        stride: A multiple or a divisor of the network's embedding stride. A multiple averages the network's cells; a divisor
            interpolates between them.
        amp: Autocast to bfloat16.

    Returns:
        float32 (B,C,ceil(H/stride),ceil(W/stride)), unit length.

    Raises:
        UsageError: ``stride`` is neither a multiple nor a divisor.
    """
    with torch.autocast(rgb.device.type, torch.bfloat16, enabled=amp):
        own = model.embed(rgb).float()
    if stride == model.stride:
        return own
    if stride % model.stride == 0:
        return functional.normalize(cell_means(own, stride // model.stride, "replicate"), dim=1)
    if model.stride % stride:
        raise UsageError(
            f"stride must be a multiple or a divisor of the stride of the embedding, {model.stride}; got {stride}"
        )
    size = [-(-side // stride) for side in rgb.shape[2:]]
    return functional.normalize(enlarged(own, model.stride // stride, size), dim=1)


def enlarged(cells: Tensor, side: int, size: Sequence[int]) -> Tensor:
    """Enlarge cells (B,C,h,w) of ``side`` pixels to maps (B,C,*size), bilinearly between the centres of the cells."""
    if side > 1:
        cells = functional.interpolate(cells, scale_factor=side, mode="bilinear", align_corners=False)
    return cells[..., : size[0], : size[1]]


def clustered(embeddings: Tensor, params: SegmentParams) -> Tensor:
    """Cluster ids, int64 (B,h,w), of embeddings (B,C,h,w)."""
    return spherical_kmeans(
        embeddings, grid=params.grid, iterations=params.iterations, location_scale=params.location_scale
    )


def known_classes(labels: Store, image_id: str) -> NDArray[np.int64]:
    """Classes that occur in an image's labels or tags, int64, ascending."""
    classes = np.unique(labels.get("labels", image_id))
    classes = classes[classes != UNLABELLED]
    if labels.has("tags", image_id):
        classes = np.union1d(classes, np.flatnonzero(labels.get("tags", image_id)))
    return classes.astype(np.int64)
