"""Choose the settings of the dense CRF, or no CRF, by the labels of training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wss.checkpoints import build_model
from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.metrics import confusion_matrix, miou
from wss.predictor import InferenceParams, Predictor
from wss.stages.crf_kernels import CrfParams, refine
from wss.stages.parallel import each
from wss.stages.probabilities import kept
from wss.stages.splits import evenly, split_ids
from wss.stages.stage import Context
from wss.store import Store

NONE = "none"
"""Name of the choice to leave the CRF out."""
FALLBACK = "resnet101"
"""Preset that is taken where no labels can tell."""
IMAGES = 40
"""Largest number of training images that decide."""
PIXELS = 4_000_000
"""Largest number of pixels that are refined with each setting. Large images are cut (``WINDOW``) before they count."""
WINDOW = 1024
"""Side in pixels of the part of an image that is refined. Larger images are cut around a labelled pixel."""
PUBLISHED = ("largefov", "msc", "vgg16", "resnet101")
SCALED = {
    "narrow": (0.08, 0.15, 1.0),
    "narrow and strong": (0.08, 0.15, 4.0),
    "wide": (0.15, 0.15, 1.0),
    "wide and strong": (0.15, 0.15, 4.0),
}
"""Settings that follow the images: width of the appearance kernel as a share of the square root of an image's area and of the
standard deviation of its colours, and weight of the kernel."""


@dataclass(frozen=True)
class Choice:
    """The chosen settings and what they were chosen by.

    Attributes:
        name: A published preset, one of ``SCALED``, or ``NONE``.
        params: The settings; None for no CRF.
        images: Number of training images that decided; 0 where none could.
        scores: mIoU on labelled pixels of these images, in 0..1, by name of the candidate.
    """

    name: str
    params: CrfParams | None
    images: int
    scores: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        return {"chosen": self.name, "images": self.images, "miou_on_training_labels": dict(self.scores)}

    def __str__(self) -> str:
        if not self.images:
            return f"{self.name}, because the labels of training images name fewer than two classes to choose by"
        without, chosen = self.scores[NONE], self.scores[self.name]
        where = f"on labelled pixels of {self.images} training images"
        if self.params is None:
            return f"left out: no setting raises the mIoU {where} ({without:.3f} without CRF)"
        told = f"{self.name}: mIoU {chosen:.3f} {where}, {without:.3f} without CRF"
        return told if chosen > without else f"{told}; no setting gains there"


def choose(
    params: CrfParams,
    samples: Store,
    predictions: Store,
    model: Store,
    labels: Store,
    context: Context,
) -> Choice:
    """Try settings on training images and take the one whose result agrees best with the labels of these images.

    The candidates are: no CRF, where the parameters allow it; the presets in ``PUBLISHED``, whose kernels are for photographs
    of about 500 pixels; the settings in ``SCALED``, which follow the size and the colours of the images. The first of equal
    candidates is taken. The images are evenly spread over those with labels in the split on which the network was trained.
    Labels of other splits are never read, because the scored images may have some. The images are predicted as the
    scored images are.

    Args:
        params: Iterations and engine of all candidates.
        samples: The data set.
        predictions: The predictions that will be refined; they say how images go through the network.
        model: The network that made them.
        labels: Labels of images, also of training images.
        context: Device, processes and progress.

    Raises:
        UsageError: The network is not the one that made the predictions.
    """
    if predictions.meta["model"] != model.key:
        raise UsageError("crf: the input `model` did not make the input `predictions`; name the network that made them")
    windows = _deciding(samples, labels, model.params["split"])
    if not windows:
        return Choice(FALLBACK, params.model_copy(update={"preset": FALLBACK}), 0, {})
    settings = candidates(params, [samples.get("image", i) for i in windows])
    classes = samples.meta["classes"]
    predictor = Predictor(
        build_model(model),
        classes,
        np.array(samples.meta["palette"], np.uint8),
        context.device,
        InferenceParams.model_validate(predictions.meta["test_time"]),
        bool((predictions.meta.get("bfloat16") or {}).get("prediction")),
    )
    advance = context.progress.task("choosing CRF settings", len(windows))
    trial = partial(_agreement, list(settings.values()), len(classes), str(context.device))
    calls = ((_example(samples, labels, predictor, i, window),) for i, window in windows.items())
    total = np.zeros((len(settings), len(classes), len(classes)), np.int64)
    jobs = context.jobs if context.device.type == "cpu" else 1
    for image_id, matrices in zip(windows, each(trial, calls, jobs), strict=True):
        total += matrices
        advance(1, image_id)
    scores = {name: float(miou(matrix)) for name, matrix in zip(settings, total, strict=True)}
    best = max((n for n in scores if n != NONE or params.may_leave_out), key=lambda name: scores[name])
    return Choice(best, settings[best], len(windows), scores)


def candidates(params: CrfParams, images: Sequence[NDArray[np.uint8]]) -> dict[str, CrfParams | None]:
    """Settings to try, by name; None is no CRF.

    Args:
        params: Iterations and engine.
        images: uint8 (H,W,3), at least one.
    """
    side = float(np.median([(i.shape[0] * i.shape[1]) ** 0.5 for i in images]))
    spread = float(np.median([i.std((0, 1)).mean() for i in images]))
    tried: dict[str, CrfParams | None] = {NONE: None}
    for name in PUBLISHED:
        tried[name] = params.model_copy(update={"preset": name})
    for name, (width, colour, weight) in SCALED.items():
        kernels = {
            "pos_weight": 0.75 * weight,
            "pos_xy_std": 1.0,
            "bi_weight": weight,
            "bi_xy_std": max(1.0, width * side),
            "bi_rgb_std": max(1.0, colour * spread),
        }
        tried[name] = params.model_copy(update={"preset": FALLBACK, **kernels})
    return tried


def _deciding(samples: Store, labels: Store, split: str) -> dict[str, tuple[slice, slice]]:
    """Images of the split that decide, each with the part that is refined; empty if fewer than two classes are labelled there.

    Each part has a labelled pixel. The parts have at most ``PIXELS`` pixels together, or there is one image.
    """
    windows, classes, areas = {}, {}, {}
    for image_id in evenly([i for i in split_ids(samples, split) if i in labels], 5 * IMAGES):
        known = labels.get("labels", image_id)
        if (known != UNLABELLED).any():
            windows[image_id] = window = _labelled_window(known)
            classes[image_id] = set(np.unique(known[window]).tolist()) - {UNLABELLED}
            areas[image_id] = known[window].size
    ids = evenly(list(windows), IMAGES)
    while len(ids) > 1 and sum(areas[i] for i in ids) > PIXELS:
        ids = evenly(list(windows), len(ids) - 1)
    return {i: windows[i] for i in ids} if len(set().union(*(classes[i] for i in ids))) > 1 else {}


def _labelled_window(labels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """At most ``WINDOW`` x ``WINDOW`` pixels around the labelled pixel nearest to the median of all labelled pixels."""
    places = np.argwhere(labels != UNLABELLED)
    row, column = places[np.square(places - np.median(places, axis=0)).sum(1).argmin()]
    return _around(row, labels.shape[0]), _around(column, labels.shape[1])


class _Example(NamedTuple):
    """One training image, cut around its labels.

    Attributes:
        image: uint8 (H,W,3).
        probs: float16 (K,H,W).
        labels: uint8 (H,W).
        valid: bool (H,W), or None where all pixels have data.
    """

    image: NDArray[np.uint8]
    probs: NDArray[np.float16]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None


def _example(
    samples: Store, labels: Store, predictor: Predictor, image_id: str, window: tuple[slice, slice]
) -> _Example:
    image, known = samples.get("image", image_id), labels.get("labels", image_id)
    valid = samples.get("valid", image_id)[window] > 0 if samples.has("valid", image_id) else None
    probs = kept(predictor.probabilities(image))
    return _Example(image[window], probs[(slice(None), *window)], known[window], valid)


def _around(middle: int, length: int) -> slice:
    """The part of at most ``WINDOW`` pixels around a place."""
    start = min(max(0, int(middle) - WINDOW // 2), max(0, length - WINDOW))
    return slice(start, start + WINDOW)


def _agreement(
    settings: Sequence[CrfParams | None], num_classes: int, device: str, example: _Example
) -> NDArray[np.int64]:
    """Confusion matrices (S,K,K) of an image's labels and its predictions, refined with each of the settings."""
    probs = torch.from_numpy(example.probs.astype(np.float32)).to(device)
    matrices = []
    for params in settings:
        refined = probs if params is None else refine(params, example.image, probs, example.valid)
        predicted = refined.argmax(0).to(torch.uint8).cpu().numpy()
        matrices.append(confusion_matrix(example.labels, predicted, num_classes, UNLABELLED))
    return np.stack(matrices)
