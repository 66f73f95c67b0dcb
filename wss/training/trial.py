"""A training step for time measurements, on a copy of the network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wss.methods import Batch, Method, Phase
from wss.networks import freeze_batch_norm
from wss.precision import TRIAL_PX, Step
from wss.training.batches import EpochBatches, TrainingSet, batches
from wss.training.optimiser import freeze


def method_step(
    model: nn.Module,
    method: Method,
    phase: Phase,
    data: TrainingSet,
    batch_size: int,
    device: torch.device,
    *,
    channels_last: bool,
) -> Step:
    """A training step of a method's phase, with the phase's frozen parts; see ``trial_step``."""
    trial = copy.deepcopy(model).to(device)
    freeze(trial, phase)
    freeze_batch_norm(trial, phase.batch_norm == "frozen")

    def loss(batch: Batch) -> Tensor:
        return torch.stack(list(method.losses(trial, batch, phase.terms).values())).sum()

    return trial_step(trial, loss, data, batch_size, device, channels_last=channels_last)


def trial_step(
    trial: nn.Module,
    loss: Callable[[Batch], Tensor],
    data: TrainingSet,
    batch_size: int,
    device: torch.device,
    *,
    channels_last: bool,
) -> Step:
    """A forward and a backward pass, without an optimiser step.

    Args:
        trial: Network on ``device`` that is used for nothing else, because its running statistics change.
        loss: Returns the loss of a batch.
        data: Training images. The step uses one batch of them.
        batch_size: Number of images in this process's part of a step. On a CPU, fewer are used if images are large
            (``TRIAL_PX``).
        device: Device of the batch.
        channels_last: True for the memory format ``torch.channels_last`` of the images.
    """
    trial.train()
    height, width = data[0, 0]["valid"].shape
    size = batch_size if device.type != "cpu" else min(batch_size, max(2, TRIAL_PX // (height * width)))
    sampler = EpochBatches(len(data), size, None, 0, steps=1)
    batch = next(batches(data, sampler, device=device, workers=0, channels_last=channels_last))

    def step(amp: bool) -> None:
        trial.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            value = loss(batch)
        value.backward()  # type: ignore[no-untyped-call]

    return step
