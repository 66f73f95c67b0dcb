"""Stage ``boundary-pictures``: the edge maps that BPG networks predict, beside the detector's edges that they learned from."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.checkpoints import build_model
from wss.edges import edge_levels
from wss.methods.bpg import BoundaryGuided, Bpg
from wss.params import Params, validate
from wss.stages.splits import check_split, evenly, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import EDGES, MODEL, PICTURES, SAMPLES, Store, StoreWriter

_READS = {"fg-bg": "foreground and background", "all": "all channels", "level": "doubt about the background"}


class BoundaryPicturesParams(Params):
    """Parameters of the stage ``boundary-pictures``."""

    split: str = "val"
    """Split from which images are chosen."""
    images: int = Field(default=6, ge=1)
    """Maximum number of images, evenly spread over the split."""


class EdgeRegressor:
    """Edge maps that a BPG network regresses from its scores.

    Args:
        store: Model store of a network that was trained with a boundary branch.
        device: Device on which the network runs.
    """

    def __init__(self, store: Store, device: torch.device) -> None:
        self.method = validate(Bpg, store.meta["method"], str(store.path))
        self._background = store.meta["background"]
        self._model = cast(BoundaryGuided, build_model(store).to(device).eval())
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Edge map, float32 (H,W) in 0..1, of an image, uint8 (H,W,3). The image is not rescaled."""
        rgb = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float()
        logits = self._model(rgb, coarse=True)
        edges = self.method.regressed_edges(self._model, logits, self._background, rgb.shape[2:])
        boundary: NDArray[np.float32] = edges[0].cpu().numpy()
        return boundary


def run(params: BoundaryPicturesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Paint the detector's edges and the edges of every network with a boundary branch. White is 1.

    Networks without a boundary branch are skipped. If no network has one, no pictures are made.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", Fig. 5.
    """
    samples, edges = inputs["samples"], inputs["edges"]
    stores = [store for store in inputs.many("models") if _regresses(store)]
    if not stores:
        context.progress.say("boundary-pictures: no network has a boundary branch, so there is nothing to show")
    ids = evenly(split_ids(samples, params.split), params.images) if stores else []
    todo = pending(ids, output)
    networks = [EdgeRegressor(store, context.device) for store in stores] if todo else []
    advance = context.progress.task("boundary pictures", len(ids), len(ids) - len(todo))
    for image_id in todo:
        maps = [network(samples.get("image", image_id)) for network in networks]
        output.append(image_id, {"tiles": np.stack([_grey(edges.get("edges", image_id)), *map(edge_map, maps)])})
        advance(1, image_id)
    output.meta["captions"] = [f"Edges of the detector ({edges.meta['detector']})", *captions(stores)]
    output.meta["titles"] = dict.fromkeys(
        ids, "Edges that networks learned from, and those that they regress from their scores: white is 1"
    )


def _regresses(store: Store) -> bool:
    method = store.meta["method"]
    return bool(method["name"] == "bpg" and method["boundary"] != "none")


def captions(stores: list[Store]) -> list[str]:
    """One caption per network: the input of its boundary branch, and the seed if captions would otherwise be equal."""
    names = []
    for store in stores:
        method = store.meta["method"]
        names.append(f"From {_READS[method['boundary']]}{'' if method['refine'] else ', no refinement'}")
    return [
        f"{name}, seed {store.attributes['seed']}" if names.count(name) > 1 else name
        for store, name in zip(stores, names, strict=True)
    ]


def edge_map(edges: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Edges, float (H,W) in 0..1, as grey levels, uint8 (H,W,3)."""
    return _grey(edge_levels(edges))


def _grey(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(levels[..., None], 3, axis=2)


STAGE = Stage(
    "boundary-pictures",
    1,
    BoundaryPicturesParams,
    {"samples": Input(SAMPLES), "edges": Input(EDGES), "models": Input(MODEL, many=True)},
    PICTURES,
    run,
    check=check_split,
    reports=True,
)
