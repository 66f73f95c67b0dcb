"""Stage ``cam``: class activation maps of a classifier, for the classes that an image's tags name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.checkpoints import build_model
from wss.errors import DataError, UsageError
from wss.metrics import average_precision
from wss.params import Params
from wss.precision import Amp
from wss.predictor import as_tensor
from wss.stages.inference_precision import stage_precision
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import CAM, LABELS, MODEL, SAMPLES, StoreWriter

Floor = Literal["zero", "mean", "minimum"]
"""Value that is subtracted from the scores of a class before negative scores are set to 0."""


class CamParams(Params):
    """Parameters of the stage ``cam``."""

    split: str = "train"
    """Split whose images are mapped. Images without tags are skipped."""
    scales: tuple[Annotated[float, Field(ge=0.05, le=8)], ...] = Field(default=(0.5, 1.0, 1.5, 2.0), min_length=1)
    """Image scales whose maps are averaged."""
    flip: bool = True
    """Average with the maps of the mirrored image."""
    floor: Floor = "zero"
    """Score above which a class counts as active. ``zero``: as published. ``mean``: the mean of the class's map over the image;
    use it for classes that are in nearly all images and whose maps are positive everywhere. ``minimum``: the minimum of the
    class's map; no score is cut off, which suits the normalisation within boxes (stage ``seeds``, method ``box``)."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""


def run(params: CamParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Compute the maps of each image at full resolution, and score the classifier on these images.

    Raises:
        DataError: No image of the split has tags.
        UsageError: The network is not a classifier.
    """
    samples, labels, model = inputs["samples"], inputs["labels"], inputs["model"]
    if model.meta["method"]["name"] != "classifier":
        raise UsageError(
            f"class activation maps need a network that was trained with the method 'classifier', but this one was trained with "
            f"{model.meta['method']['name']!r} ({model.path})"
        )
    ids = [i for i in split_ids(samples, params.split) if i in labels and labels.has("tags", i)]
    if not ids:
        raise DataError(
            f"no image of split {params.split!r} has tags; make the labels with `wss prepare --annotation tag`"
        )
    network = build_model(model).to(context.device).eval()
    background = samples.meta["background"]
    passes = len(ids) * len(params.scales) * (2 if params.flip else 1)
    precision = stage_precision(
        params.amp,
        output,
        context,
        "cam",
        passes,
        lambda: (network, as_tensor(samples.get("image", ids[0]), context.device)),
    )
    todo = pending(ids, output)
    advance = context.progress.task("mapping classes", len(ids), len(ids) - len(todo))
    for image_id in todo:
        image = torch.from_numpy(np.array(samples.get("image", image_id))).to(context.device)
        maps = class_maps(network, image, params.scales, params.flip, precision.used)
        tags = labels.get("tags", image_id).astype(bool)
        cam = activation(maps, [k for k, tag in enumerate(tags) if tag and k != background], params.floor)
        scores = maps.mean((1, 2)).cpu().numpy().astype(np.float32)
        output.append(image_id, {"cam": cam.cpu().numpy().astype(np.float16), "scores": scores})
        advance(1, image_id)
    output.meta.update(
        split=params.split,
        scales=list(params.scales),
        flip=params.flip,
        average_precision=_average_precisions(output, {i: labels.get("tags", i) for i in ids}, background),
        **{name: samples.meta[name] for name in ("classes", "palette", "background")},
    )


def class_maps(model: nn.Module, image: Tensor, scales: Sequence[float], flip: bool, amp: bool = False) -> Tensor:
    """Class scores per pixel, averaged over scales and mirrored images.

    Args:
        model: Network that takes RGB (B,3,H,W) in 0..255 and returns class maps (B,K,H,W).
        image: uint8 (H,W,3).
        scales: Factors by which height and width are multiplied.
        flip: Average with the maps of the mirrored image.
        amp: Autocast to bfloat16.

    Returns:
        float32 (K,H,W).
    """
    rgb = image.permute(2, 0, 1)[None].float()
    size = rgb.shape[2:]
    total = torch.zeros((), device=rgb.device)
    with torch.inference_mode(), torch.autocast(rgb.device.type, torch.bfloat16, enabled=amp):
        for scale in scales:
            scaled = _resize(rgb, [max(1, round(side * scale)) for side in size])
            maps = model(torch.cat([scaled, scaled.flip(3)]) if flip else scaled).float()
            if flip:
                maps = (maps[:1] + maps[1:].flip(3)) / 2
            total = total + _resize(maps, size)[0]
    return total / len(scales)


def activation(maps: Tensor, classes: Sequence[int], floor: Floor = "zero") -> Tensor:
    """Class activation maps: scores above a floor, divided by the maximum of each class.

    Args:
        maps: Class scores per pixel, float (K,H,W).
        classes: Class indices to map. The maps of all other classes are 0.
        floor: ``zero``, or the ``mean`` or ``minimum`` of each map.

    Returns:
        (K,H,W) in 0..1. The map of a class without a score above the floor is 0 everywhere.
    """
    result = torch.zeros_like(maps)
    chosen = torch.as_tensor(list(classes), dtype=torch.int64, device=maps.device)
    scores = maps[chosen]
    if floor == "mean":
        scores = scores - scores.mean((1, 2), keepdim=True)
    elif floor == "minimum" and len(chosen):
        scores = scores - scores.amin((1, 2), keepdim=True)
    positive = scores.clamp(min=0)
    peak = positive.amax((1, 2), keepdim=True) if len(chosen) else positive
    result[chosen] = positive / peak.clamp(min=torch.finfo(maps.dtype).tiny)
    return result


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    if list(maps.shape[2:]) == list(size):
        return maps
    return functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)


def _average_precisions(
    output: StoreWriter, tags: dict[str, NDArray[np.uint8]], background: int | None
) -> dict[str, float | None]:
    """Average precision of the classifier's scores per class index; None if no image has the class."""
    scores = np.stack([output.read(i)["scores"] for i in tags])
    present = np.stack(list(tags.values())).astype(bool)
    precisions = {
        str(k): average_precision(scores[:, k], present[:, k]) for k in range(present.shape[1]) if k != background
    }
    return {name: None if np.isnan(value) else value for name, value in precisions.items()}


STAGE = Stage(
    "cam",
    1,
    CamParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "model": Input(MODEL)},
    CAM,
    run,
    check=check_split,
)
