"""Stages, one per file."""

from wss.stages import (
    cam,
    crf,
    edges,
    evaluate,
    gradients,
    label_quality,
    predict,
    prepare,
    propagate,
    report,
    samples,
    seeds,
    superpixel_bound,
    superpixels,
    train,
    walk,
    walk_pictures,
)
from wss.stages.stage import Stage

STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE
    for module in (
        samples,
        prepare,
        edges,
        superpixels,
        superpixel_bound,
        propagate,
        train,
        cam,
        seeds,
        walk,
        walk_pictures,
        label_quality,
        predict,
        crf,
        evaluate,
        gradients,
        report,
    )
}
"""Every stage by name."""
