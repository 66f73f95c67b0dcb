"""Stage ``superpixels``: every image cut into small regions of like colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wss.params import Params
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import SAMPLES, SUPERPIXELS, Store, StoreWriter
from wss.superpixels import AnySuperpixels, Felzenszwalb


class SuperpixelsParams(Params):
    """Which algorithm, with its settings."""

    method: AnySuperpixels = Felzenszwalb()
    """Chosen by its ``name``."""


def run(params: SuperpixelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Cut the images of every split."""
    samples = inputs["samples"]
    todo = pending(samples.ids, output)
    advance = context.progress.task("superpixels", len(samples), len(samples) - len(todo))
    results = each(_segment, ((params, samples, i) for i in todo), context.jobs, 4 if len(todo) > 100 else 1)
    for image_id, superpixels in zip(todo, results, strict=True):
        output.append(image_id, {"superpixels": superpixels})
        advance(1, image_id)
    output.meta["method"] = params.method.name


def _segment(params: SuperpixelsParams, samples: Store, image_id: str) -> NDArray[np.int32]:
    return params.method.segment(samples.get("image", image_id))


STAGE = Stage("superpixels", 1, SuperpixelsParams, {"samples": Input(SAMPLES)}, SUPERPIXELS, run)
