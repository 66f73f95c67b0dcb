"""Stage ``superpixels``: small regions of similar colour, or regions between edges, for every image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wss.edges import edge_strengths
from wss.errors import DataError, UsageError
from wss.params import Params
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import EDGES, SAMPLES, SUPERPIXELS, Store, StoreWriter
from wss.superpixels import AnySuperpixels, Felzenszwalb, SuperpixelMethod


class SuperpixelsParams(Params):
    """Parameters of the stage ``superpixels``."""

    method: AnySuperpixels = Felzenszwalb()
    """Superpixel algorithm and its settings, chosen by ``name``."""


def run(params: SuperpixelsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Compute the superpixels of all images of every split.

    Raises:
        UsageError: The algorithm needs edges, and there is no such input.
        DataError: The edges lack an image, or differ from it in size.
    """
    samples = inputs["samples"]
    edges = _edges(params.method, samples, inputs.maybe("edges"))
    todo = pending(samples.ids, output)
    advance = context.progress.task("superpixels", len(samples), len(samples) - len(todo))
    results = each(_segment, ((params, samples, edges, i) for i in todo), context.jobs, 4 if len(todo) > 100 else 1)
    for image_id, superpixels in zip(todo, results, strict=True):
        output.append(image_id, {"superpixels": superpixels})
        advance(1, image_id)
    output.meta["method"] = params.method.name


def _edges(method: SuperpixelMethod, samples: Store, edges: Store | None) -> Store | None:
    """The store of edges if the algorithm reads it, after a check that it has every image; else None."""
    if not method.needs_edges:
        return None
    if edges is None:
        raise UsageError(
            f"superpixels: method {method.name!r} needs the input 'edges'; add a stage `edges` to the pipeline and name it there"
        )
    missing = [image_id for image_id in samples.ids if image_id not in edges]
    if missing:
        raise DataError(
            f"superpixels: {len(missing)} of {len(samples)} images are not among the edges in {edges.path}, {missing[0]!r} first"
        )
    return edges


def _segment(params: SuperpixelsParams, samples: Store, edges: Store | None, image_id: str) -> NDArray[np.int32]:
    strengths = None if edges is None else edge_strengths(edges.get("edges", image_id))
    try:
        return params.method.segment(samples.get("image", image_id), strengths)
    except DataError as error:
        raise DataError(f"image {image_id!r}: {error}") from error


def _unread(params: SuperpixelsParams) -> frozenset[str]:
    return frozenset() if params.method.needs_edges else frozenset({"edges"})


STAGE = Stage(
    "superpixels",
    1,
    SuperpixelsParams,
    {"samples": Input(SAMPLES), "edges": Input(EDGES, optional=True)},
    SUPERPIXELS,
    run,
    unread=_unread,
)
