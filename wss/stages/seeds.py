"""Stage ``seeds``: the pixels of which class activation maps are sure, as labels to train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.params import Params
from wss.stages.parallel import each
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import CAM, LABELS, SAMPLES, Store, StoreWriter


class SeedsParams(Params):
    """Which pixels become seeds."""

    threshold: float = Field(default=0.2, gt=0, le=1)
    """Share of a class's largest activation from which on a pixel is its seed. Published: 0.2."""
    background_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the image, where no class is active most, that is seed of the background. Published: 0.1 (of a saliency map)."""


def run(params: SeedsParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Mark the seeds of every image that has class activation maps; its tags are kept."""
    labels, cam = inputs["labels"], inputs["cam"]
    todo = pending(cam.ids, output)
    advance = context.progress.task("marking seeds", len(cam), len(cam) - len(todo))
    calls = ((params, cam, image_id, inputs["samples"].meta["background"]) for image_id in todo)
    for image_id, marked in zip(todo, each(_seeds, calls, context.jobs, 4 if len(todo) > 100 else 1), strict=True):
        output.append(image_id, {"labels": marked, "tags": labels.get("tags", image_id)})
        advance(1, image_id)
    output.meta.update(
        annotation="tag", simulated=labels.meta["simulated"], options={**labels.meta["options"], **_options(params)}
    )


def _options(params: SeedsParams) -> dict[str, float]:
    """What differs from the published settings."""
    usual = SeedsParams()
    return {n: getattr(params, n) for n in SeedsParams.model_fields if getattr(params, n) != getattr(usual, n)}


def _seeds(params: SeedsParams, cam: Store, image_id: str, background: int | None) -> NDArray[np.uint8]:
    return seeds(
        cam.get("cam", image_id),
        threshold=params.threshold,
        background=background,
        background_share=params.background_share,
    )


def seeds(
    cam: NDArray[np.floating], *, threshold: float, background: int | None, background_share: float
) -> NDArray[np.uint8]:
    """Seeds of one image.

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


STAGE = Stage(
    "seeds", 1, SeedsParams, {"samples": Input(SAMPLES), "labels": Input(LABELS), "cam": Input(CAM)}, LABELS, run
)
