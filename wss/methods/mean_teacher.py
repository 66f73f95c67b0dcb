"""Mean teacher: pseudo-labels from the network or its moving average, whichever fits the scribbles better."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from wss.labels import UNLABELLED
from wss.losses import dice_loss, partial_cross_entropy
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.networks.average import MovingAverage


class TaughtSegmenter(Segmenter):
    """A segmentation network (the student) with its moving average (the teacher), which is used in training only.

    The teacher is not a submodule: its weights are neither trained nor part of the state dict.

    Args:
        spec: The network.
        num_classes: K, background included.
        decay: Decay of the moving average.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, decay: float) -> None:
        super().__init__(spec, num_classes)
        self.decay = decay
        self.teacher: MovingAverage | None = None

    def follow(self) -> nn.Module:
        """Update the teacher with the current weights and return it in evaluation mode. The first call copies them."""
        if self.teacher is None:
            self.teacher = MovingAverage(self, self.decay)
        else:
            self.teacher.update(self)
        return self.teacher.model.eval()

    def restore(self, state: dict[str, Any]) -> None:
        """Load the state of a teacher from a checkpoint."""
        self.teacher = None
        self.teacher = MovingAverage(self, self.decay)
        self.teacher.load_state_dict(state)


class MeanTeacher(CrossEntropyMethod):
    """Partial cross-entropy, and pseudo-labels from the student or the teacher, whichever fits the scribbles better.

    The teacher is a moving average of the student's weights. For each image, the network with the lower cross-entropy
    on the labelled pixels gives hard labels for the unlabelled pixels. If both are equal or nothing is labelled, the
    teacher gives them. The term ``pseudo`` is the mean of the student's cross-entropy and its Dice loss against these
    labels. The stored network is the student, or its average if the parameter ``average`` of the stage train is set.

    Source: Tarvainen and Valpola 2017, "Mean teachers are better role models", arXiv:1703.01780; Wang et al. 2024, "ScribbleVS",
        arXiv:2411.10237, for the choice between student and teacher, the two losses and the decay.
    Differs: ScribbleVS chooses once per batch, diffuses labels into regions, and raises the weight of the term to 1
        during a fifth of the training. Here the teacher follows the student closely in the first steps
        (``MovingAverage``) and runs in evaluation mode.
    """

    name: Literal["mean-teacher"] = "mean-teacher"
    summary: ClassVar[str] = (
        "pseudo-labels of the network or its moving average, whichever fits an image's scribbles better"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "pseudo"})
    uses_unlabelled: ClassVar[bool] = True

    decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the teacher's moving average: it covers about the last 1 / (1 - decay) steps."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        return TaughtSegmenter(network, num_classes, self.decay)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits = model(batch.rgb)
        losses = {"pce": self.cross_entropy(logits, batch)}
        if "pseudo" in terms:
            with torch.no_grad():
                taught = cast(TaughtSegmenter, model).follow()(batch.rgb)
                labels = pseudo_labels(logits, taught, batch.labels).where(batch.valid, UNLABELLED)
            cross_entropy = partial_cross_entropy(logits, labels)
            losses["pseudo"] = (cross_entropy + dice_loss(logits.float().softmax(1), labels)) / 2
        return losses

    def carried(self, model: nn.Module) -> dict[str, Any]:
        """See ``Method.carried``: the state of the teacher, if there is one yet."""
        teacher = cast(TaughtSegmenter, model).teacher
        return {} if teacher is None else {"teacher": teacher.state_dict()}

    def carry(self, model: nn.Module, state: dict[str, Any]) -> None:
        """See ``Method.carry``."""
        if "teacher" in state:
            cast(TaughtSegmenter, model).restore(state["teacher"])


def pseudo_labels(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Hard labels for the unlabelled pixels, for each image from the network that fits its labels better.

    Args:
        student: Logits of the student, float (B,K,H,W).
        teacher: Logits of the teacher, float (B,K,H,W).
        labels: int64 (B,H,W), 255 = unlabelled.

    Returns:
        int64 (B,H,W), 255 on labelled pixels. If both fit equally well or nothing is labelled, the labels are the
        teacher's.
    """
    fits = [partial_cross_entropy(each, labels, reduction="none").sum((1, 2)) for each in (student, teacher)]
    better = torch.where((fits[0] < fits[1])[:, None, None], student.argmax(1), teacher.argmax(1))
    return better.where(labels == UNLABELLED, UNLABELLED)
