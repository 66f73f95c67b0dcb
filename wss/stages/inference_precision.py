"""What predictions are computed in, decided once for all images of a stage."""

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
    """Decide, or take the decision with which an interrupted run of the stage began. The output's log records it.

    Args:
        asked: What the parameters say.
        output: Keeps the decision while the stage runs, and records it.
        context: Its device, and who is told what was measured.
        stage: Name of the stage, for the message.
        passes: Images to come, each counted once for every scale and mirror image.
        example: Gives the network and one image, float32 (1,3,H,W) in 0..255, to measure with.
    """
    state = output.load_checkpoint() if asked == "auto" else None
    if state is None:
        found = decide_inference(asked, context.device, passes, example)
        if asked == "auto":
            output.save_checkpoint({"precision": found.record()})
        if found.times is not None:
            context.progress.say(f"{stage}: {found}")
    else:
        found = Precision(**state["precision"])
    output.log["precision"] = found.record()
    return found
