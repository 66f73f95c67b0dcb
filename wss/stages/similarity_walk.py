"""Stage ``similarity-walk``: pseudo-labels from class scores that a random walk spreads to pixels with similar embeddings."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.methods.coarse import cell_means
from wss.metrics import certainty_levels
from wss.ops import similarity_walk
from wss.params import Params
from wss.precision import Amp
from wss.predictor import InferenceParams, Predictor, as_tensor
from wss.stages.crf_kernels import CrfParams, refine
from wss.stages.embedding import embedded, enlarged, known_classes, load_embedder
from wss.stages.inference_precision import stage_precision
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import CAM, LABELS, MODEL, SAMPLES, StoreWriter


class SimilarityWalkParams(Params):
    """Parameters of the stage ``similarity-walk``."""

    split: str = "train"
    """Split whose images are labelled. The result holds only images of this split."""
    test_time: InferenceParams = InferenceParams()
    """Scales, flip and sliding window of the class probabilities from which the walk starts. Not used with the input ``cam``."""
    gamma: float = Field(default=5.0, gt=0)
    """Sharpness of the similarities. Larger: the walk stays between more similar pixels. Published: 5."""
    beta: float = Field(default=20.0, gt=0)
    """Exponent of the transition probabilities. Larger: the walk stays between more similar pixels. Published: 20."""
    steps: int = Field(default=6, ge=0)
    """Number of steps of the walk. 0 leaves the scores unchanged. Published: 6. The authors' code squares the transition matrix
    six times, which is 64 steps."""
    normalised: Literal["before", "after"] = "after"
    """Order of normalisation and exponent ``beta``. ``after``: normalise after the exponent, as in the authors' code. ``before``:
    normalise before it, as printed in the paper; a few unusual pixels then decide the whole image."""
    stride: int = Field(default=8, ge=1)
    """Side of the square cells between which the walk moves, in pixels. Published: 8."""
    rescale: bool = False
    """First divide the scores of each class by their maximum in the image, as the authors' code does."""
    background_power: float = Field(default=6.0, gt=0)
    """Exponent of the background score that is added to class activation maps: (1 - their maximum) ** background_power. Larger:
    less background. Published: 6. Only used with the input ``cam`` and a background class."""
    restrict: bool = True
    """Allow only classes that the image's labels or tags name."""
    keep: bool = True
    """Labelled pixels keep their labels."""
    crf: CrfParams | None = None
    """Settings of a fully connected CRF that refines the walk's result; None for no CRF."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""

    @model_validator(mode="after")
    def _known_crf(self) -> SimilarityWalkParams:
        if self.crf is not None and self.crf.preset == "auto":
            raise ValueError("crf: preset auto is for the stage `crf` alone; name a preset")
        return self


def run(params: SimilarityWalkParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Label every image of the split that has labels or tags.

    The walk starts from the network's probabilities, or from class activation maps if the input ``cam`` is given. The doubt is
    1 - the probability of the chosen class. An image whose labels and tags name no class stays unlabelled.

    Raises:
        DataError: No image of the split can be labelled.
        UsageError: The network does not embed pixels, or the strides do not fit (see ``embedded``).

    Source: Ke, Hwang, Yu 2021, appendix A.4: algorithm 1, lines 2 to 5, and algorithm 2, lines 1 to 3.
    Differs: the authors' code averages similarities over the image and its mirror.
    """
    samples, labels, cam = inputs["samples"], inputs["labels"], inputs.maybe("cam")
    ids = [i for i in split_ids(samples, params.split) if i in labels and (cam is None or i in cam)]
    if not ids:
        have = "labels" if cam is None else "labels and class activation maps"
        raise DataError(f"similarity-walk: no image of split {params.split!r} has {have}")
    num_classes, background = len(samples.meta["classes"]), samples.meta["background"]
    model = load_embedder(inputs["model"], context.device)
    palette = np.array(samples.meta["palette"], np.uint8)
    precision = stage_precision(
        params.amp,
        output,
        context,
        "similarity-walk",
        len(ids) * (1 if cam is not None else 1 + params.test_time.passes),
        lambda: (model, as_tensor(samples.get("image", ids[0]), context.device)),
    )
    predictor = Predictor(model, samples.meta["classes"], palette, context.device, params.test_time, precision.used)
    todo = pending(ids, output)
    advance = context.progress.task("walking to similar pixels", len(ids), len(ids) - len(todo))
    for image_id in todo:
        image, given = samples.get("image", image_id), labels.get("labels", image_id)
        classes = known_classes(labels, image_id)
        arrays = {"labels": given, "certainty": certainty_levels(given == UNLABELLED)}
        if len(classes):
            if not params.restrict:
                classes = np.arange(num_classes)
            if cam is None:
                scores = predictor.probabilities(image)
            else:
                scores = with_background(cam.get("cam", image_id), background, params.background_power)
            embeddings = embedded(model, as_tensor(image, context.device), params.stride, precision.used)
            probs = walked(params, image, torch.from_numpy(scores[classes]).to(context.device), embeddings)
            arrays = pseudo_labels(probs.cpu().numpy(), classes, given if params.keep else None)
        if labels.has("tags", image_id):
            arrays["tags"] = labels.get("tags", image_id)
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(labels.meta)
    output.meta["proposals"] = "similarity-walk"


def with_background(cam: NDArray[np.floating], background: int | None, power: float) -> NDArray[np.float32]:
    """Add a background score, (1 - maximum over classes) ** power, to class activation maps (K,H,W) in 0..1.

    Without a background class, the maps are returned unchanged, as float32.

    Source: Ke, Hwang, Yu 2021, appendix A.2.
    """
    scores = cam.astype(np.float32)
    if background is not None:
        scores[background] = 0
        scores[background] = (1 - scores.max(0)) ** power
    return scores


def walked(params: SimilarityWalkParams, image: NDArray[np.uint8], scores: Tensor, embeddings: Tensor) -> Tensor:
    """Probabilities (K,H,W) after the walk, and after the CRF if one is set, from scores (K,H,W) of an image (H,W,3)."""
    if params.rescale:
        scores = scores / scores.amax((1, 2), keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    probs = similarity_walk(
        embeddings,
        cell_means(scores[None], params.stride, "replicate"),
        gamma=params.gamma,
        beta=params.beta,
        steps=params.steps,
        normalised=params.normalised,
    )
    probs = enlarged(probs, params.stride, image.shape[:2])[0]
    return probs if params.crf is None else refine(params.crf, image, probs.contiguous())


def pseudo_labels(
    probs: NDArray[np.float32], classes: NDArray[np.int64], given: NDArray[np.uint8] | None
) -> dict[str, NDArray[np.uint8]]:
    """The most probable classes as labels, uint8 (H,W), with their certainty.

    Args:
        probs: Probabilities (L,H,W).
        classes: Class index of each of the L probabilities.
        given: Labels (H,W) to keep, 255 = unlabelled; None to keep no labels.
    """
    labels = classes[probs.argmax(0)].astype(np.uint8)
    doubt = 1 - probs.max(0).astype(np.float64)
    if given is not None:
        labels = np.where(given == UNLABELLED, labels, given)
        doubt = np.where(given == UNLABELLED, doubt, 0)
    return {"labels": labels, "certainty": certainty_levels(doubt)}


STAGE = Stage(
    "similarity-walk",
    1,
    SimilarityWalkParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "model": Input(MODEL), "cam": Input(CAM, optional=True)},
    LABELS,
    run,
    check=check_split,
)
