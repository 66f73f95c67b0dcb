"""What a method is to the training loop: a network, named loss terms, and phases that weigh them."""

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
        valid: bool (B,H,W), False where a crop reaches beyond its image.
        maps: Further maps that the method asked for in ``needs``, (B,H,W), by name: ``edges``, float32 in 0..1 and 0 outside the
            image; ``superpixels``, int64 ids, -1 outside.
        tags: Classes in each image, bool (B,K), for methods whose ``needs`` name ``tags`` or ``classes``; they are those of the
            whole image, whatever the crop.
        background: Index of the background class, or None where every class is an object or stuff class.
    """

    rgb: Tensor
    labels: Tensor
    valid: Tensor
    maps: Mapping[str, Tensor]
    tags: Tensor | None = None
    background: int | None = None

    @property
    def image_tags(self) -> Tensor:
        """The tags, for methods that cannot do without.

        Raises:
            UsageError: The batch has none.
        """
        if self.tags is None:
            raise UsageError("this method learns from image tags, and the batch has none")
        return self.tags


class Phase(Params):
    """One phase of training: which loss terms, which rates, what is frozen."""

    epochs: int | None = Field(default=None, ge=1)
    """Length of the phase in passes over the training images. A phase has either ``epochs`` or ``steps``."""
    steps: int | None = Field(default=None, ge=1, json_schema_extra=LATER)
    """Length of the phase in optimiser steps, whatever the number of images. The last pass may stay incomplete."""
    terms: dict[str, float] = Field(min_length=1)
    """Weight of each loss term by name."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """sgd (with momentum), adam or adamw (with decoupled weight decay)."""
    lr: float = Field(default=1e-2, gt=0)
    """Learning rate of the backbone; heads and biases multiply it."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD momentum, or Adam's first beta."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """On weights; biases and normalisation parameters have none."""
    head_multiplier: float = Field(default=10.0, gt=0)
    """Learning rate of the head relative to the backbone. 1 for networks trained from scratch."""
    bias_multiplier: float = Field(default=2.0, gt=0)
    """Learning rate of biases relative to weights (the DeepLab convention)."""
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    """How the rate falls over the phase: poly, cosine (both to 0), constant, or step (times ``gamma`` every ``step_iters``)."""
    power: float = Field(default=0.9, gt=0)
    """Exponent of the poly schedule (1 - step / steps)^power."""
    step_iters: int | None = Field(default=None, ge=1, json_schema_extra=LATER)
    """Steps after which the step schedule multiplies the rate by ``gamma``, again and again."""
    gamma: float = Field(default=0.1, gt=0, json_schema_extra=LATER)
    """Factor of the step schedule."""
    warmup_iters: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly from 0."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm; None does not clip."""
    batch_norm: Literal["train", "frozen"] = "train"
    """``frozen``: the backbone's batch normalisation uses its stored statistics. Heads always train theirs."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that are not trained, by prefix of their parameter names (``backbone``)."""

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.epochs is None) == (self.steps is None):
            both = "" if self.epochs is None else f", and not both (epochs {self.epochs}, steps {self.steps})"
            raise ValueError(
                f"a phase needs its length: epochs (passes over the images) or steps (of the optimiser){both}"
            )
        return self

    @model_validator(mode="after")
    def _has_step(self) -> Phase:
        if self.schedule == "step" and self.step_iters is None:
            raise ValueError("schedule step needs step_iters: after how many steps the rate falls")
        return self


class Method(Params, ABC):
    """Settings and behaviour of one method. A subclass names itself, its loss terms and what it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: ClassVar[str]
    """One line for ``wss methods``."""
    differs: ClassVar[str] = ""
    """One line: which defaults of the method and of its pipeline are not the paper's, and how to get those."""
    term_names: ClassVar[frozenset[str]]
    """Loss terms that a phase may weigh."""
    supervised_terms: ClassVar[frozenset[str]] = frozenset()
    """Loss terms that fit the network's output to labelled pixels. Deep supervision (``NetworkSpec.deep_supervision``) fits the
    network's coarser levels to the same labels, with the weight of these terms."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What ``losses`` reads beside image and labels: the maps ``edges`` and ``superpixels``; ``tags``, which the labels must have
    then; ``classes``, tags where the labels have them and otherwise the classes of the image's labelled pixels."""
    term_needs: ClassVar[Mapping[str, frozenset[str]]] = {}
    """What single terms read beside ``needs``, by term; training provides it where a phase has the term. So far ``classes``."""
    uses_unlabelled: ClassVar[bool] = False
    """Whether images without any labelled pixel help."""
    stored_features: ClassVar[bool] = False
    """True if ``losses`` sees each image once and as it is. Features that were computed earlier can then take the backbone's
    place."""
    multi_scale: ClassVar[bool] = False
    """Whether it can train a network that sees each image at several scales (``NetworkSpec.multi_scale``)."""

    def check_phases(self, phases: Sequence[Phase]) -> None:
        """Refuse phases that contradict the method's settings, before anything runs.

        Raises:
            ValueError: They do; the message says what to change.
        """
        return

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """The module to train: RGB (B,3,H,W) in 0..255 in, logits (B,K,H,W) out."""
        return Segmenter(network, num_classes)

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """Raise if ``losses`` could not compute these terms on a data set, whatever its images are.

        Args:
            terms: Loss terms of a phase.
            num_classes: K, background included.
            background: Index of the background class, or None.

        Raises:
            UsageError: Which setting or class is missing, and what to do.
        """
        return

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """The requested loss terms, scalars, not weighted."""

    def doubts(self, network: NetworkSpec, terms: Collection[str]) -> str | None:
        """One line on why these terms should not be compared on this network, with the remedy; None where they can be."""
        return None

    def carried(self, model: nn.Module) -> dict[str, Any]:
        """What training carries from step to step beside weights and optimiser, for checkpoints; trained networks do not have
        it.
        """
        return {}

    def carry(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Take up what ``carried`` gave, before training goes on."""
        return
