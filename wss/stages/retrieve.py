"""Stage ``retrieve``: predictions by nearest neighbours: similar labelled training segments vote on each segment's class."""

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
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, MODEL, PREDICTIONS, PROTOTYPES, SAMPLES, StoreWriter


class RetrieveParams(Params):
    """Parameters of the stage ``retrieve``."""

    split: str = "val"
    """Split whose images are labelled."""
    neighbours: int = Field(default=20, ge=1)
    """Number of nearest labelled segments that vote on the class of a segment. The paper gives no number."""
    segments: SegmentParams = SegmentParams()
    """Clustering of the image."""
    scales: tuple[Annotated[float, Field(ge=0.05, le=8)], ...] = Field(default=(1.0,), min_length=1)
    """Image scales whose votes are averaged."""
    flip: bool = False
    """Average with the votes of the mirrored image."""
    others: bool = True
    """Exclude an image's own segments from its search, if the prototypes contain the image."""
    probs: bool | None = None
    """Store the shares of votes as probabilities (float16; values below 3e-5 become 0). None: store them if another stage of the
    pipeline reads them."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of images, from the first of the split on. None: all."""


def run(params: RetrieveParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label each image. With the input ``labels``, only segments of classes in the image's labels or tags vote.

    Raises:
        DataError: The labels name no class for any image of the split.
        UsageError: The network does not embed pixels, another network made the prototypes, or the strides do not fit.

    Source: Ke, Hwang, Yu 2021, appendix A.4, algorithm 2, lines 4 and 7; Hwang et al. 2019, SegSort, section 3.4.
    Differs: equal numbers of votes are decided by similarity. In the authors' code, the lowest such class wins. There, an
        image's own segments vote too, and so do segments of classes that the image is known not to have.
    """
    samples, labels = inputs["samples"], inputs.maybe("labels")
    model = load_embedder(inputs["model"], context.device)
    bank = Bank(inputs["prototypes"], inputs["model"], context.device)
    ids = split_ids(samples, params.split)
    if labels is not None:
        ids = [i for i in ids if i in labels and len(known_classes(labels, i))]
        if not ids:
            raise DataError(f"retrieve: the labels name no class for any image of split {params.split!r}")
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
    """Shares of the votes, float32 (K,H,W), for an image (1,3,H,W), averaged over scales and mirrored images."""
    size = list(rgb.shape[2:])
    total = torch.zeros((), device=rgb.device)
    for scale in params.scales:
        scaled = rgb if scale == 1 else _resize(rgb, [max(1, round(side * scale)) for side in size])
        for mirrored in (False, True) if params.flip else (False,):
            segments, prototypes = query_segments(model, scaled.flip(3) if mirrored else scaled, params.segments, amp)
            neighbours = bank.search(
                prototypes, params.neighbours, classes=classes, without=image_id if params.others else None
            )
            shares = bank.votes(neighbours, num_classes)[segments.ids].permute(0, 3, 1, 2)
            shares = enlarged(shares, params.segments.stride, scaled.shape[2:])
            total = total + _resize(shares.flip(3) if mirrored else shares, size)[0]
    return total / total.sum(0).clamp(min=torch.finfo(total.dtype).tiny)


def query_segments(model: EmbeddingSegmenter, rgb: Tensor, params: SegmentParams, amp: bool) -> tuple[Segments, Tensor]:
    """Segments of an image (1,3,H,W) on the grid of cells, and their prototypes (S,C)."""
    cells = embedded(model, rgb, params.stride, amp)
    segments = split_segments(clustered(cells, params))
    return segments, segment_prototypes(cells, segments)


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
