"""The stages of a training in plain words."""

from __future__ import annotations

DOING = {
    "starting": "Starting",
    "measure": "Measuring the speed of this machine",
    "samples": "Reading the images",
    "prepare": "Preparing the labels",
    "edges": "Finding edges",
    "superpixels": "Grouping pixels",
    "propagate": "Spreading the strokes",
    "features": "Computing features",
    "train": "Training the network",
    "predict": "Predicting masks",
    "evaluate": "Scoring masks against the truth",
    "crf": "Refining the borders of masks",
    "largest-region": "Dropping stray pieces of masks",
    "cam": "Locating the classes",
    "seeds": "Choosing the surest pixels",
    "walk": "Spreading the labels",
    "similarity-walk": "Spreading the labels",
    "prototypes": "Averaging the features of each class",
    "retrieve": "Comparing images",
    "pseudo-labels": "Making labels of predictions",
    "report": "Writing the report",
    "predict-all": "Predicting all images",
    "done": "Done",
}
"""By the name of the stage; ``predict-all`` comes after the pipeline."""


def doing(stage: str | None) -> str:
    """Words for a stage."""
    return DOING.get(stage or "", "Working")
