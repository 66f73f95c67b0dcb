"""Interface between methods and the training loop: a network, named loss terms, and phases with their weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from wss.errors import UsageError
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.params import LATER, Params


@dataclass(frozen=True)
class Batch:
    """One training batch on the device.

    Attributes:
        rgb: Images, float32 (B,3,H,W) in 0..255.
        labels: int64 (B,H,W), 255 = unlabelled.
        valid: bool (B,H,W), False on padding, where a crop extends beyond its image.
        maps: Further maps (B,H,W) by name, as listed in the method's ``needs``. ``edges``: float32 in 0..1, 0 on
            padding. ``superpixels``: int64 ids, -1 on padding.
        tags: Classes in each image, bool (B,K), for methods whose ``needs`` list ``tags`` or ``classes``. They describe
            the whole image, not only the crop.
        background: Index of the background class, or None if the data set has no background class.
    """

    rgb: Tensor
    labels: Tensor
    valid: Tensor
    maps: Mapping[str, Tensor]
    tags: Tensor | None = None
    background: int | None = None

    @property
    def image_tags(self) -> Tensor:
        """The tags, for methods that require them.

        Raises:
            UsageError: The batch has none.
        """
        if self.tags is None:
            raise UsageError("this method learns from image tags, but the batch has none")
        return self.tags


class Phase(Params):
    """One phase of training: its loss terms, learning rates and frozen parts."""

    epochs: int | None = Field(default=None, ge=1)
    """Length of the phase in passes over the training images. A phase has either ``epochs`` or ``steps``."""
    steps: int | None = Field(default=None, ge=1, json_schema_extra=LATER)
    """Length of the phase in optimiser steps, independent of the number of images. The last pass may be incomplete."""
    terms: dict[str, float] = Field(min_length=1)
    """Weight of each loss term by name."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser: sgd (with momentum), adam, or adamw (with decoupled weight decay)."""
    lr: float = Field(default=1e-2, gt=0)
    """Learning rate of the backbone's weights. Heads and biases multiply it by their factor."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD momentum, or Adam's first beta."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay of weights. Biases and normalisation parameters have none."""
    head_multiplier: float = Field(default=10.0, gt=0)
    """Learning rate of the head as a multiple of ``lr``. Use 1 for networks trained from scratch."""
    bias_multiplier: float = Field(default=2.0, gt=0)
    """Learning rate of biases as a multiple of that of weights (the DeepLab convention)."""
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    """Schedule of the learning rate: poly or cosine (both fall to 0), constant, or step (times ``gamma`` every
    ``step_iters`` steps)."""
    power: float = Field(default=0.9, gt=0)
    """Exponent of the poly schedule, (1 - step / steps)^power. A larger value lowers the rate earlier."""
    step_iters: int | None = Field(default=None, ge=1, json_schema_extra=LATER)
    """Interval of the step schedule: every so many steps the rate is multiplied by ``gamma``."""
    gamma: float = Field(default=0.1, gt=0, json_schema_extra=LATER)
    """Factor of the step schedule."""
    warmup_iters: int = Field(default=0, ge=0)
    """Number of first steps in which the learning rate rises linearly from 0."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm; larger gradients are scaled down to it. None does not clip."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Batch normalisation of the backbone: ``train`` updates its statistics, ``frozen`` uses the stored ones. Heads
    always update theirs."""
    freeze: tuple[str, ...] = ()
    """Prefixes of the names of parameters that are not trained, for example ``backbone``."""

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.epochs is None) == (self.steps is None):
            both = "" if self.epochs is None else f", not both (epochs {self.epochs}, steps {self.steps})"
            raise ValueError(
                f"a phase needs its length: epochs (passes over the images) or steps (of the optimiser){both}"
            )
        return self

    @model_validator(mode="after")
    def _has_step(self) -> Phase:
        if self.schedule == "step" and self.step_iters is None:
            raise ValueError("schedule step needs step_iters: the number of steps after which the rate falls")
        return self


class Method(Params, ABC):
    """Settings and behaviour of one method. A subclass defines its name, its loss terms and the inputs it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: ClassVar[str]
    """One line for ``wss methods``."""
    differs: ClassVar[str] = ""
    """One line: defaults of the method and its pipeline that differ from the paper, and how to get the paper's
    values."""
    term_names: ClassVar[frozenset[str]]
    """Loss terms to which a phase may give a weight."""
    supervised_terms: ClassVar[frozenset[str]] = frozenset()
    """Loss terms that fit the network's output to labelled pixels. Deep supervision (``NetworkSpec.deep_supervision``) fits the
    network's coarser levels to the same labels, with the weight of these terms."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Inputs of ``losses`` besides image and labels. ``edges``, ``superpixels``: maps. ``tags``: the store of labels
    must have them. ``classes``: the tags if the labels have them, otherwise the classes of the image's labelled
    pixels."""
    term_needs: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Further inputs by loss term. Training provides them if a phase has the term. So far only ``classes``."""
    uses_unlabelled: ClassVar[bool] = False
    """True if images without any labelled pixel are useful for training."""
    stored_features: ClassVar[bool] = False
    """True if ``losses`` runs the network once on each unchanged image. Stored features can then replace the
    backbone."""
    multi_scale: ClassVar[bool] = False
    """True if the method can train a network that sees each image at several scales (``NetworkSpec.multi_scale``)."""

    def check_phases(self, phases: Sequence[Phase]) -> None:
        """Refuse phases that contradict the method's settings, before anything runs.

        Raises:
            ValueError: The phases contradict the settings; the message says what to change.
        """
        return

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """Build the module to train. It takes RGB (B,3,H,W) in 0..255 and returns logits (B,K,H,W)."""
        return Segmenter(network, num_classes)

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """Raise an error if ``losses`` cannot compute these terms on a data set with these classes.

        Args:
            terms: Loss terms of a phase.
            num_classes: K, background included.
            background: Index of the background class, or None.

        Raises:
            UsageError: A setting or class is missing; the message names it and the remedy.
        """
        return

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """Compute the requested loss terms: scalars without their weights, by name."""

    def doubts(self, network: NetworkSpec, terms: Collection[str]) -> str | None:
        """One line on why these terms do not work well on this network, with the remedy; None if they do."""
        return None

    def carried(self, model: nn.Module) -> dict[str, Any]:
        """State besides weights and optimiser that resuming needs. Checkpoints hold it, trained networks do not."""
        return {}

    def carry(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Load the result of ``carried`` when training resumes."""
        return
