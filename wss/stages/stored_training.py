"""Training on stored features: what it asks of the parameters, the model and the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wss.errors import UsageError
from wss.methods import METHODS, Phase, Segmenter
from wss.networks import Backbone, NetworkSpec
from wss.networks.stored_features import read_stored
from wss.store import Store
from wss.training.batches import ReadSample
from wss.training.views import LEVELS, View, ViewSet

if TYPE_CHECKING:
    from wss.stages.train import TrainParams

ALIKE = ("backbone", "output_stride", "padding", "mean", "std")
"""Settings of a network on which the features of its backbone depend."""


def check_stored(params: TrainParams) -> None:
    """Raise for parameters under which stored features would not be those that the network computes.

    Raises:
        UsageError: The method needs other views of the images, the backbone learns, images vary in ways of which no features are
            stored, or weights are named that would not be read.
    """
    if not params.method.stored_features:
        able = [method.model_fields["name"].default for method in METHODS if method.stored_features]
        raise UsageError(
            f"train: method {params.method.name!r} cannot learn from stored features, because it sees images in other ways; "
            f"leave out the input `features`, or choose one of {', '.join(able)}"
        )
    for number, phase in enumerate(params.phases):
        if "backbone" not in phase.freeze:
            raise UsageError(
                f"train: stored features are those of a frozen backbone; set train.phases.{number}.freeze=[backbone], or leave "
                "out the input `features`"
            )
    if params.weights is not None:
        raise UsageError(
            "train: the backbone's weights are those of the input `features`; name them there (features.weights) and leave "
            "train.weights out"
        )
    augment, plain = params.augment, {"scale": (1.0, 1.0), "rotate_deg": 0, "resize": None, "whole": False, "blur": 0}
    plain |= {"brightness": 0, "contrast": 0, "saturation": 0, "hue_deg": 0}
    for name, value in plain.items():
        if getattr(augment, name) != value:
            raise UsageError(
                f"train: no features are stored of images that vary by augment.{name}; leave it out (features.scales stores "
                "those of several scales)"
            )
    if augment.sides:
        raise UsageError(
            "train: augment.sides has no use with stored features yet; leave it out, or set it without them"
        )
    if params.network.multi_scale:
        raise UsageError("train: network.multi_scale needs features of every scale at once; leave it out")


def check_alike(made: NetworkSpec, own: NetworkSpec) -> None:
    """Raise if features of one network are not those of the other's backbone.

    Args:
        made: The network that features are stored for.
        own: The network that is trained on them.

    Raises:
        UsageError: They differ in a setting on which the features depend.
    """
    for name in ALIKE:
        if getattr(made, name) != getattr(own, name):
            raise UsageError(
                f"train: the stored features are features of network.{name} {getattr(made, name)}, and this network's is "
                f"{getattr(own, name)}; give both stages the same network"
            )


def load_stored(model: nn.Module, params: TrainParams, features: Store) -> dict[str, Any]:
    """Load the backbone with which features were made, and read its features from now on, in place.

    Returns:
        The record of the weights (``Initialisation``).

    Raises:
        UsageError: The features are those of another network.
    """
    own = params.network
    check_alike(NetworkSpec.model_validate(features.meta["network"]), own)
    needed = {
        LEVELS[number] for module in model.modules() if isinstance(module, Segmenter) for number in module.network.reads
    }
    if missing := needed - set(features.meta["strides"]):
        raise UsageError(
            f"train: {features.path} lacks the feature maps {', '.join(sorted(missing))}, which {own.name} reads; give the "
            "stage `features` the same network"
        )
    state = features.tree("backbone")
    for module in model.modules():
        if isinstance(module, Backbone):
            module.load_state_dict(state)
    read_stored(model)
    return dict(features.meta["initialisation"])


def without_backbone(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases of a model without its backbone, which then needs no freezing."""
    rest = [tuple(prefix for prefix in phase.freeze if not prefix.startswith("backbone")) for phase in phases]
    return tuple(phase.model_copy(update={"freeze": freeze}) for phase, freeze in zip(phases, rest, strict=True))


def view_set(
    params: TrainParams,
    features: Store,
    samples: Store,
    ids: Sequence[str],
    read: ReadSample,
    tags: dict[str, NDArray[np.bool_]] | None,
) -> ViewSet:
    """The training samples.

    Raises:
        UsageError: The crop is no multiple of the largest stride, or features of an image are missing.
    """
    missing = next((i for i in ids if i not in features), None)
    if missing is not None:
        raise UsageError(
            f"train: {features.path} has no features of {missing!r}; give the stages `features` and `train` the same split"
        )
    strides = features.meta["strides"]
    step = max(strides.values())
    crop = params.augment.crop
    if crop is None:
        largest = np.max([samples.shape("image", i)[:2] for i in ids], axis=0)
        scale = max(view[0] for view in features.meta["views"])
        size = tuple(-(-round(int(side) * scale) // step) * step for side in largest)
    else:
        size = (crop, crop) if isinstance(crop, int) else crop
        if size[0] % step or size[1] % step:
            raise UsageError(f"train: augment.crop must be a multiple of {step} with these stored features, got {crop}")
    return ViewSet(
        ids,
        read,
        _Features(features),
        [View(*view) for view in features.meta["views"]],
        strides,
        (size[0], size[1]),
        params.augment.flip,
        params.augment.fill_rgb,
        params.seed,
        tags,
        samples.meta["background"],
    )


class _Features:
    """Gives the stored features of an image; picklable, so that loader workers can have it."""

    def __init__(self, features: Store) -> None:
        self._features = features

    def __call__(self, image_id: str) -> dict[str, NDArray[np.float16]]:
        return {name: self._features.get(name, image_id) for name in self._features.meta["strides"]}
