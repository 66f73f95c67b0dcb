"""Stage ``predict``: labels and probabilities of a trained network for the images of a split."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.checkpoints import build_model
from wss.distributed import map_over_processes
from wss.params import Params
from wss.precision import Amp
from wss.predictor import InferenceParams, Predictor, as_tensor
from wss.stages.inference_precision import stage_precision
from wss.stages.probabilities import kept
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import MODEL, PREDICTIONS, SAMPLES, Store, StoreWriter


class PredictParams(Params):
    """Parameters of the stage ``predict``."""

    split: str = "val"
    """Split whose images are predicted."""
    test_time: InferenceParams = InferenceParams()
    """Scales, flip, sliding window."""
    probs: bool | None = None
    """Store class probabilities (float16; values below 3e-5 become 0). None: store them if another stage of the pipeline reads
    them."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of images, from the first of the split on. None: all."""


def run(params: PredictParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Predict image by image at full resolution, in all processes of the run."""
    samples, model = inputs["samples"], inputs["model"]
    ids = split_ids(samples, params.split)[: params.limit]
    todo = pending(ids, output)
    advance = context.progress.task("predicting", len(ids), len(ids) - len(todo))
    precision = stage_precision(
        params.amp,
        output,
        context,
        "predict",
        params.test_time.passes * len(ids),
        lambda: (
            build_model(model).to(context.device).eval(),
            as_tensor(samples.get("image", ids[0]), context.device),
        ),
    )
    for image_id, arrays in map_over_processes(
        _Prediction(params, samples, model, context.device, precision.used), todo
    ):
        output.append(image_id, arrays)
        advance(1, image_id)
    output.meta.update(
        split=params.split,
        test_time=params.test_time.model_dump(mode="json"),
        crf=None,
        model=model.key,
        method=model.meta["method"]["name"],
        network=model.meta["network"],
        initialisation=model.meta["initialisation"],
        bfloat16={"training": model.meta.get("bfloat16"), "prediction": precision.used},
        **{name: samples.meta[name] for name in ("classes", "palette")},
    )


class _Prediction:
    """Predicts one image. Each process loads the network when it predicts its first image."""

    def __init__(self, params: PredictParams, samples: Store, model: Store, device: torch.device, amp: bool) -> None:
        self._params, self._samples, self._model, self._device, self._amp = params, samples, model, device, amp

    @cached_property
    def _predictor(self) -> Predictor:
        meta, params = self._samples.meta, self._params
        palette = np.array(meta["palette"], np.uint8)
        return Predictor(build_model(self._model), meta["classes"], palette, self._device, params.test_time, self._amp)

    def __call__(self, image_id: str) -> dict[str, NDArray[Any]]:
        image = self._samples.get("image", image_id)
        if self._params.probs is False:
            return {"labels": self._predictor(image)}
        probs = self._predictor.probabilities(image)
        return {"labels": probs.argmax(0).astype(np.uint8), "probs": kept(probs)}


STAGE = Stage(
    "predict", 2, PredictParams, {"samples": Input(SAMPLES), "model": Input(MODEL)}, PREDICTIONS, run, check=check_split
)
