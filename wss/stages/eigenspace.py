"""Stage ``eigenspace``: what the random walk of an RW-SS network does to features, where it leads, and how stable it is."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from wss.checkpoints import build_model
from wss.errors import UsageError
from wss.methods.rw_ss import WalkingSegmenter
from wss.metrics import relative_variation, step_shares
from wss.networks.layers.random_walk import RandomWalk, Walk
from wss.ops import Transform, leading_eigenvectors, transform_transition
from wss.params import Params
from wss.stages.samples import check_split, evenly, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import MODEL, PICTURES, SAMPLES, Store, StoreWriter
from wss.viz import signed_map

LOCATIONS = ("features before the walk", "features after it", "transition matrix")


class EigenspaceParams(Params):
    """Which images, and what of them."""

    split: str = "val"
    """Images to choose from."""
    images: int = Field(default=6, ge=1)
    """So many of them, evenly spread."""
    eigenvectors: int = Field(default=3, ge=1, le=8)
    """Leading eigenvectors to paint, after the constant one."""
    shift: float = Field(default=0.25, gt=0, lt=1)
    """Translation whose effect is measured, as a share of the height."""


def run(params: EigenspaceParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint features before and after the walk and leading eigenvectors of P, and measure what a transform changes of them, and
    where steps of the walk lead.

    Raises:
        UsageError: The network has no random walk.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", Fig. 1 and Table 3.
    """
    samples, model = inputs["samples"], inputs["model"]
    network = _network(model, context.device)
    ids = evenly(split_ids(samples, params.split), params.images)
    todo = pending(ids, output)
    advance = context.progress.task("eigenspace", len(ids), len(ids) - len(todo))
    for image_id in todo:
        rgb = torch.from_numpy(np.array(samples.get("image", image_id))).permute(2, 0, 1)[None].float()
        output.append(image_id, _look(params, network, rgb.to(context.device)))
        advance(1, image_id)
    variations, steps = np.split(np.mean([output.read(i)["numbers"] for i in ids], axis=0), [6])
    alpha = cast(RandomWalk, network.random_walk).alpha.item()
    output.meta["captions"] = [
        "Before the walk",
        "After it",
        *(f"Eigenvector {n + 2}" for n in range(params.eigenvectors)),
    ]
    output.meta["titles"] = dict.fromkeys(
        ids, "Random walk: features by their principal components; eigenvectors of P: negative red, positive yellow"
    )
    output.meta["tables"] = [
        {
            "title": "What a transform changes",
            "text": f"Relative variation on {len(ids)} images of '{params.split}': 0 where the transformed image gives the "
            "transformed representation, 1 where it gives another one.",
            "columns": ["transform", *LOCATIONS],
            "rows": [
                [name, *row.tolist()]
                for name, row in zip(("flip", "translation"), variations.reshape(2, 3), strict=True)
            ],
        },
        {
            "title": "Where features walk",
            "text": f"alpha is {alpha:.3g}. Where nearly all of a step stays in its cell, P is the identity and the walk but "
            "scales features; where it reaches nearly all cells, every feature gets the mean of the image. Of the steps to "
            "other cells, those alike lead to a cell of the same predicted class (mean over classes), and so would by chance "
            f"as many as the last column says. On the same {len(ids)} images.",
            "columns": ["step", "stays", "cells reached", "alike", "alike by chance"],
            "rows": [["random walk", *steps.tolist()]],
        },
    ]


def _network(store: Store, device: torch.device) -> WalkingSegmenter:
    model = build_model(store).to(device).eval()
    if not isinstance(model, WalkingSegmenter) or model.random_walk is None:
        raise UsageError(
            f"an eigenspace is that of a random walk, and the network of {store.path} has none; train `rw-ss`"
        )
    return model


@torch.inference_mode()
def _look(params: EigenspaceParams, network: WalkingSegmenter, rgb: Tensor) -> dict[str, NDArray[Any]]:
    walk = network.walk(network.features(rgb), transition=True)
    height, width = walk.before.shape[2:]
    _, vectors = leading_eigenvectors(_transition(walk)[0].exp().cpu().numpy(), params.eigenvectors)
    maps = [signed_map(vector.reshape(height, width)) for vector in vectors.T]
    maps += [np.zeros((height, width, 3), np.uint8)] * (params.eigenvectors - len(maps))  # a tiny image has fewer
    tiles = [_enlarged(m, rgb, network.stride) for m in (*_principal(walk), *maps)]
    rows = min(max(1, int(params.shift * height)), height - 1)
    transforms = (Transform(flip=True), Transform(rows=rows))
    numbers = [_variation(network, rgb, walk, transform) for transform in transforms]
    numbers.append(_steps(network, walk))
    return {"tiles": np.stack(tiles), "numbers": np.concatenate(numbers).astype(np.float32)}


def _transition(walk: Walk) -> Tensor:
    return cast(Tensor, walk.log_transition)


def _variation(network: WalkingSegmenter, rgb: Tensor, walk: Walk, transform: Transform) -> list[float]:
    """How much ``LOCATIONS`` vary under a transform."""
    other = network.walk(network.features(transform.image(rgb, network.stride)), transition=True)
    size = (walk.before.shape[2], walk.before.shape[3])
    moved = transform_transition(_transition(walk), transform, size, log=True)
    pairs = (
        (transform.features(walk.before), other.before),
        (transform.features(walk.after), other.after),
        (moved.exp(), _transition(other).exp()),
    )
    return [relative_variation(a.float().cpu().numpy(), b.float().cpu().numpy()) for a, b in pairs]


def _steps(network: WalkingSegmenter, walk: Walk) -> list[float]:
    """``StepShares`` of the walk, between the classes that the network sees in its cells."""
    height, width = walk.before.shape[2:]
    classes = network.classify(walk.features, (height, width))[0].argmax(0).flatten().cpu().numpy()
    shares = step_shares(_transition(walk)[0].cpu().numpy(), classes)
    return [shares.stays, shares.reach, shares.alike, shares.chance]


def _principal(walk: Walk) -> list[NDArray[np.uint8]]:
    """Features before and after the walk as colours (h,w,3): their three principal components, the same for both."""
    both = [maps[0].flatten(1).T.double().cpu().numpy() for maps in (walk.before, walk.after)]
    together = np.concatenate(both)
    mean = together.mean(0)
    _, _, axes = np.linalg.svd(together - mean, full_matrices=False)
    shades = [(features - mean) @ axes[:3].T for features in both]
    low, high = np.percentile(np.concatenate(shades), (1, 99), axis=0)
    scaled = [((s - low) / np.maximum(high - low, 1e-12)).clip(0, 1) for s in shades]
    size = (*walk.before.shape[2:], 3)
    return [np.rint(255 * np.pad(s, ((0, 0), (0, 3 - s.shape[1]))).reshape(size)).astype(np.uint8) for s in scaled]


def _enlarged(tile: NDArray[np.uint8], rgb: Tensor, stride: int) -> NDArray[np.uint8]:
    height, width = rgb.shape[2:]
    size = (tile.shape[1] * stride, tile.shape[0] * stride)
    return np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_NEAREST)[:height, :width], np.uint8)


STAGE = Stage(
    "eigenspace",
    2,
    EigenspaceParams,
    {"samples": Input(SAMPLES), "model": Input(MODEL)},
    PICTURES,
    run,
    check=check_split,
)
