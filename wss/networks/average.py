"""A moving average of a network's weights while it trains."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of weights and running statistics.

    After n updates the decay is min(decay, n / (n + 9)), so the initial random weights are forgotten quickly.

    Args:
        model: The model to average; it is copied.
        decay: Decay in 0..1. The average covers about the last 1 / (1 - decay) steps.

    Attributes:
        model: The average.

    Source: Tarvainen and Valpola 2017, "Mean teachers", arXiv:1703.01780, section 2.
    Differs: the decay of the first steps, as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the model's weights. Values that are not floats (counters) are copied."""
        self.updates += 1
        keep = min(self.decay, self.updates / (self.updates + 9))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The state of the average, for a checkpoint."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from ``state_dict``."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]
