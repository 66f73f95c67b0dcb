"""Training on stored features: checks of the parameters, loading of the backbone, and the training samples."""

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
    from wss.stages.train_params import TrainParams

ALIKE = ("backbone", "output_stride", "padding", "mean", "std")
"""Network settings that change the features of the backbone."""


def check_stored(params: TrainParams) -> None:
    """Check that the network would compute exactly the stored features with these parameters.

    Raises:
        UsageError: The method needs other views of the images; the backbone is trained; an augmentation needs features that are
            not stored; or ``weights`` is set but would not be read.
    """
    if not params.method.stored_features:
        able = [method.model_fields["name"].default for method in METHODS if method.stored_features]
        raise UsageError(
            f"train: method {params.method.name!r} cannot learn from stored features, because it needs other views of images; "
            f"leave out the input `features`, or choose one of {', '.join(able)}"
        )
    for number, phase in enumerate(params.phases):
        if "backbone" not in phase.freeze:
            raise UsageError(
                f"train: stored features come from a frozen backbone; set train.phases.{number}.freeze=[backbone], or leave out "
                "the input `features`"
            )
    if params.weights is not None:
        raise UsageError(
            "train: the backbone's weights come from the input `features`; set them there (features.weights) and leave "
            "train.weights out"
        )
    augment, plain = params.augment, {"scale": (1.0, 1.0), "rotate_deg": 0, "resize": None, "whole": False, "blur": 0}
    plain |= {"brightness": 0, "contrast": 0, "saturation": 0, "hue_deg": 0}
    for name, value in plain.items():
        if getattr(augment, name) != value:
            raise UsageError(
                f"train: no features are stored for images changed by augment.{name}; leave it out (features.scales stores "
                "features of several scales)"
            )
    if augment.sides:
        raise UsageError(
            "train: augment.sides is not supported with stored features; leave out augment.sides or the input `features`"
        )
    if params.network.multi_scale:
        raise UsageError("train: network.multi_scale needs features of every scale at once; leave it out")


def check_alike(made: NetworkSpec, own: NetworkSpec) -> None:
    """Check that two networks have backbones that compute the same features.

    Args:
        made: Network for which the features were stored.
        own: Network that is trained on them.

    Raises:
        UsageError: They differ in one of the settings ``ALIKE``.
    """
    for name in ALIKE:
        if getattr(made, name) != getattr(own, name):
            raise UsageError(
                f"train: the stored features were made with network.{name} {getattr(made, name)}, but this network has "
                f"{getattr(own, name)}; give both stages the same network"
            )


def load_stored(model: nn.Module, params: TrainParams, features: Store) -> dict[str, Any]:
    """Load the backbone that made the features into the model, and make the model read stored features. Works in place.

    Returns:
        The record of the weights (``Initialisation``).

    Raises:
        UsageError: The features were made by another network.
    """
    own = params.network
    check_alike(NetworkSpec.model_validate(features.meta["network"]), own)
    needed = {
        LEVELS[number] for module in model.modules() if isinstance(module, Segmenter) for number in module.network.reads
    }
    if missing := needed - set(features.meta["strides"]):
        raise UsageError(
            f"train: {features.path} lacks the feature maps {', '.join(sorted(missing))} that {own.name} reads; give the "
            "stage `features` the same network"
        )
    state = features.tree("backbone")
    for module in model.modules():
        if isinstance(module, Backbone):
            module.load_state_dict(state)
    read_stored(model)
    return dict(features.meta["initialisation"])


def without_backbone(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases without ``freeze`` entries for the backbone, for a model that no longer has one."""
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
    """The training samples with their stored features.

    Raises:
        UsageError: The crop is not a multiple of the largest stride, or features of an image are missing.
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
    """Reads the stored features of an image. Picklable, so that loader workers can use it."""

    def __init__(self, features: Store) -> None:
        self._features = features

    def __call__(self, image_id: str) -> dict[str, NDArray[np.float16]]:
        return {name: self._features.get(name, image_id) for name in self._features.meta["strides"]}
