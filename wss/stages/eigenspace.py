"""Stage ``eigenspace``: pictures and tables of an RW-SS network's random walk: features, eigenvectors, steps and stability."""

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
from wss.metrics import relative_variation, relative_variations, step_shares
from wss.networks.layers.feature_walk import FeatureWalk, FeatureWalkResult
from wss.ops import Transform, leading_eigenvectors, transform_transition
from wss.params import LATER, Params
from wss.stages.splits import check_split, evenly, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import MODEL, PICTURES, SAMPLES, Store, StoreWriter
from wss.viz import heat_map, signed_map

LOCATIONS = ("features before the walk", "features after it", "transition matrix")
TRANSFORMS = ("flip", "translation")


class EigenspaceParams(Params):
    """Parameters of the stage ``eigenspace``."""

    split: str = "val"
    """Split from which images are chosen."""
    images: int = Field(default=6, ge=1)
    """Maximum number of images, evenly spread over the split."""
    eigenvectors: int = Field(default=3, ge=1, le=8)
    """Number of leading eigenvectors to paint, not counting the constant one."""
    shift: float = Field(default=0.25, gt=0, lt=1)
    """Length of the translation whose effect is measured, as a fraction of the image height."""
    name: str = Field(default="", json_schema_extra=LATER)
    """Text added to the titles, for reports on several networks. Table 3 of the paper compares the network of the first phase
    (for example ``before self-supervision``) with the final one."""


def run(params: EigenspaceParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint and measure the random walk of a network.

    Pictures: features before and after the walk, leading eigenvectors of P, and the places where an image transform (flip,
    translation) changes features or P. Tables: how much the transform changes them, and where steps of the walk lead.

    Raises:
        UsageError: The network has no random walk.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", Fig. 1, Fig. 5 and Table 3.
    Differs: Fig. 1 shows sums of absolute values over channels; here features are shown by three principal components.
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
    alpha = cast(FeatureWalk, network.random_walk).alpha.item()
    output.meta["captions"] = [
        "Before the walk",
        "After it",
        *(f"Eigenvector {n + 2}" for n in range(params.eigenvectors)),
        *(f"A {transform} changes {location}" for transform in TRANSFORMS for location in LOCATIONS),
    ]
    named = f" ({params.name})" if params.name else ""
    output.meta["titles"] = dict.fromkeys(
        ids,
        f"Random walk{named}. Features: principal components. Eigenvectors of P: negative red, positive yellow. Changes: red is "
        "the largest of each map",
    )
    output.meta["tables"] = [
        {
            "title": f"What a transform changes{named}",
            "text": f"Relative variation on {len(ids)} images of '{params.split}': 0 if the transformed image gives the "
            "transformed representation, 1 if it gives an unrelated one.",
            "columns": ["transform", *LOCATIONS],
            "rows": [[name, *row.tolist()] for name, row in zip(TRANSFORMS, variations.reshape(2, 3), strict=True)],
        },
        {
            "title": f"Where features walk{named}",
            "text": f"alpha is {alpha:.3g}. If nearly all of a step stays in its cell, P is the identity and the walk only "
            "scales features. If a step reaches nearly all cells, every feature becomes the mean of the image. 'alike' is the "
            "share of steps to other cells that lead to a cell of the same predicted class (mean over classes); 'alike by "
            f"chance' is that share for random steps. On the same {len(ids)} images.",
            "columns": ["step", "stays", "cells reached", "alike", "alike by chance"],
            "rows": [["random walk", *steps.tolist()]],
        },
    ]


def _network(store: Store, device: torch.device) -> WalkingSegmenter:
    model = build_model(store).to(device).eval()
    if not isinstance(model, WalkingSegmenter) or model.random_walk is None:
        raise UsageError(
            f"the stage eigenspace needs a network with a random walk, and the network of {store.path} has none; train `rw-ss`"
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
    numbers = []
    picture = rgb[0].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
    for transform in (Transform(flip=True), Transform(rows=rows)):
        pairs = _pairs(network, rgb, walk, transform)
        numbers.append([relative_variation(a, b) for a, b in pairs])
        changes = [_in_place(relative_variations(a, b), transform, height) for a, b in pairs]
        tiles += [heat_map(picture, _enlarged(_relative(change), rgb, network.stride)) for change in changes]
    numbers.append(_steps(network, walk))
    return {"tiles": np.stack(tiles), "numbers": np.concatenate(numbers).astype(np.float32)}


def _transition(walk: FeatureWalkResult) -> Tensor:
    return cast(Tensor, walk.log_transition)


def _pairs(
    network: WalkingSegmenter, rgb: Tensor, walk: FeatureWalkResult, transform: Transform
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Pairs of T(f) and f' for each of ``LOCATIONS``, each (h',w',C).

    For features, C are the channels. For P, C is the row of P that belongs to the position.
    """
    other = network.walk(network.features(transform.image(rgb, network.stride)), transition=True)
    size = (walk.before.shape[2], walk.before.shape[3])
    moved = transform_transition(_transition(walk), transform, size, log=True)
    places = other.before.shape[2:]
    mine, target = (p[0].exp().reshape(*places, -1) for p in (moved, _transition(other)))
    pairs = (
        (transform.features(walk.before)[0].permute(1, 2, 0), other.before[0].permute(1, 2, 0)),
        (transform.features(walk.after)[0].permute(1, 2, 0), other.after[0].permute(1, 2, 0)),
        (mine, target),
    )
    return [(a.float().cpu().numpy(), b.float().cpu().numpy()) for a, b in pairs]


def _in_place(values: NDArray[np.float64], transform: Transform, height: int) -> NDArray[np.float64]:
    """Map values at positions of the transformed image back to the original image; 0 where the image was cut off."""
    values = values[:, ::-1] if transform.flip else values
    missing = height - len(values)
    return np.pad(values, ((missing, 0) if transform.rows > 0 else (0, missing), (0, 0)))


def _relative(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values divided by their 99th percentile, clipped to 0..1."""
    result: NDArray[np.float32] = (values / max(np.percentile(values, 99), 1e-12)).clip(0, 1).astype(np.float32)
    return result


def _steps(network: WalkingSegmenter, walk: FeatureWalkResult) -> list[float]:
    """``StepShares`` of the walk, with the classes that the network predicts for its cells."""
    height, width = walk.before.shape[2:]
    classes = network.classify(walk.features, (height, width))[0].argmax(0).flatten().cpu().numpy()
    shares = step_shares(_transition(walk)[0].cpu().numpy(), classes)
    return [shares.stays, shares.reach, shares.alike, shares.chance]


def _principal(walk: FeatureWalkResult) -> list[NDArray[np.uint8]]:
    """Features before and after the walk as colours, uint8 (h,w,3): three principal components, computed from both together."""
    both = [maps[0].flatten(1).T.double().cpu().numpy() for maps in (walk.before, walk.after)]
    together = np.concatenate(both)
    mean = together.mean(0)
    _, _, axes = np.linalg.svd(together - mean, full_matrices=False)
    shades = [(features - mean) @ axes[:3].T for features in both]
    low, high = np.percentile(np.concatenate(shades), (1, 99), axis=0)
    scaled = [((s - low) / np.maximum(high - low, 1e-12)).clip(0, 1) for s in shades]
    size = (*walk.before.shape[2:], 3)
    return [np.rint(255 * np.pad(s, ((0, 0), (0, 3 - s.shape[1]))).reshape(size)).astype(np.uint8) for s in scaled]


def _enlarged(tile: NDArray[Any], rgb: Tensor, stride: int) -> NDArray[Any]:
    height, width = rgb.shape[2:]
    size = (tile.shape[1] * stride, tile.shape[0] * stride)
    return np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_NEAREST)[:height, :width], tile.dtype)


STAGE = Stage(
    "eigenspace",
    3,
    EigenspaceParams,
    {"samples": Input(SAMPLES), "model": Input(MODEL)},
    PICTURES,
    run,
    check=check_split,
    reports=True,
)
