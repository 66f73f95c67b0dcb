"""Optimisers, parameter groups and learning-rate schedules of a training phase."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from wss.errors import UsageError
from wss.methods import Phase
from wss.networks import parameter_groups


def make_optimiser(model: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Make an optimiser for the parameters that the phase trains.

    Heads learn at ``head_multiplier`` times the backbone's rate. Biases learn at ``bias_multiplier`` times the rate of their
    weights. Biases and the scales of normalisation layers have no weight decay. A CRF layer learns at its own multiple of the
    rate, without weight decay.

    Raises:
        UsageError: Everything is frozen.

    Source: DeepLab (Chen et al. 2017), training protocol.
    """
    groups = trained_groups(model, phase)
    if phase.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum)
    kind = torch.optim.Adam if phase.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=phase.lr, betas=(phase.momentum, 0.999))


def trained_groups(model: nn.Module, phase: Phase) -> list[dict[str, Any]]:
    """The parameters that a phase trains, as parameter groups of an optimiser; see ``make_optimiser``.

    Making an optimiser imports torch's compiler, which takes seconds. This function does not import it.

    Raises:
        UsageError: Everything is frozen.
    """
    groups = []
    for group in parameter_groups(model):
        rate = group.rate * (phase.head_multiplier if group.head else 1.0)
        rate *= phase.bias_multiplier if group.bias else 1.0
        parameters = [p for p in group.parameters if p.requires_grad]
        if parameters:
            decay = phase.weight_decay if group.decay else 0.0
            groups.append({"params": parameters, "lr": phase.lr * rate, "weight_decay": decay, "multiplier": rate})
    if not groups:
        raise UsageError(f"freeze: {', '.join(phase.freeze)} leaves nothing to train")
    return groups


def learning_rate(phase: Phase, step: int, steps: int) -> float:
    """The backbone's learning rate at a step of a phase, 0 <= step < steps."""
    if step < phase.warmup_iters:
        return phase.lr * (step + 1) / (phase.warmup_iters + 1)
    progress = step / steps
    if phase.schedule == "poly":
        return phase.lr * float((1 - progress) ** phase.power)
    if phase.schedule == "cosine":
        return phase.lr * 0.5 * (1 + math.cos(math.pi * progress))
    if phase.schedule == "step" and phase.step_iters is not None:
        return phase.lr * phase.gamma ** (step // phase.step_iters)
    return phase.lr


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group to its multiple of the backbone's rate ``lr``."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["multiplier"]


def freeze(model: nn.Module, phase: Phase) -> None:
    """Make exactly the parameters trainable that the phase trains.

    Raises:
        UsageError: A prefix matches no parameter.
    """
    names = [name.removeprefix("network.") for name, _ in model.named_parameters()]
    for prefix in phase.freeze:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"freeze: no parameter begins with {prefix!r}; parts: {', '.join(_parts(names))}")
    for name, parameter in zip(names, model.parameters(), strict=True):
        parameter.requires_grad_(not name.startswith(phase.freeze) if phase.freeze else True)


def _parts(names: list[str]) -> list[str]:
    return sorted({name.split(".")[0] for name in names})
