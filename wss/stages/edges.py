"""Stage ``edges``: an edge map of every image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from wss.datasets.source import Catalogue
from wss.edges import Detect, DetectorParams, build_detector, edge_levels
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import EDGES, SAMPLES, Store, StoreWriter


class EdgesParams(DetectorParams):
    """Parameters of the stage ``edges``."""


def run(params: EdgesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Detect the edges of all images. On a GPU, images run one after another; on the CPU, ``jobs`` images run at once.

    Raises:
        DataError: The weight file is missing, damaged or for another network.
        UsageError: OpenCV has no structured forests.
    """
    samples = inputs["samples"]
    loaded_detector(params, str(context.device))  # faulty weights raise here, not in a worker process
    todo = pending(samples.ids, output)
    advance = context.progress.task(f"edges ({params.detector})", len(samples), len(samples) - len(todo))
    jobs = 1 if context.device.type == "cuda" else context.jobs
    calls = ((params, samples, image_id, str(context.device)) for image_id in todo)
    for image_id, edges in zip(todo, each(_detect, calls, jobs, 4 if len(todo) > 100 else 1), strict=True):
        output.append(image_id, {"edges": edges})
        advance(1, image_id)
    output.meta.update(
        detector=params.detector,
        alignment=params.alignment if params.detector == "hed" else None,
        weights=params.file and {"file": params.file.name, "sha256": params.digest()},
        scales=list(params.scales),
        flip=params.flip,
        nms=params.nms,
    )


def _detect(params: EdgesParams, samples: Store, image_id: str, device: str) -> NDArray[np.uint8]:
    edges = loaded_detector(params, device)(np.array(samples.get("image", image_id)))
    return edge_levels(edges)


@lru_cache(maxsize=1)
def loaded_detector(params: DetectorParams, device: str) -> Detect:
    """Load the detector, once per process."""
    return build_detector(params, torch.device(device))


def _weights_digest(params: EdgesParams, context: Context) -> str:
    """Digest of the weight file, so that a changed file with the same name gives a new store."""
    return str(params.digest())


def _check(params: EdgesParams, catalogue: Catalogue) -> None:
    """Raise if the weights cannot be loaded."""
    loaded_detector(params, "cpu")


STAGE = Stage("edges", 1, EdgesParams, {"samples": Input(SAMPLES)}, EDGES, run, source=_weights_digest, check=_check)
