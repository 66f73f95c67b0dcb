"""Stages, one per file."""

from wss.stages import (
    cam,
    crf,
    evaluate,
    gradients,
    predict,
    prepare,
    propagate,
    report,
    samples,
    seeds,
    superpixels,
    train,
)
from wss.stages.stage import Stage

STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE
    for module in (
        samples,
        prepare,
        superpixels,
        propagate,
        train,
        cam,
        seeds,
        predict,
        crf,
        evaluate,
        gradients,
        report,
    )
}
"""Every stage by name."""
