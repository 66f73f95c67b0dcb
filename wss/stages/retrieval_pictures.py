"""Stage ``retrieval-pictures``: segments of images beside the training segments that are most similar to them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from wss.ops import Segments
from wss.params import Params
from wss.predictor import as_tensor
from wss.stages.embedding import SegmentParams, load_embedder
from wss.stages.prototypes import Bank
from wss.stages.retrieve import query_segments
from wss.stages.splits import check_split, evenly, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import MODEL, PICTURES, PROTOTYPES, SAMPLES, StoreWriter
from wss.viz import spotlight


class RetrievalPicturesParams(Params):
    """Parameters of the stage ``retrieval-pictures``."""

    split: str = "val"
    """Split from which images are chosen."""
    images: int = Field(default=6, ge=1)
    """Maximum number of images, evenly spread over the split."""
    neighbours: int = Field(default=4, ge=1)
    """Number of training images shown per image, each with its most similar segment."""
    segments: SegmentParams = SegmentParams()
    """Clustering of the image."""


def run(params: RetrievalPicturesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Show one segment of each image beside the most similar segments of training images. All other pixels are dimmed.

    The segment is the largest one whose nearest neighbour is not background, or the largest one if there is none.

    Raises:
        UsageError: The network does not embed pixels, another network made the prototypes, or the strides do not fit.

    Source: Ke, Hwang, Yu 2021, Fig. 10.
    """
    samples, prototypes = inputs["samples"], inputs["prototypes"]
    model = load_embedder(inputs["model"], context.device)
    bank = Bank(prototypes, inputs["model"], context.device)
    ids = split_ids(samples, params.split)
    ids = evenly(ids, params.images)
    stride = prototypes.meta["segments"]["stride"]
    todo = pending(ids, output)
    advance = context.progress.task("retrieval pictures", len(ids), len(ids) - len(todo))
    for image_id in todo:
        image = samples.get("image", image_id)
        with torch.inference_mode():
            segments, queries = query_segments(model, as_tensor(image, context.device), params.segments, amp=False)
        query = _conspicuous(bank, segments, queries, image_id, samples.meta["background"])
        tiles = [spotlight(image, _pixels(segments.ids[0] == query, params.segments.stride, image))]
        for neighbour, segment in _nearest(bank, queries[query], image_id, params.neighbours):
            place = torch.from_numpy(prototypes.get("segments", neighbour) == segment)
            other = samples.get("image", neighbour)
            tiles.append(_fitted(spotlight(other, _pixels(place, stride, other)), image.shape[:2]))
        blank = np.full_like(tiles[0], 255)
        output.append(image_id, {"tiles": np.stack([*tiles, *[blank] * (1 + params.neighbours - len(tiles))])})
        advance(1, image_id)
    output.meta["captions"] = ["Segment", *(f"Nearest {n}" for n in range(1, params.neighbours + 1))]
    output.meta["titles"] = dict.fromkeys(
        ids, "A segment, and the labelled segments of other images most similar to it"
    )


def _conspicuous(bank: Bank, segments: Segments, queries: Tensor, image_id: str, background: int | None) -> int:
    """Index of the largest segment whose nearest neighbour is not background, or of the largest segment if there is none."""
    _, index = bank.search(queries, 1, without=image_id)
    sizes = torch.bincount(segments.ids.flatten(), minlength=segments.count)
    if background is not None:
        sizes = sizes + (bank.labels[index[:, 0]] != background) * segments.ids.numel()
    return int(sizes.argmax())


def _nearest(bank: Bank, query: Tensor, image_id: str, count: int) -> list[tuple[str, int]]:
    """The ``count`` images with the most similar segments, each with the number of its most similar segment."""
    similarity, index = (
        tensor[0].cpu().numpy() for tensor in bank.search(query[None], len(bank.labels), without=image_id)
    )
    index = index[np.isfinite(similarity)]
    images, first = np.unique(bank.image.cpu().numpy()[index], return_index=True)
    order = np.argsort(first)[:count]
    return [(bank.ids[images[n]], int(index[first[n]] - bank.first[images[n]])) for n in order]


def _pixels(cells: Tensor, stride: int, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Enlarge a mask of cells (h,w) to the pixels (H,W) of the image."""
    whole = cells.cpu().numpy().repeat(stride, 0).repeat(stride, 1)
    mask: NDArray[np.bool_] = whole[: image.shape[0], : image.shape[1]]
    return mask


def _fitted(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture to fit into ``size`` and centre it on white."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    whole = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    whole[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return whole


STAGE = Stage(
    "retrieval-pictures",
    1,
    RetrievalPicturesParams,
    {"samples": Input(SAMPLES), "model": Input(MODEL), "prototypes": Input(PROTOTYPES)},
    PICTURES,
    run,
    check=check_split,
    reports=True,
)
