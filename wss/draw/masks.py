"""Masks that people accept: one region as a label, or the whole as dense truth."""

from __future__ import annotations

import uuid
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import colour_map
from wss.datasets.convert import write_label
from wss.draw import limits
from wss.draw.annotations import Annotations
from wss.draw.labels import Labels
from wss.draw.painting import Window, region_runs
from wss.draw.project import Project
from wss.draw.propagating import Propagator, window_of
from wss.draw.refusals import Refused
from wss.draw.training import Trainer
from wss.labels import UNLABELLED

_SOURCES = ("propagation", "prediction", "annotation", "truth")


class Masks:
    """Accepts masks.

    Args:
        project: Whose masks.
        annotations: Where accepted regions go.
        labels: What is drawn, painted over what is accepted.
        propagator: Gives propagated masks.
        trainer: Gives predicted masks.
    """

    def __init__(
        self,
        project: Project,
        annotations: Annotations,
        labels: Labels,
        propagator: Propagator,
        trainer: Trainer,
    ) -> None:
        self._project, self._annotations, self._labels = project, annotations, labels
        self._propagator, self._trainer = propagator, trainer

    def region(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """The change that accepts the connected region of one class around a pixel.

        Raises:
            Refused: The request is malformed, there is no mask, or the mask says nothing there.
        """
        x, y = body.get("x"), body.get("y")
        if not isinstance(x, int | float) or not isinstance(y, int | float) or not abs(x) + abs(y) < 1e7:
            raise Refused(400, "expected x and y in pixels")
        mask, window = self.mask(name, body)
        column, row = int(np.floor(x)) - window.x, int(np.floor(y)) - window.y
        if not (0 <= column < window.width and 0 <= row < window.height):
            raise Refused(400, "the place lies outside the mask; click into it")
        label = int(mask[row, column])
        if label == UNLABELLED:
            raise Refused(400, "the mask says nothing at that place")
        _, parts = cv2.connectedComponents((mask == label).astype(np.uint8), connectivity=4)
        runs = region_runs(parts == parts[row, column], window, self._labels.shape(name))
        item = {"id": f"accepted-{uuid.uuid4().hex}", "kind": "region", "class": label, "rle": runs}
        return {"base": body.get("base"), "change": {"op": "add", "object": item}, "brief": body.get("brief", False)}

    def mask(self, name: str, body: dict[str, Any]) -> tuple[NDArray[np.uint8], Window]:
        """A mask, and the part of the image that it covers.

        Raises:
            Refused: There is none of the kind that is asked for.
        """
        source = body.get("source")
        if source not in _SOURCES:
            raise Refused(400, "expected source as propagation, prediction, annotation or truth")
        height, width = self._labels.shape(name)
        whole = Window(0, 0, width, height)
        if source == "annotation":
            return self._labels.drawn(name), whole
        if source == "truth":
            truth = self._labels.truth(name)
            if truth is None:
                raise Refused(404, "no truth of this image is kept yet")
            return truth, whole
        if source == "prediction":
            prediction = self._trainer.prediction(name)
            if prediction is None:
                raise Refused(404, "there is no prediction of this image yet; train first")
            if prediction[0].shape != (height, width):
                raise Refused(409, "the prediction is of an image of another size; train again")
            return prediction[0], whole
        answer = self._propagator.result(name, body.get("method", "random-walk"), window_of(body.get("region")))
        labels, size = answer.proposal.labels, (answer.window.width, answer.window.height)
        if labels.shape != size[::-1]:  # of a reduced copy of a large image
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return labels, answer.window

    def keep_truth(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a mask, with all that is drawn painted over it, as dense truth; or remove the one that was made here.

        Raises:
            Refused: The annotation is newer than the client knows, there is no mask, or the data set has one of its own.
        """
        base = body.get("base")
        document = self._annotations.document(name)
        if base != document["revision"]:
            message = "the annotation was changed in another tab or by somebody else; what is shown now is the newest"
            raise Refused(409, message, {"annotation": self._annotations.answer(name)})
        path = self._labels.truth_path(name)
        made_here = document["truth"] or document["begun"]
        if self._labels.has_own_truth(name) or (path.exists() and not made_here):  # maybe since the server started
            raise Refused(409, "the data set has a mask of this image already; it is not replaced here")
        if body.get("source") == "none":
            document = self._annotations.mark(name, base, truth=False, split=None)
            path.unlink(missing_ok=True)
            document = self._annotations.note(name, document["revision"], begun=False)
            return self._told(document, "the image is no longer scored")
        height, width = self._labels.shape(name)
        if body.get("source") == "propagation" and height * width > limits.WHOLE:
            why = "the mask covers a part of the image only, or is of a reduced copy"
            raise Refused(409, f"{why}; cut large images with `wss data tile` to score them")
        mask, _ = self.mask(name, body)
        drawn = self._labels.drawn(name)
        labels = np.where(drawn == UNLABELLED, mask, drawn)
        if (labels == UNLABELLED).all():
            raise Refused(409, "the mask is empty; draw or propagate first")
        # A kill after any of these lines leaves a mask that is known to be made here, and can be kept again.
        self._annotations.note(name, base, begun=True)
        write_label(path, labels, colour_map(len(self._project.classes)))
        split = document["split"] or "val"
        document = self._annotations.mark(name, base, truth=True, split=split)
        why = "scores are measured on it" if split == "val" else "it is a training image; put it to val to score on it"
        return self._told(document, why)

    def split(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Put an image to ``train`` or ``val``.

        Raises:
            Refused: The split does not exist, the image has no truth, or the data set has lists of its own.
        """
        split = body.get("split")
        if split not in ("train", "val"):
            raise Refused(400, "expected split as train or val")
        if self._project.splits_fixed:
            raise Refused(409, "this data set has lists of its splits (train.txt, val.txt): change them there")
        if split == "val" and not (self._annotations.document(name)["truth"] or self._labels.has_own_truth(name)):
            raise Refused(409, "only an image with dense truth can be scored: keep a mask as truth first")
        return {"split": self._annotations.mark(name, None, split=split)["split"]}

    def _told(self, document: dict[str, Any], why: str) -> dict[str, Any]:
        return {
            "revision": document["revision"],
            "truth": document["truth"],
            "split": document["split"],
            "why": why,
        }
