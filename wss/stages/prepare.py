"""Stage ``prepare``: the labels a network is trained on, made from a data set's scribbles or masks, or its image tags."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wss.errors import DataError
from wss.params import Params
from wss.scribbles import Stroke, drop, image_seed, points, rasterise, shrink, simulate
from wss.stages.parallel import each
from wss.stages.samples import unpack_strokes
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, SAMPLES, Store, StoreWriter

Labels = NDArray[np.uint8]


class PrepareParams(Params):
    """Which annotation, and how it is thinned out."""

    annotation: Literal["scribble", "mask", "tag"] = "scribble"
    """``scribble``; ``mask`` for the dense upper bound; ``tag`` for no pixel at all, but the classes that are in the image."""
    source: Literal["auto", "given", "simulated"] = "auto"
    """Scribbles of the data set, or drawn from its masks; ``auto`` draws them only where the data set has none at all."""
    drop: float = Field(default=0.0, ge=0, le=1)
    """Probability with which an object loses all its scribbles (scribble-drop, RW-SS section 4)."""
    shrink: float = Field(default=0.0, ge=0, le=1)
    """Share of every stroke's length that is cut away (scribble-shrink): 0 keeps all, 1 leaves a point."""
    points: bool = False
    """One labelled point per stroke instead of the stroke."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training images that keep their labels; the others become unlabelled images."""
    seed: int = Field(default=0, ge=0)
    """Decides what is drawn, dropped and kept, together with each image's id."""

    @model_validator(mode="after")
    def _only_scribbles_are_thinned(self) -> PrepareParams:
        if self.annotation != "scribble" and (self.drop or self.shrink or self.points or self.source != "auto"):
            raise ValueError(f"annotation {self.annotation!r} takes no scribble options")
        if self.points and self.shrink:
            raise ValueError("points already shrinks every stroke to a point; give one of points and shrink")
        return self


def run(params: PrepareParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Make the labels of every image; images without any annotation get labels that are 255 everywhere.

    With image tags, labels are 255 everywhere, and images that have an annotation have ``tags``: the classes of the mask, or
    else of boxes or scribbles, and always the background where the data set has one.

    Raises:
        DataError: The data set has neither scribbles nor masks, or not what is asked for.
    """
    samples = inputs["samples"]
    simulated = _must_simulate(params, samples)
    kept = _kept(params, samples)
    todo = pending(samples.ids, output)
    advance = context.progress.task("preparing labels", len(samples), len(samples) - len(todo))
    calls = ((params, samples, image_id, simulated, image_id in kept) for image_id in todo)
    results = each(_annotate, calls, context.jobs, 8 if len(todo) > 100 else 1)
    for image_id, arrays in zip(todo, results, strict=True):
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(annotation=params.annotation, simulated=simulated, options=_options(params))


def _options(params: PrepareParams) -> dict[str, float | bool]:
    """How the annotation was thinned out, where it was."""
    whole = PrepareParams()
    names = ("drop", "shrink", "points", "fraction")
    return {name: getattr(params, name) for name in names if getattr(params, name) != getattr(whole, name)}


def _must_simulate(params: PrepareParams, samples: Store) -> bool:
    masks = any(samples.has("mask", i) for i in samples.ids)
    given = any(samples.has("scribble", i) or samples.has("strokes", i) for i in samples.ids)
    if params.annotation == "mask":
        if not masks:
            raise DataError("dense training needs masks, and this data set has none")
        return False
    if params.annotation == "tag":
        if not masks and not given and not any(samples.has("boxes", i) for i in samples.ids):
            raise DataError(
                "image tags are those of masks, boxes or scribbles, and this data set has none of them; "
                "`wss data check` lists what it has"
            )
        return masks
    simulated = params.source == "simulated" or (params.source == "auto" and not given)
    if simulated and not masks:
        raise DataError(
            "this data set has neither scribbles nor masks to draw them from; `wss data check` lists what it has"
        )
    if params.source == "given" and not given:
        raise DataError("this data set has no scribbles; source 'simulated' draws them from its masks")
    return simulated


def _kept(params: PrepareParams, samples: Store) -> set[str]:
    """Image ids that keep their labels: of the training split the given share, ranked by a hash of seed and id."""
    train = samples.meta["splits"].get("train", [])
    ranked = sorted(train, key=lambda i: image_seed(params.seed, f"fraction/{i}"))
    count = max(1, round(params.fraction * len(ranked))) if ranked else 0
    return set(samples.ids) - set(ranked[count:])


def _annotate(
    params: PrepareParams, samples: Store, image_id: str, simulated: bool, keep: bool
) -> dict[str, NDArray[np.uint8]]:
    shape = samples.get("image", image_id).shape[:2]
    nothing: Labels = np.full(shape, 255, np.uint8)
    if not keep:
        return {"labels": nothing}
    if params.annotation == "tag":
        tags = _tags(samples, image_id)
        return {"labels": nothing} if tags is None else {"labels": nothing, "tags": tags}
    return {"labels": _labels(params, samples, image_id, simulated, nothing)}


def _tags(samples: Store, image_id: str) -> NDArray[np.uint8] | None:
    """Which classes are in the image, uint8 (K,), from the first of mask, boxes, strokes and scribble that it has."""
    found: NDArray[Any]
    if samples.has("mask", image_id):
        found = samples.get("mask", image_id)
    elif samples.has("boxes", image_id):
        found = samples.get("boxes", image_id)[:, 0]
    elif samples.has("strokes", image_id):
        found = samples.get("strokes", image_id)[:, 1]
    elif samples.has("scribble", image_id):
        found = samples.get("scribble", image_id)
    else:
        return None
    tags = np.isin(np.arange(len(samples.meta["classes"])), found).astype(np.uint8)
    if samples.meta["background"] is not None:
        tags[samples.meta["background"]] = 1
    return tags


def _labels(params: PrepareParams, samples: Store, image_id: str, simulated: bool, nothing: Labels) -> Labels:
    shape = (nothing.shape[0], nothing.shape[1])
    if params.annotation == "mask":
        return samples.get("mask", image_id) if samples.has("mask", image_id) else nothing
    seed = image_seed(params.seed, image_id)
    if simulated:
        if not samples.has("mask", image_id):
            return nothing
        return _rasterised(_thinned(params, simulate(samples.get("mask", image_id), seed), seed), shape)
    if samples.has("strokes", image_id):
        return _rasterised(_thinned(params, list(unpack_strokes(samples.get("strokes", image_id))), seed), shape)
    if samples.has("scribble", image_id):
        return _thinned_raster(params, samples.get("scribble", image_id), seed)
    return nothing


def _thinned(params: PrepareParams, strokes: list[Stroke], seed: int) -> list[Stroke]:
    strokes = list(drop(strokes, params.drop, seed)) if params.drop else strokes
    strokes = list(points(strokes, seed)) if params.points else strokes
    return list(shrink(strokes, params.shrink, seed)) if params.shrink else strokes


def _thinned_raster(params: PrepareParams, scribble: Labels, seed: int) -> Labels:
    scribble = drop(scribble, params.drop, seed) if params.drop else scribble
    scribble = points(scribble, seed) if params.points else scribble
    return shrink(scribble, params.shrink, seed) if params.shrink else scribble


def _rasterised(strokes: list[Stroke], shape: tuple[int, int]) -> Labels:
    return rasterise(strokes, shape)


STAGE = Stage("prepare", 1, PrepareParams, {"samples": Input(SAMPLES)}, LABELS, run)
