"""Stage ``seeds``: the pixels of which class activation maps are sure, as labels to train on."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.params import Params
from wss.scribbles import box_labels, box_windows
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import CAM, LABELS, SAMPLES, Store, StoreWriter


class SecSeeds(Params):
    """Few and sure pixels: the peaks of each class, and background where no class is active. See ``sec_seeds``."""

    name: Literal["sec"] = "sec"
    threshold: float = Field(default=0.2, gt=0, le=1)
    """Share of a class's largest activation from which on a pixel is its seed. Published: 0.2."""
    background_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the image, where no class is active most, that is seed of the background. Published: 0.1 (of a saliency map)."""


class SpmlSeeds(Params):
    """The class of the largest activation, or background where all are small. See ``spml_seeds``."""

    name: Literal["spml"] = "spml"
    exponent: float = Field(default=6.0, gt=0)
    """The background's confidence is (1 - largest activation) to this power; a larger one gives less background. Published: 6."""
    threshold: float = Field(default=0.2, ge=0, le=1)
    """Pixels whose largest confidence is below it stay unlabelled. Published: 0.2, which with exponent 6 leaves none."""


class BoxSeeds(Params):
    """The most active part of each box, and background outside of all. See ``box_seeds``."""

    name: Literal["box"] = "box"
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Activation, 0 at its least and 1 at its largest within the box, from which on a pixel is the box's. Published: 0.5."""


class SeedsParams(Params):
    """Which pixels become seeds."""

    method: Annotated[SecSeeds | SpmlSeeds | BoxSeeds, Field(discriminator="name")] = SecSeeds()
    """The rule, chosen by ``name``: for image tags ``sec`` (few and sure pixels; ``threshold`` 0.2 and ``background_share`` 0.1)
    or ``spml`` (nearly all pixels; ``exponent`` 6 of the background's confidence and ``threshold`` 0.2 of the largest), and
    for boxes ``box`` (the most active part of each; ``threshold`` 0.5)."""


def run(params: SeedsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Mark the seeds of every image that has class activation maps; its tags and boxes are kept.

    Raises:
        UsageError: The rule for boxes and an image without.
    """
    labels, cam = inputs["labels"], inputs["cam"]
    todo = pending(cam.ids, output)
    if params.method.name == "box":
        bare = next((i for i in todo if not labels.has("boxes", i)), None)
        if bare is not None:
            raise UsageError(
                f"seeds in boxes need boxes, and the labels of {bare!r} have none ({labels.path}); make them with "
                "`wss prepare --annotation box`, or choose the rule spml or sec"
            )
    advance = context.progress.task("marking seeds", len(cam), len(cam) - len(todo))
    calls = ((params, cam, labels, image_id, inputs["samples"].meta["background"]) for image_id in todo)
    for image_id, marked in zip(todo, each(_seeds, calls, context.jobs, 4 if len(todo) > 100 else 1), strict=True):
        kept = {name: labels.get(name, image_id) for name in ("tags", "boxes") if labels.has(name, image_id)}
        output.append(image_id, {"labels": marked, **kept})
        advance(1, image_id)
    output.meta.update(
        annotation=labels.meta["annotation"],
        simulated=labels.meta["simulated"],
        options={**labels.meta["options"], **_options(params.method)},
    )


def _options(method: SecSeeds | SpmlSeeds | BoxSeeds) -> dict[str, float]:
    """What differs from the published settings."""
    usual, names = type(method)(), type(method).model_fields
    return {name: getattr(method, name) for name in names if getattr(method, name) != getattr(usual, name)}


def _seeds(params: SeedsParams, cam: Store, labels: Store, image_id: str, background: int | None) -> NDArray[np.uint8]:
    maps = cam.get("cam", image_id)
    match params.method:
        case SecSeeds() as rule:
            share = rule.background_share
            return sec_seeds(maps, threshold=rule.threshold, background=background, background_share=share)
        case SpmlSeeds() as rule:
            return spml_seeds(maps, threshold=rule.threshold, background=background, exponent=rule.exponent)
        case BoxSeeds() as rule:
            boxes = labels.get("boxes", image_id)
            return box_seeds(maps, boxes, threshold=rule.threshold, background=background)


def sec_seeds(
    cam: NDArray[np.floating], *, threshold: float, background: int | None, background_share: float
) -> NDArray[np.uint8]:
    """Seeds of one image as in SEC.

    A pixel is a seed of every class whose activation is at least ``threshold`` there; of several, of the one with fewer such
    pixels in the image. Of the rest, pixels whose largest activation is within the lowest ``background_share`` of the image
    are background; pixels as low as those, as where no class is active at all, count with them.

    Args:
        cam: Class activation maps, float (K,H,W), the maximum of a class in the image being 1.
        threshold: In 0..1, above 0.
        background: Index of the background class, or None for no background seeds.
        background_share: In 0..1.

    Returns:
        uint8 (H,W), 255 where there is no seed.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098, section 4.1.
    Differs: their background seeds are the tenth of the image that a saliency network finds least salient; here they are
        where the classifier finds no class, which needs no further network and knows no background objects.
    """
    active = cam >= threshold
    labels = np.full(cam.shape[1:], 255, np.uint8)
    highest = cam.max(0)
    if background is not None and background_share > 0:
        lowest = np.quantile(highest, background_share, method="lower")
        labels[highest <= lowest] = background
    areas = active.sum((1, 2))
    for k in np.argsort(-areas, kind="stable"):  # smaller ones last, over the larger
        labels[active[k]] = k
    return labels


def spml_seeds(
    cam: NDArray[np.floating], *, threshold: float, background: int | None, exponent: float
) -> NDArray[np.uint8]:
    """Seeds of one image from its tags, as in SPML.

    The confidence of a class is its activation, that of the background (1 - largest activation) ** ``exponent``. A pixel gets
    the label of the largest confidence, or none where that is below ``threshold``. Where the two are equal, at an activation
    of 0.222 for the exponent 6, the largest confidence is smallest: only a higher threshold leaves pixels unlabelled, around
    the borders between objects and background.

    Args:
        cam: Class activation maps, float (K,H,W), the maximum of a class in the image being 1.
        threshold: In 0..1.
        background: Index of the background class, or None where every class is an object or stuff class.
        exponent: Above 0.

    Returns:
        uint8 (H,W), 255 where no class and not the background is confident.

    Source: Ke, Hwang and Yu 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning",
        appendix A.2, after Ahn and Kwak 2018.
    """
    highest = cam.max(0).astype(np.float64)
    labels: NDArray[np.uint8] = cam.argmax(0).astype(np.uint8)
    confidence = highest
    if background is not None:
        empty = (1 - highest) ** exponent
        labels[empty > highest] = background
        confidence = np.maximum(highest, empty)
    labels[confidence < max(threshold, np.finfo(np.float64).tiny)] = (
        255  # where nothing is active, no class is the largest
    )
    return labels


def box_seeds(
    cam: NDArray[np.floating], boxes: NDArray[np.integer], *, threshold: float, background: int | None
) -> NDArray[np.uint8]:
    """Seeds of one image from its boxes, as in SPML.

    Within each box the activation of its class is brought to 0..1, and pixels from ``threshold`` on are of the class. Where
    boxes overlap, smaller ones lie over larger ones, as what is seen whole in a smaller box is before what surrounds it.
    What is outside of all boxes is background; a box in which its class is equally active everywhere stays unlabelled.

    Args:
        cam: Class activation maps, float (K,H,W).
        boxes: Integers (N,5), rows ``class, x0, y0, x1, y1`` in inclusive pixels.
        threshold: In 0..1, above 0.
        background: Index of the background class, or None, which labels nothing outside of the boxes.

    Returns:
        uint8 (H,W), 255 where there is no seed.

    Source: Ke, Hwang and Yu 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning",
        appendix A.2.
    Differs: they normalise a classifier's scores, which are seen here if the maps have the floor ``minimum`` (``wss stages cam``)
        and are cut off elsewhere; they do not say what happens where boxes overlap.
    """
    labels = box_labels(boxes, cam.shape[1:], background=background)
    windows = box_windows(boxes, cam.shape[1:])
    for label, rows, columns in sorted(windows, key=lambda w: (w[1].start - w[1].stop) * (w[2].stop - w[2].start)):
        part = cam[label, rows, columns].astype(np.float64)
        low, high = part.min(), part.max()
        if high > low:
            labels[rows, columns][part - low >= threshold * (high - low)] = label
    return labels


STAGE = Stage(
    "seeds", 2, SeedsParams, {"samples": Input(SAMPLES), "labels": Input(LABELS), "cam": Input(CAM)}, LABELS, run
)
