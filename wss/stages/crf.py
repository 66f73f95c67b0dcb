"""Stage ``crf``: fully connected CRF post-processing of predicted probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from wss.distributed import map_over_processes
from wss.stages.crf_choice import choose
from wss.stages.crf_kernels import CrfParams, refine
from wss.stages.parallel import each
from wss.stages.probabilities import probabilities, require_probabilities
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, MODEL, PREDICTIONS, SAMPLES, Store, StoreWriter


def run(params: CrfParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Refine every predicted image; on each GPU of the run one after another, on the CPU ``jobs`` at once.

    Raises:
        UsageError: The predictions were stored without probabilities, or another network than the input `model` made them.
    """
    samples, predictions = inputs["samples"], inputs["predictions"]
    require_probabilities(predictions, predictions.ids, "crf")
    settings: CrfParams | None = params
    output.meta.update(predictions.meta)
    if params.preset == "auto":
        choice = choose(params, samples, predictions, inputs["model"], inputs["labels"], context)
        settings = choice.params
        output.meta["crf_choice"] = choice.record()
        context.progress.say(f"crf: {choice}")
    output.meta["crf"] = None if settings is None else {"iterations": settings.iterations, **settings.kernels()}
    todo = pending(predictions.ids, output)
    advance = context.progress.task("dense CRF", len(predictions), len(predictions) - len(todo))
    refine_one = partial(_refine, settings, samples, predictions, str(context.device))
    if context.device.type == "cuda":
        refined: Iterator[tuple[str, NDArray[np.uint8]]] = map_over_processes(refine_one, todo)
    else:
        refined = zip(todo, each(refine_one, ((image_id,) for image_id in todo), context.jobs), strict=True)
    for image_id, labels in refined:
        output.append(image_id, {"labels": labels})
        advance(1, image_id)


def _refine(
    settings: CrfParams | None, samples: Store, predictions: Store, device: str, image_id: str
) -> NDArray[np.uint8]:
    if settings is None:
        unrefined: NDArray[np.uint8] = predictions.get("labels", image_id)
        return unrefined
    probs = torch.from_numpy(probabilities(predictions, image_id)).to(device)
    valid = samples.get("valid", image_id) > 0 if samples.has("valid", image_id) else None
    refined = refine(settings, samples.get("image", image_id), probs, valid)
    labels: NDArray[np.uint8] = refined.argmax(0).to(torch.uint8).cpu().numpy()
    return labels


STAGE = Stage(
    "crf",
    2,
    CrfParams,
    {
        "samples": Input(SAMPLES),
        "predictions": Input(PREDICTIONS, probs="needed"),
        "model": Input(MODEL, optional=True, needed_with=("preset", "auto")),
        "labels": Input(LABELS, optional=True, needed_with=("preset", "auto")),
    },
    PREDICTIONS,
    run,
    unread=lambda params: frozenset() if params.preset == "auto" else frozenset({"model", "labels"}),
)
