"""The precision of a stage's predictions (float32 or bfloat16), decided once for all images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from wss.precision import Amp, Precision, decide_inference
from wss.stages.stage import Context
from wss.store import StoreWriter


def stage_precision(
    asked: Amp,
    output: StoreWriter,
    context: Context,
    stage: str,
    passes: int,
    example: Callable[[], tuple[nn.Module, Tensor]],
) -> Precision:
    """Decide the precision, or reuse the decision of an interrupted run of the stage. The output's log records it.

    Args:
        asked: Value of the parameter ``amp``.
        output: Store that keeps the decision while the stage runs, and records it.
        context: Gives the device, and the progress that reports the measurement.
        stage: Name of the stage, for the message.
        passes: Number of forward passes to come: images times scales, doubled if mirrored images are used.
        example: Returns the network and one image, float32 (1,3,H,W) in 0..255, for the measurement.
    """
    state = output.load_checkpoint() if asked == "auto" else None
    if state is None:
        precision = decide_inference(asked, context.device, passes, example)
        if asked == "auto":
            output.save_checkpoint({"precision": precision.record()})
        if precision.times is not None:
            context.progress.say(f"{stage}: {precision}")
    else:
        precision = Precision(**state["precision"])
    output.log["precision"] = precision.record()
    return precision
