"""RW-SS: a random walk averages similar features; self-supervision compares the walk in an image and its transform."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import (
    feature_consistency_loss,
    maximum_entropy_loss,
    transition_consistency_loss,
)
from wss.losses.transition_consistency import Direction
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch, Phase
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.networks.layers.convolution import conv_bn_relu, initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout2d
from wss.networks.layers.feature_walk import Embedding, FeatureWalk, FeatureWalkResult, cells
from wss.ops import Transform, draw_transform, transform_transition
from wss.ops.transform import TransformKind
from wss.params import LATER

Head = Literal["network", "convolutions"]

HEAD_DROPOUT = 0.1
"""Rate of channel dropout before the last convolution of the head ``convolutions``."""
ROWS_WEIGHT, ENTRIES_WEIGHT = 1.0, 30.0
"""Published weights of ``consistency``: for the mean over rows of P (paper) and for the mean over its entries (later
code)."""

NOTHING_TO_COMPARE = "without a walk there is no transition matrix to compare: set location to before"


class WalkingSegmenter(Segmenter):
    """A segmentation network with a random walk on the features before the classifier.

    The head ``network`` is the network's own classifier; the walk is on its input. If this input has more channels than
    ``width``, a 1x1 convolution with normalisation and ReLU reduces it. The convolutions of the classifier that read it
    then get new weights for the smaller width. The head ``convolutions`` is: a 3x3 convolution that reduces the
    channels, the walk, another 3x3 convolution, dropout, and a 1x1 convolution.

    Args:
        spec: The network.
        num_classes: K, background included.
        walk: False leaves out the walk but keeps the reduction.
        embed: See ``FeatureWalk``.
        head: ``network`` or ``convolutions``.
        width: Largest number of channels of the features in the walk.
        stride: Side in pixels of the cells between which features walk. It has no effect if the network's own stride is
            at least as large.
        scale: See ``FeatureWalk``.

    Attributes:
        stride: Side of the cells in pixels: the larger of the argument and the network's stride.
        cell: Side of the cells in positions of the feature map.

    Raises:
        UsageError: The stride is not a multiple of the network's stride.

    Source: the head ``convolutions`` is that of the authors' later code (github.com/panzhiyi/URSS, ``model_RW.py``).
    """

    def __init__(
        self,
        spec: NetworkSpec,
        num_classes: int,
        *,
        walk: bool = True,
        embed: Embedding = "none",
        head: Head = "network",
        width: int = 512,
        stride: int = 8,
        scale: float = 1.0,
    ) -> None:
        super().__init__(spec, num_classes)
        network = self.network
        self.stride = max(stride, network.output_stride)
        if self.stride % network.output_stride:
            raise UsageError(
                "the stride of a random walk must be a multiple of the network's stride, "
                f"{network.output_stride}; got {stride}"
            )
        channels, walking = network.feature_channels, min(network.feature_channels, width)
        self.reduction: nn.Module | None = None
        if head == "convolutions":
            self.reduction = conv_bn_relu(channels, walking, 3)
            initialise(self.reduction)
            network.classifier = _convolutions(walking, num_classes)
        elif channels > width:
            self.reduction = conv_bn_relu(channels, walking, 1)
            initialise(self.reduction)
            _reconnect(network.classifier, channels, walking)
        self.cell = self.stride // network.output_stride
        self.random_walk: FeatureWalk | None = None
        if walk:
            self.random_walk = FeatureWalk(walking, embed=embed, cell=self.cell, scale=scale)

    def features(self, rgb: Tensor) -> Tensor:
        """Features f^{L-1} before the walk, (B,C,h,w) at the network's stride, of RGB images (B,3,H,W) in 0..255."""
        features = self.network.forward_features(self.normalise(rgb))
        return features if self.reduction is None else cast(Tensor, self.reduction(features))

    def walk(self, features: Tensor, transition: bool = False) -> FeatureWalkResult:
        """Apply the random walk. If ``walk`` is False, features stay as they are and there is no transition matrix.

        Args:
            features: (B,C,h,w), from ``features``.
            transition: Keep log P, see ``FeatureWalk``.
        """
        if self.random_walk is None:
            still = cells(features, self.cell)
            return FeatureWalkResult(features, still, still, None)
        return cast(FeatureWalkResult, self.random_walk(features, transition))

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B,K,H,W), float32, of features (B,C,h,w) after the walk, interpolated to ``size``."""
        logits = self.network.classify(features)
        return functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False)

    def forward(self, rgb: Tensor) -> Tensor:  # type: ignore[override]  # sees one scale
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255."""
        return self.classify(self.walk(self.features(rgb)).features, (rgb.shape[2], rgb.shape[3]))


def _convolutions(channels: int, num_classes: int) -> nn.Sequential:
    """The part of the head ``convolutions`` after the walk."""
    convolution, last = conv_bn_relu(channels, channels, 3), nn.Conv2d(channels, num_classes, 1)
    initialise(convolution)
    initialise_classifier(last)
    return nn.Sequential(convolution, Dropout2d(HEAD_DROPOUT), last)


def _reconnect(classifier: nn.Module, before: int, after: int) -> None:
    """Change the input channels of all convolutions with ``before`` input channels to ``after``, with new weights."""
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == before and module.groups == 1:
            module.in_channels = after
            module.weight = nn.Parameter(module.weight.new_empty(module.out_channels, after, *module.kernel_size))
            initialise_classifier(module)


class RwSs(CrossEntropyMethod):
    """Random walk on neural representation and self-supervision on its eigenspace.

    The term ``pce`` is the partial cross-entropy after the walk. The term ``entropy`` is the maximum-entropy loss
    (weight 0.2 in the paper). The term ``consistency`` is the self-supervision (weight 1 in the paper). A phase without
    ``consistency`` neither computes the transformed image nor keeps P. The transformed image gives the target. It
    receives no gradient, so training keeps no activations of its forward pass.

    ``walk``, ``location`` and ``transform`` give the rows of the paper's Table 1. A phase whose only term is ``pce`` is
    the paper's first phase; with ``walk: false`` it is the paper's baseline.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (11), Tables 1 and 2.
    Differs: ``pce`` is a mean over labelled pixels, in the paper a sum; ``entropy`` is a mean over all pixels, as in
        the paper. In networks with fine features (U-Net, DeepLabv3+) the walk is between cells of ``stride`` pixels
        instead of single positions, because the 513x513 positions of a U-Net would give a matrix of 69 billion entries.
        Rows of P whose cells are padding do not count. ``cosine`` is not in the paper. The paper does not say how the
        divergence is averaged. We take the mean over rows with the paper's weight of 1. The mean over entries, which
        the authors' later code multiplies by 30, is an option. A walk at prediction only is an option of the stage
        predict, ``test_time.walk``.
    """

    name: Literal["rw-ss"] = "rw-ss"
    summary: ClassVar[str] = "random walk on features, self-supervision on its eigenspace"
    differs: ClassVar[str] = (
        "embed none is the paper's text; the published numbers were run with embed qkv, as the presets are"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "entropy", "consistency"})

    walk: bool = True
    """Apply the random walk to the features before they are classified."""
    embed: Embedding = "none"
    """Similarity in the walk. ``none``: inner products of the features, the paper's text. ``qkv``: inner products of
    1x1 convolutions of them, the authors' later code and the parameter count of Table 5. ``cosine``: cosines of the
    features, with a ``scale`` of about 5; not published. With cosines, long features do not attract all others."""
    head: Head = Field(default="network", json_schema_extra=LATER)
    """Classifier of the features. ``network``: the network's own. ``convolutions``: a 3x3 convolution before the walk
    and another one after it, as in the authors' later code; their baseline has atrous pyramid pooling instead."""
    width: int = Field(default=512, ge=1)
    """Largest number of channels of the features in the walk. Features with more channels are reduced to it."""
    stride: int = Field(default=8, ge=1)
    """Side in pixels of the cells between which features walk. A smaller value is finer and takes more memory. Networks
    with a larger stride use their own."""
    scale: float = Field(default=1.0, gt=0)
    """Factor of the similarities. The paper's is 1. With a smaller value features walk farther. Cosines need about
    5."""
    location: Literal["transition", "before", "after"] = "transition"
    """Quantity that is compared between the image and its transform: the matrix P (``transition``), the features before
    the walk, f^{L-1} (``before``), or after it, f^L (``after``)."""
    transform: TransformKind = "random"
    """Transform of the images: ``flip`` (left to right), vertical ``translation``, or ``random``, one of them for each
    batch."""
    max_shift: float = Field(default=0.25, gt=0, lt=1)
    """Largest translation as a share of the height. Not published."""
    gamma: float = Field(default=0.01, ge=0)
    """Weight of the difference of traces, relative to the divergence of P."""
    direction: Direction = "target-found"
    """Direction of the divergence: ``target-found`` is KL(target || P), ``found-target`` is KL(P || target)."""
    reduction: Literal["mean", "batchmean", "entries"] = "mean"
    """Reduction of the divergence. ``mean``: over rows of P, for the paper's weight of ``consistency``, 1.
    ``batchmean``: sum over rows, mean over images. ``entries``: mean over all entries of P, for the weight of the
    authors' later code, 30."""

    @model_validator(mode="before")
    @classmethod
    def _learned(cls, values: Any) -> Any:
        """Accept ``alpha: null`` of older stores, where alpha was learned. Other values meant a walk at prediction."""
        if not isinstance(values, Mapping) or "alpha" not in values:
            return values
        if values["alpha"] is not None:
            raise ValueError(
                "alpha is learned: leave it out; for a walk at prediction only, which needs no training, set "
                "test_time.walk of the predict stage (`wss predict --walk`)"
            )
        return {name: value for name, value in values.items() if name != "alpha"}

    def check_phases(self, phases: Sequence[Phase]) -> None:
        """See ``Method.check_phases``: ``location: transition`` needs a walk; weight and reduction must match."""
        super().check_phases(phases)
        weights = [phase.terms["consistency"] for phase in phases if "consistency" in phase.terms]
        if not weights or self.location != "transition":
            return
        if not self.walk:
            raise ValueError(NOTHING_TO_COMPARE)
        foreign = ROWS_WEIGHT if self.reduction == "entries" else ENTRIES_WEIGHT
        if foreign in weights:
            raise ValueError(
                f"method 'rw-ss' has reduction {self.reduction!r}, but the weight {foreign:g} of the term consistency "
                "was published with another reduction: "
                f"use reduction 'mean' with the weight {ROWS_WEIGHT:g} (the paper), or "
                f"reduction 'entries' with the weight {ENTRIES_WEIGHT:g} (the authors' later code)"
            )

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        return WalkingSegmenter(
            network,
            num_classes,
            walk=self.walk,
            embed=self.embed,
            head=self.head,
            width=self.width,
            stride=self.stride,
            scale=self.scale,
        )

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``.

        Raises:
            UsageError: ``location`` is ``transition``, but ``walk`` is False.
        """
        walking = cast(WalkingSegmenter, model)
        compares = "consistency" in terms
        if compares and not self.walk and self.location == "transition":
            raise UsageError(NOTHING_TO_COMPARE)
        transition = compares and self.location == "transition"
        walk = walking.walk(walking.features(batch.rgb), transition)
        logits = walking.classify(walk.features, (batch.rgb.shape[2], batch.rgb.shape[3]))
        losses = {"pce": self.cross_entropy(logits, batch)}
        if "entropy" in terms:
            losses["entropy"] = maximum_entropy_loss(logits, valid=batch.valid)
        if compares:
            transform = draw_transform(self.transform, walk.before.shape[2], max_shift=self.max_shift)
            with torch.no_grad():
                features = walking.features(transform.image(batch.rgb, walking.stride))
                target = walking.walk(features, transition)
            losses["consistency"] = self._consistency(walk, target, transform, _cells(batch.valid, walking.stride))
        return losses

    def _consistency(
        self, walk: FeatureWalkResult, target: FeatureWalkResult, transform: Transform, valid: Tensor
    ) -> Tensor:
        valid = transform.features(valid)
        if self.location != "transition":
            mine, other = (walk.before, target.before) if self.location == "before" else (walk.after, target.after)
            return feature_consistency_loss(transform.features(mine), other, valid=valid)
        if walk.log_transition is None or target.log_transition is None:
            raise UsageError("the walk kept no transition matrix to compare")
        size = (walk.before.shape[2], walk.before.shape[3])
        return transition_consistency_loss(
            transform_transition(walk.log_transition, transform, size, log=True),
            target.log_transition,
            log=True,
            gamma=self.gamma,
            direction=self.direction,
            reduction=self.reduction,
            valid=valid.flatten(1),
        )


def _cells(valid: Tensor, stride: int) -> Tensor:
    """Cells with a valid pixel: bool (B,H,W) to bool (B,ceil(H/stride),ceil(W/stride))."""
    return functional.max_pool2d(valid[:, None].float(), stride, ceil_mode=True)[:, 0] > 0
