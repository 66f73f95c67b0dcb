"""Stage ``retrieve``: segments of images labelled by the most similar labelled segments of training images."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wss.errors import DataError
from wss.methods.spml import EmbeddingSegmenter
from wss.ops import Segments, segment_prototypes, split_segments
from wss.params import Params
from wss.precision import Amp
from wss.predictor import as_tensor
from wss.stages.embedding import SegmentParams, clustered, embedded, enlarged, known_classes, load_embedder
from wss.stages.inference_precision import stage_precision
from wss.stages.probabilities import kept
from wss.stages.prototypes import Bank
from wss.stages.samples import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, MODEL, PREDICTIONS, PROTOTYPES, SAMPLES, StoreWriter


class RetrieveParams(Params):
    """Which images, how they are cut into segments, and how many neighbours vote."""

    split: str = "val"
    """Images to label."""
    neighbours: int = Field(default=20, ge=1)
    """Labelled segments that vote on the class of a segment. Not published."""
    segments: SegmentParams = SegmentParams()
    """Clusters of the image."""
    scales: tuple[Annotated[float, Field(ge=0.05, le=8)], ...] = Field(default=(1.0,), min_length=1)
    """Image scales whose votes are averaged."""
    flip: bool = False
    """Average with the mirrored image."""
    others: bool = True
    """Leave out the image's own segments where it is among those that were collected."""
    probs: bool | None = None
    """Keep the shares of the votes (float16, values below 3e-5 as 0). By default where another stage of the pipeline reads
    them."""
    amp: Amp = "auto"
    """Autocast to bfloat16; ``auto``: where a short measurement finds it faster on this machine."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many images of the split, from the first."""


def run(params: RetrieveParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label image by image. With the input ``labels``, only segments of the classes that an image's labels or tags name vote.

    Raises:
        DataError: The labels name no class of any image of the split.
        UsageError: The network does not embed pixels, other embeddings were collected, or the strides do not fit.

    Source: Ke, Hwang, Yu 2021, appendix A.4, algorithm 2, lines 4 and 7; Hwang et al. 2019, SegSort, section 3.4.
    Differs: equal numbers of votes are decided by similarity. In the authors' code the lowest such class wins, an image's own
        segments vote too, and so do those of classes that the image is known not to have.
    """
    samples, labels = inputs["samples"], inputs.maybe("labels")
    model = load_embedder(inputs["model"], context.device)
    bank = Bank(inputs["prototypes"], inputs["model"], context.device)
    ids = split_ids(samples, params.split)
    if labels is not None:
        ids = [i for i in ids if i in labels and len(known_classes(labels, i))]
        if not ids:
            raise DataError(f"retrieve: the labels name no class of any image of split {params.split!r}")
    ids = ids[: params.limit]
    todo = pending(ids, output)
    precision = stage_precision(
        params.amp,
        output,
        context,
        "retrieve",
        len(ids) * len(params.scales) * (2 if params.flip else 1),
        lambda: (model, as_tensor(samples.get("image", ids[0]), context.device)),
    )
    advance = context.progress.task("retrieving segments", len(ids), len(ids) - len(todo))
    for image_id in todo:
        rgb = as_tensor(samples.get("image", image_id), context.device)
        classes = None if labels is None else known_classes(labels, image_id)
        shares = retrieved(params, precision.used, model, bank, rgb, len(samples.meta["classes"]), classes, image_id)
        arrays = {"labels": shares.argmax(0).to(torch.uint8).cpu().numpy()}
        if params.probs is not False:
            arrays["probs"] = kept(shares.cpu().numpy())
        output.append(image_id, arrays)
        advance(1, image_id)
    meta = inputs["model"].meta
    output.meta.update(
        split=params.split,
        test_time={"scales": list(params.scales), "flip": params.flip},
        crf=None,
        model=inputs["model"].key,
        method=f"{meta['method']['name']}, nearest segments",
        network=meta["network"],
        initialisation=meta["initialisation"],
        bfloat16={"training": meta.get("bfloat16"), "prediction": precision.used},
        **{name: samples.meta[name] for name in ("classes", "palette")},
    )


@torch.inference_mode()
def retrieved(
    params: RetrieveParams,
    amp: bool,
    model: EmbeddingSegmenter,
    bank: Bank,
    rgb: Tensor,
    num_classes: int,
    classes: NDArray[np.int64] | None,
    image_id: str,
) -> Tensor:
    """Shares of the votes, float32 (K,H,W), on an image (1,3,H,W), averaged over scales and mirrored images."""
    size = list(rgb.shape[2:])
    total = torch.zeros((), device=rgb.device)
    for scale in params.scales:
        scaled = rgb if scale == 1 else _resize(rgb, [max(1, round(side * scale)) for side in size])
        for mirrored in (False, True) if params.flip else (False,):
            found, prototypes = query_segments(model, scaled.flip(3) if mirrored else scaled, params.segments, amp)
            neighbours = bank.search(
                prototypes, params.neighbours, classes=classes, without=image_id if params.others else None
            )
            shares = bank.votes(neighbours, num_classes)[found.ids].permute(0, 3, 1, 2)
            shares = enlarged(shares, params.segments.stride, scaled.shape[2:])
            total = total + _resize(shares.flip(3) if mirrored else shares, size)[0]
    return total / total.sum(0).clamp(min=torch.finfo(total.dtype).tiny)


def query_segments(model: EmbeddingSegmenter, rgb: Tensor, params: SegmentParams, amp: bool) -> tuple[Segments, Tensor]:
    """The segments of an image (1,3,H,W) on the grid of cells, and their prototypes (S,C)."""
    cells = embedded(model, rgb, params.stride, amp)
    found = split_segments(clustered(cells, params))
    return found, segment_prototypes(cells, found)


def _resize(maps: Tensor, size: list[int]) -> Tensor:
    if list(maps.shape[2:]) == size:
        return maps
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


STAGE = Stage(
    "retrieve",
    1,
    RetrieveParams,
    {
        "samples": Input(SAMPLES),
        "model": Input(MODEL),
        "prototypes": Input(PROTOTYPES),
        "labels": Input(LABELS, optional=True),
    },
    PREDICTIONS,
    run,
    check=check_split,
)
