"""Stage ``seeds``: training labels at the pixels where class activation maps are certain."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.params import Params
from wss.scribbles import box_labels, box_windows
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import CAM, LABELS, SAMPLES, Store, StoreWriter


class SecSeeds(Params):
    """Few, certain pixels: the peaks of each class, and background where no class is active. See ``sec_seeds``."""

    name: Literal["sec"] = "sec"
    threshold: float = Field(default=0.2, gt=0, le=1)
    """Activation, as a fraction of the class's maximum, from which a pixel is a seed. Larger: fewer seeds. Published: 0.2."""
    background_share: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the image that becomes background seeds: the pixels with the lowest activations. Published: 0.1 (of a saliency
    map)."""


class SpmlSeeds(Params):
    """The class with the largest activation, or background where all activations are small. See ``spml_seeds``."""

    name: Literal["spml"] = "spml"
    exponent: float = Field(default=6.0, gt=0)
    """Exponent of the background's confidence, (1 - largest activation) ** exponent. Larger: less background. Published: 6."""
    threshold: float = Field(default=0.2, ge=0, le=1)
    """Pixels whose largest confidence is below this value stay unlabelled. Published: 0.2. With exponent 6, no pixel is below
    0.2."""


class BoxSeeds(Params):
    """The most active part of each box, and background outside all boxes. See ``box_seeds``."""

    name: Literal["box"] = "box"
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Activation, scaled to 0..1 within the box, from which a pixel gets the class of the box. Larger: fewer seeds. Published:
    0.5."""


class SeedsParams(Params):
    """Parameters of the stage ``seeds``."""

    method: Annotated[SecSeeds | SpmlSeeds | BoxSeeds, Field(discriminator="name")] = SecSeeds()
    """Rule that chooses the pixels, by ``name``. For image tags: ``sec`` (few, certain pixels; ``threshold`` 0.2,
    ``background_share`` 0.1) or ``spml`` (nearly all pixels; ``exponent`` 6 of the background's confidence, ``threshold`` 0.2
    for the largest confidence). For boxes: ``box`` (the most active part of each box; ``threshold`` 0.5)."""


def run(params: SeedsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Mark the seeds of every image that has class activation maps. Tags and boxes are kept.

    Raises:
        UsageError: The rule is ``box``, and an image has no boxes.
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
    """Settings that differ from the published ones."""
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

    A pixel is a seed of a class if the class's activation is at least ``threshold`` there. If this is true for several classes,
    the class with fewer such pixels in the image wins. Among the other pixels, those whose largest activation is in the lowest
    ``background_share`` of the image are background. Pixels with an equal value count as background too, for example all
    pixels where no class is active.

    Args:
        cam: Class activation maps, float (K,H,W). The maximum of each class in the image is 1.
        threshold: In 0..1, above 0.
        background: Index of the background class, or None for no background seeds.
        background_share: In 0..1.

    Returns:
        uint8 (H,W), 255 where there is no seed.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098, section 4.1.
    Differs: the paper takes background seeds from the least salient tenth of the image according to a saliency network. Here
        they are where the classifier finds no class; this needs no further network, but it knows no background objects.
    """
    active = cam >= threshold
    labels = np.full(cam.shape[1:], UNLABELLED, np.uint8)
    highest = cam.max(0)
    if background is not None and background_share > 0:
        lowest = np.quantile(highest, background_share, method="lower")
        labels[highest <= lowest] = background
    areas = active.sum((1, 2))
    for k in np.argsort(-areas, kind="stable"):  # smaller classes come last and overwrite larger ones
        labels[active[k]] = k
    return labels


def spml_seeds(
    cam: NDArray[np.floating], *, threshold: float, background: int | None, exponent: float
) -> NDArray[np.uint8]:
    """Seeds of one image from its tags, as in SPML.

    The confidence of a class is its activation. The confidence of the background is (1 - largest activation) ** ``exponent``. A
    pixel gets the label with the largest confidence, or no label if this confidence is below ``threshold``. The largest
    confidence is lowest where activation and background confidence are equal: 0.222 for the exponent 6. So only a threshold
    above this value leaves pixels unlabelled; these are around the borders between objects and background.

    Args:
        cam: Class activation maps, float (K,H,W). The maximum of each class in the image is 1.
        threshold: In 0..1.
        background: Index of the background class, or None if every class is an object or stuff class.
        exponent: Above 0.

    Returns:
        uint8 (H,W), 255 where neither a class nor the background is confident enough.

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
        UNLABELLED  # where nothing is active, no class has a largest activation
    )
    return labels


def box_seeds(
    cam: NDArray[np.floating], boxes: NDArray[np.integer], *, threshold: float, background: int | None
) -> NDArray[np.uint8]:
    """Seeds of one image from its boxes, as in SPML.

    Within each box, the activation of the box's class is scaled to 0..1. Pixels with at least ``threshold`` get the class. Where
    boxes overlap, smaller boxes overwrite larger ones, because an object with a smaller box is usually in front. Pixels outside
    all boxes are background. A box in which the activation is constant stays unlabelled.

    Args:
        cam: Class activation maps, float (K,H,W).
        boxes: Integers (N,5), rows ``class, x0, y0, x1, y1`` in inclusive pixels.
        threshold: In 0..1, above 0.
        background: Index of the background class, or None, which leaves pixels outside the boxes unlabelled.

    Returns:
        uint8 (H,W), 255 where there is no seed.

    Source: Ke, Hwang and Yu 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning",
        appendix A.2.
    Differs: the paper normalises the classifier's scores. Maps with the floor ``minimum`` (``wss stages cam``) keep these scores;
        with other floors, low scores are cut off. The paper does not say what happens where boxes overlap.
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
