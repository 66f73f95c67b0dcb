"""Stage ``prepare``: training labels from the scribbles, points, boxes, image tags or masks of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wss.datasets.source import Catalogue
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.params import LATER, Params
from wss.scribbles import (
    Stroke,
    box_labels,
    boxes_of,
    click,
    drop,
    image_seed,
    one_each,
    points,
    rasterise,
    scribbled_objects,
    shrink,
    simulate,
    skeleton_paths,
    surrounded,
    unpack_strokes,
)
from wss.stages.parallel import each
from wss.stages.splits import require_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, SAMPLES, Store, StoreWriter

Labels = NDArray[np.uint8]


class PrepareParams(Params):
    """Parameters of the stage ``prepare``."""

    annotation: Literal["scribble", "mask", "tag", "point", "box"] = "scribble"
    """Kind of labels. ``scribble``: labelled strokes. ``point``: one click per object. The data set's own clicks (strokes of one
    point) are used as they are; other strokes become one point each, as with ``points``; without scribbles, one click is
    drawn at random in the inner part of each region of the masks. ``box``: background outside all boxes, unlabelled inside.
    ``mask``: full masks, the dense upper bound. ``tag``: the classes of each image, and no labelled pixel."""
    source: Literal["auto", "given", "simulated"] = "auto"
    """Origin of scribbles, points or boxes. ``given``: the data set. ``simulated``: they are drawn from the masks. ``auto``: they
    are drawn from the masks only if the whole data set has none."""
    drop: float = Field(default=0.0, ge=0, le=1)
    """Probability that an object loses all its scribbles or its point (scribble-drop, RW-SS section 4). If the image has a mask,
    scribbles in the same connected region of their class belong to one object; background regions count as objects too. If it
    has no mask, scribbles of one class that touch belong to one object."""
    shrink: float = Field(default=0.0, ge=0, le=1)
    """Fraction of each stroke's length that is cut off (scribble-shrink): 0 keeps the stroke, 1 leaves a point."""
    points: bool = False
    """Replace each scribble by one labelled point. Applies to simulated scribbles too."""
    clicks: Literal["stroke", "object"] = Field(default="stroke", json_schema_extra=LATER)
    """For points only. ``stroke``: one point on each stroke. ``object``: one point per object, on one of its strokes, chosen at
    random. Objects are defined as for ``drop``. One click per object is length 0 in the regularised-losses paper, figure 5."""
    halo: float | None = Field(default=None, ge=1)
    """For points only. Pixels farther from every point than this multiple of the point's radius become background (SPML's
    labels for key points). None: pixels around points stay unlabelled."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the images of ``split`` that keep their labels. The other images of the split become unlabelled."""
    split: str = Field(default="train", json_schema_extra=LATER)
    """Training split, to which ``fraction`` applies. Images of other splits keep their labels."""
    seed: int = Field(default=0, ge=0)
    """Random seed for drawing, dropping and keeping labels. It is combined with the id of each image."""

    @model_validator(mode="after")
    def _only_scribbles_are_thinned(self) -> PrepareParams:
        if self.annotation in ("mask", "tag") and self.source != "auto":
            raise ValueError(f"annotation {self.annotation!r} takes no scribble options")
        if self.annotation not in ("scribble", "point") and self.drop:
            raise ValueError(f"annotation {self.annotation!r} takes no scribble options")
        if self.annotation != "scribble" and (self.shrink or self.points):
            raise ValueError(f"annotation {self.annotation!r} takes no scribble options")
        if self.halo is not None and self.annotation != "point":
            raise ValueError(f"halo applies to points only (annotation 'point'), not to annotation {self.annotation!r}")
        if self.clicks == "object" and not self.points and self.annotation != "point":
            raise ValueError("clicks applies to points only; set points or annotation 'point' as well")
        if self.points and self.shrink:
            raise ValueError("points already shrinks every stroke to a point; set either points or shrink, not both")
        return self


def run(params: PrepareParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Make the labels of every image. The labels of an image without any annotation are 255 everywhere.

    Image tags: labels are 255 everywhere, and every annotated image has ``tags``. These are the tags of the data set, or else
    the classes of the mask, boxes or scribbles. The background is always tagged if the data set has a background class.

    Boxes: labels are background outside the boxes and 255 inside. Every image with a list of boxes, also an empty one, has
    ``boxes``, and ``tags`` with the classes of the boxes and the background. If the data set has no background class, no
    pixel is labelled.

    Raises:
        DataError: The data set has neither scribbles nor masks, or lacks the requested annotation, or has no background class
            for a halo.
        UsageError: ``fraction`` applies to a split that the data set does not have.
    """
    samples = inputs["samples"]
    simulated = _must_simulate(params, samples)
    grouped = {}
    if params.drop or params.clicks == "object":
        grouped = {"objects": _grouping(samples)}
        context.progress.say(f"scribbles belong to one object if they are in {grouped['objects']}")
    if simulated and params.source == "auto" and params.annotation in ("scribble", "point"):
        context.progress.say("the data set has no scribbles: they are drawn from its masks")
    kept = _kept(params, samples)
    todo = pending(samples.ids, output)
    advance = context.progress.task("preparing labels", len(samples), len(samples) - len(todo))
    calls = ((params, samples, image_id, simulated, image_id in kept) for image_id in todo)
    results = each(_annotate, calls, context.jobs, 8 if len(todo) > 100 else 1)
    for image_id, arrays in zip(todo, results, strict=True):
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(annotation=params.annotation, simulated=simulated, options=_options(params), **grouped)


def _grouping(samples: Store) -> str:
    """The rule by which scribbles belong to one object, as text for people."""
    masked = sum(samples.has("mask", i) for i in samples.ids)
    regions, touching = "one connected region of their class in the mask", "contact with each other"
    if masked in (0, len(samples)):
        return regions if masked else touching
    return f"{regions} ({masked} images) or, without mask, in {touching} ({len(samples) - masked})"


def _options(params: PrepareParams) -> dict[str, float | bool | str]:
    """Options that thin out the annotation and differ from their defaults."""
    whole = PrepareParams()
    names = ("drop", "shrink", "points", "clicks", "halo", "fraction")
    return {name: getattr(params, name) for name in names if getattr(params, name) != getattr(whole, name)}


_NO_TAGS = (
    "image tags come from a table, masks, boxes or scribbles, and this data set has none of them; for kind folder write "
    "the tags into a file tags.csv in its root, one line `image,class` for each class of an image"
)
_NO_BOXES = (
    "this data set has neither boxes nor masks to draw them from; for kind folder write the boxes into a file boxes.csv in its "
    "root, one line `image,class,x0,y0,x1,y1` for each"
)


def _must_simulate(params: PrepareParams, samples: Store) -> bool:
    def there(*names: str) -> bool:
        return any(samples.has(name, i) for name in names for i in samples.ids)

    masks, given, boxes, tags = there("mask"), there("scribble", "strokes"), there("boxes"), there("tags")
    if params.halo is not None and samples.meta["background"] is None:
        raise DataError("halo labels pixels as background, and this data set has no background class")
    if params.annotation == "mask":
        if not masks:
            raise DataError("dense training needs masks, and this data set has none")
        return False
    if params.annotation == "tag":
        if not masks and not given and not boxes and not tags:
            raise DataError(_NO_TAGS)
        return masks and not tags
    what, given = ("boxes", boxes) if params.annotation == "box" else ("scribbles", given)
    if what == "boxes" and not boxes and not masks:
        raise DataError(_NO_BOXES)
    simulated = params.source == "simulated" or (params.source == "auto" and not given)
    if simulated and not masks:
        raise DataError(
            f"this data set has neither {what} nor masks to draw them from; `wss data check` lists what it has"
        )
    if params.source == "given" and not given:
        raise DataError(f"this data set has no {what}; source 'simulated' draws them from its masks")
    return simulated


def _kept(params: PrepareParams, samples: Store) -> set[str]:
    """Image ids that keep their labels: all of other splits, and a fraction of the training split (see ``bereft``)."""
    if params.fraction == 1:
        return set(samples.ids)
    return set(samples.ids) - bereft(params, split_ids(samples, params.split))


def bereft(params: PrepareParams, ids: Sequence[str]) -> set[str]:
    """Images of the training split that lose their labels by ``fraction``. Images are ranked by a hash of seed and id."""
    ranked = sorted(ids, key=lambda i: image_seed(params.seed, f"fraction/{i}"))
    return set(ranked[max(1, round(params.fraction * len(ranked))) :])


def drawn(params: PrepareParams, catalogue: Catalogue) -> bool:
    """True if scribbles, points or boxes will certainly be drawn from masks. Uses only the data set's list of files."""
    if params.annotation not in ("scribble", "point", "box") or params.source == "given":
        return False
    every = {image_id for ids in catalogue.splits.values() for image_id in ids}
    without = catalogue.unboxed if params.annotation == "box" else catalogue.unscribbled
    return params.source == "simulated" or (bool(every) and every <= without)


def _untold(catalogue: Catalogue) -> frozenset[str]:
    """Images without any annotation from which tags could be taken. Uses only the data set's list of files."""
    return catalogue.untagged & catalogue.unmasked & catalogue.unboxed & catalogue.unscribbled


def labelled(params: PrepareParams, ids: Sequence[str], catalogue: Catalogue) -> list[str]:
    """Images of a split that will have labels. Uses only the data set's list of files.

    Args:
        params: Parameters of the stage.
        ids: Images of the split.
        catalogue: The data set.
    """
    without = bereft(params, catalogue.splits.get(params.split, ())) if params.fraction < 1 else set()
    if params.annotation == "mask" or drawn(params, catalogue):
        without |= catalogue.unmasked
    elif params.annotation in ("scribble", "point"):
        without |= catalogue.unscribbled
    elif params.annotation == "box":
        without |= catalogue.unboxed
    else:
        without |= _untold(catalogue)
    return [image_id for image_id in ids if image_id not in without]


def _annotate(
    params: PrepareParams, samples: Store, image_id: str, simulated: bool, keep: bool
) -> dict[str, NDArray[Any]]:
    shape = samples.shape("image", image_id)[:2]
    nothing: Labels = np.full(shape, UNLABELLED, np.uint8)
    if not keep:
        return {"labels": nothing}
    if params.annotation == "tag":
        tags = _tags(samples, image_id)
        return {"labels": nothing} if tags is None else {"labels": nothing, "tags": tags}
    if params.annotation == "box":
        boxes = _boxes(samples, image_id, simulated)
        return {"labels": nothing} if boxes is None else _boxed(samples, boxes, nothing)
    return {"labels": _labels(params, samples, image_id, simulated, nothing)}


def _boxes(samples: Store, image_id: str, simulated: bool) -> NDArray[np.int32] | None:
    if not simulated:
        return samples.get("boxes", image_id) if samples.has("boxes", image_id) else None
    if not samples.has("mask", image_id):
        return None
    return boxes_of(samples.get("mask", image_id), background=samples.meta["background"])


def _boxed(samples: Store, boxes: NDArray[np.int32], nothing: Labels) -> dict[str, NDArray[Any]]:
    labels = box_labels(boxes, nothing.shape[:2], background=samples.meta["background"])
    return {"labels": labels, "boxes": boxes, "tags": _present(samples, boxes[:, 0])}


def _tags(samples: Store, image_id: str) -> NDArray[np.uint8] | None:
    """Tags of the image, uint8 (K,), from the first that exists of: tags, mask, boxes, strokes, scribble. None if none exists."""
    labels: NDArray[Any]
    if samples.has("tags", image_id):
        labels = np.flatnonzero(samples.get("tags", image_id))
    elif samples.has("mask", image_id):
        labels = samples.get("mask", image_id)
    elif samples.has("boxes", image_id):
        labels = samples.get("boxes", image_id)[:, 0]
    elif samples.has("strokes", image_id):
        labels = samples.get("strokes", image_id)[:, 1]
    elif samples.has("scribble", image_id):
        labels = samples.get("scribble", image_id)
    else:
        return None
    return _present(samples, labels)


def _present(samples: Store, labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Tags, uint8 (K,), of the classes in ``labels``; the background is always tagged."""
    tags = np.isin(np.arange(len(samples.meta["classes"])), labels).astype(np.uint8)
    if samples.meta["background"] is not None:
        tags[samples.meta["background"]] = 1
    return tags


def _labels(params: PrepareParams, samples: Store, image_id: str, simulated: bool, nothing: Labels) -> Labels:
    shape = (nothing.shape[0], nothing.shape[1])
    if params.annotation == "mask":
        return samples.get("mask", image_id) if samples.has("mask", image_id) else nothing
    seed = image_seed(params.seed, image_id)
    mask: Labels | None = samples.get("mask", image_id) if samples.has("mask", image_id) else None
    if simulated:
        if mask is None:
            return nothing
        draw = click if params.annotation == "point" else simulate
        strokes = _thinned(params, draw(mask, seed), seed, shape, mask)
    elif samples.has("strokes", image_id):
        strokes = _thinned(params, list(unpack_strokes(samples.get("strokes", image_id))), seed, shape, mask)
    elif samples.has("scribble", image_id):
        scribble = _thinned_raster(params, samples.get("scribble", image_id), seed, mask)
        if params.halo is None:
            return scribble
        strokes = skeleton_paths(scribble)
    else:
        return nothing
    if params.halo is None or not strokes:
        return rasterise(strokes, shape)
    return surrounded(strokes, shape, background=samples.meta["background"], radii=params.halo)


def _thinned(
    params: PrepareParams, strokes: list[Stroke], seed: int, shape: tuple[int, int], mask: Labels | None
) -> list[Stroke]:
    if params.drop:
        strokes = drop(strokes, params.drop, seed, objects=scribbled_objects(strokes, shape, mask))
    if params.points or params.annotation == "point":
        objects = scribbled_objects(strokes, shape, mask) if params.clicks == "object" else None
        strokes = points(strokes, seed)
        strokes = strokes if objects is None else one_each(strokes, objects, image_seed(seed, "clicks"))
    return shrink(strokes, params.shrink, seed) if params.shrink else strokes


def _thinned_raster(params: PrepareParams, scribble: Labels, seed: int, mask: Labels | None) -> Labels:
    shape = (scribble.shape[0], scribble.shape[1])
    if params.drop:
        scribble = drop(scribble, params.drop, seed, objects=scribbled_objects(scribble, shape, mask))
    if params.points or params.annotation == "point":
        objects = scribbled_objects(scribble, shape, mask) if params.clicks == "object" else None
        scribble = points(scribble, seed)
        scribble = scribble if objects is None else one_each(scribble, objects, image_seed(seed, "clicks"))
    return shrink(scribble, params.shrink, seed) if params.shrink else scribble


def _check(params: PrepareParams, catalogue: Catalogue) -> None:
    if params.fraction < 1 or params.split != PrepareParams().split:
        require_split(catalogue.splits, params.split, catalogue.kind)
    every = {image_id for ids in catalogue.splits.values() for image_id in ids}
    if params.annotation == "tag" and every and every <= _untold(catalogue):
        raise DataError(_NO_TAGS)
    if params.annotation == "box" and every and every <= catalogue.unboxed & catalogue.unmasked:
        raise DataError(_NO_BOXES)


STAGE = Stage("prepare", 2, PrepareParams, {"samples": Input(SAMPLES)}, LABELS, run, check=_check)
