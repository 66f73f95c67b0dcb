"""Stage ``predict``: a trained network's labels and probabilities for the images of a split."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from wss.checkpoints import build_model
from wss.params import Params
from wss.predictor import InferenceParams, Predictor
from wss.stages.samples import split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import MODEL, PREDICTIONS, SAMPLES, StoreWriter


class PredictParams(Params):
    """Which images, and how they go through the network."""

    split: str = "val"
    """Images to predict."""
    test_time: InferenceParams = InferenceParams()
    """Scales, flip, sliding window."""
    probs: bool = True
    """Keep probabilities (float16), which the ``crf`` stage needs."""
    amp: bool = False
    """Autocast to bfloat16."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many images of the split, from the first."""


def run(params: PredictParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Predict image by image at full resolution."""
    samples, model = inputs["samples"], inputs["model"]
    ids = split_ids(samples, params.split)[: params.limit]
    palette = np.array(samples.meta["palette"], np.uint8)
    predictor = Predictor(
        build_model(model), samples.meta["classes"], palette, context.device, params.test_time, params.amp
    )
    todo = pending(ids, output)
    advance = context.progress.task("predicting", len(ids), len(ids) - len(todo))
    for image_id in todo:
        probs = predictor.probabilities(samples.get("image", image_id))
        arrays = {"labels": probs.argmax(0).astype(np.uint8)}
        output.append(image_id, {**arrays, "probs": probs.astype(np.float16)} if params.probs else arrays)
        advance(1, image_id)
    output.meta.update(
        split=params.split,
        test_time=params.test_time.model_dump(mode="json"),
        crf=None,
        model=model.key,
        method=model.meta["method"]["name"],
        network=model.meta["network"],
        initialisation=model.meta["initialisation"],
        **{name: samples.meta[name] for name in ("classes", "palette")},
    )


STAGE = Stage("predict", 1, PredictParams, {"samples": Input(SAMPLES), "model": Input(MODEL)}, PREDICTIONS, run)
