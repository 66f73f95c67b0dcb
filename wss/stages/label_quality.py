"""Stage ``label-quality``: scores, against masks, of training labels that were made from scribbles."""

from __future__ import annotations

import numpy as np

from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.metrics import confusion_by_certainty, label_record
from wss.params import Params
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, QUALITY, SAMPLES, StoreWriter


class LabelQualityParams(Params):
    """Parameters of the stage ``label-quality``."""

    split: str = "train"
    """Split whose images are scored. Images without a mask are skipped."""
    name: str | None = None
    """Name of these labels in the report. None: the name of the method that made them."""


def run(params: LabelQualityParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Count, per image and level of certainty, where labels agree with masks.

    Raises:
        DataError: No labelled image of the split has a mask.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    classes = samples.meta["classes"]
    ids = [i for i in split_ids(samples, params.split) if i in labels and samples.has("mask", i)]
    if not ids:
        raise DataError(
            f"label-quality: no image of split {params.split!r} has both labels and a mask to compare them with"
        )
    todo = pending(ids, output)
    advance = context.progress.task("comparing labels with masks", len(ids), len(ids) - len(todo))
    for image_id in todo:
        truth, proposed = samples.get("mask", image_id), labels.get("labels", image_id)
        certainty = labels.get("certainty", image_id) if labels.has("certainty", image_id) else None
        levels, counts = confusion_by_certainty(truth, proposed, certainty, len(classes))
        output.append(
            image_id,
            {
                "levels": levels.astype(np.uint8),
                "counts": counts,
                "unlabelled": np.array([((proposed == UNLABELLED) & (truth != UNLABELLED)).sum()], np.int64),
            },
        )
        advance(1, image_id)
    total, unlabelled = np.zeros((256, len(classes), len(classes)), np.int64), 0
    for image_id in ids:
        arrays = output.read(image_id)
        total[arrays["levels"]] += arrays["counts"]
        unlabelled += int(arrays["unlabelled"][0])
    name = params.name or labels.meta.get("proposals", labels.meta["annotation"])
    output.meta["record"] = label_record(total, unlabelled, classes, name=name, split=params.split, num_images=len(ids))


STAGE = Stage(
    "label-quality",
    3,
    LabelQualityParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS)},
    QUALITY,
    run,
    check=check_split,
    reports=True,
)
