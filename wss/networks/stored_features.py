"""A frozen backbone with precomputed feature maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wss.networks.backbone import Backbone


class StoredFeatures(Backbone):
    """A backbone that returns stored feature maps if given, and otherwise runs the real backbone without gradient.

    The real backbone is not a submodule: its weights are neither trained nor part of the state dict.

    Args:
        backbone: The real backbone. It is frozen and set to evaluation mode.

    Attributes:
        maps: Four feature maps (B,C_i,h_i,w_i) of the next images; None for a map that is not stored. If ``maps`` is
            None, the real backbone runs.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._itself = [backbone.eval()]
        self.architecture = backbone.architecture
        self.output_stride = backbone.output_stride
        self.channels = backbone.channels
        self.maps: Sequence[Tensor | None] | None = None

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Strides of the real backbone."""
        return self.itself.strides

    @property
    def itself(self) -> Backbone:
        """The real backbone."""
        return self._itself[0]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``. Maps that are not stored have no channels, so networks that need them raise."""
        if self.maps is None:
            with torch.no_grad():
                computed: tuple[Tensor, Tensor, Tensor, Tensor] = self.itself.to(image.device)(image)
            return computed
        empty = image.new_zeros(len(image), 0, 1, 1)
        first, second, third, fourth = (empty if maps is None else maps for maps in self.maps)
        return first, second, third, fourth

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``."""
        return self.itself.classify(image)


def read_stored(model: nn.Module) -> list[StoredFeatures]:
    """Replace every backbone of a model by ``StoredFeatures``, in place. ``compute_again`` undoes it."""
    replaced = []
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Backbone) and not isinstance(child, StoredFeatures):
                replaced.append(StoredFeatures(child))
                setattr(parent, name, replaced[-1])
    return replaced


def compute_again(model: nn.Module) -> None:
    """Restore every backbone that ``read_stored`` replaced, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, StoredFeatures):
                setattr(parent, name, child.itself)


@contextmanager
def given_features(model: nn.Module, maps: Sequence[Tensor | None] | None) -> Iterator[None]:
    """Context in which the backbones replaced by ``read_stored`` return these feature maps."""
    stored = [module for module in model.modules() if isinstance(module, StoredFeatures)]
    for module in stored:
        module.maps = maps
    try:
        yield
    finally:
        for module in stored:
            module.maps = None
