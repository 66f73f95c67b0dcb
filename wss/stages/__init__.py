"""Stages, one per file."""

from wss.stages import (
    boundary_pictures,
    cam,
    crf,
    edges,
    eigenspace,
    evaluate,
    features,
    gradients,
    label_quality,
    largest_region,
    predict,
    prepare,
    propagate,
    prototypes,
    pseudo_labels,
    report,
    retrieval_pictures,
    retrieve,
    samples,
    seeds,
    similarity_walk,
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
        features,
        train,
        cam,
        seeds,
        walk,
        walk_pictures,
        similarity_walk,
        prototypes,
        retrieve,
        retrieval_pictures,
        pseudo_labels,
        label_quality,
        boundary_pictures,
        eigenspace,
        predict,
        crf,
        largest_region,
        evaluate,
        gradients,
        report,
    )
}
"""Every stage by name."""
