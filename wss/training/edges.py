"""Training of an edge network: labels from several annotators, the training loop, checkpoints."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from wss.errors import WssError
from wss.losses import edge_loss
from wss.methods import Batch
from wss.params import Params
from wss.precision import MIN_STEPS, Amp, Precision, Step, decide
from wss.training.augment import AugmentParams
from wss.training.batches import EpochBatches, TrainingSet, batches
from wss.training.readings import Readings
from wss.training.trial import trial_step

EDGE, DISPUTED, NO_EDGE = 1, 0, 255
"""Label codes for training. Augmentation preserves labels other than 255 when the image shrinks, so that boundaries of one pixel
stay complete."""

CHECKPOINT_INTERVAL_S = 60.0


class EdgeTrainingParams(Params):
    """Parameters of the training of an edge network."""

    epochs: int = Field(default=100, ge=1)
    """Number of passes over the images, with one random crop of each image per pass."""
    batch_size: int = Field(default=8, ge=1)
    """Number of crops per step."""
    lr: float = Field(default=3e-3, gt=0)
    """Largest learning rate. The rate rises during the warm-up and then falls to 0 along a cosine."""
    warmup_iters: int = Field(default=50, ge=0)
    """Number of steps during which the learning rate rises."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Decoupled weight decay (AdamW)."""
    average: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is the result. 0: the last weights are the result."""
    agreement: float = Field(default=0.3, gt=0, le=1)
    """Fraction of annotators that must mark a pixel to make it an edge. Pixels marked by fewer annotators, but at least one, are
    ignored."""
    tolerance_px: int = Field(default=2, ge=0)
    """An annotator agrees on a pixel if one of the annotator's boundaries is within this distance, in pixels."""
    negative_weight: float = Field(default=1.1, gt=0)
    """lambda of the loss: weight of pixels without an edge. Larger: fewer pixels are predicted to be edges."""
    side_weight: float = Field(default=0.5, ge=0)
    """Weight of the loss of each side output."""
    augment: AugmentParams = AugmentParams(
        crop=256,
        scale=(0.6, 1.4),
        rotate_deg=20,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue_deg=10,
    )
    """Augmentations of the photographs."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""
    seed: int = Field(default=0, ge=0)
    """Random seed of initial weights, order of images and augmentation."""


@dataclass(frozen=True)
class EdgeHooks:
    """Callbacks of the training loop.

    Attributes:
        save: Stores a state from which training resumes.
        advance: Receives the number of finished steps and a short note.
        say: Receives messages for the user.
    """

    save: Callable[[Any], None] = lambda state: None
    advance: Callable[[int, str], None] = lambda units, note: None
    say: Callable[[str], None] = lambda message: None


def edge_labels(boundaries: Sequence[NDArray[np.bool_]], agreement: float, tolerance_px: int) -> NDArray[np.uint8]:
    """Merge the boundaries of several annotators into one label map.

    Args:
        boundaries: Bool (H,W) per annotator, lines one pixel wide.
        agreement: Fraction of annotators, above 0.
        tolerance_px: Radius within which an annotator's line supports a pixel that another annotator marked.

    Returns:
        uint8 (H,W): ``EDGE`` on marked pixels that at least the fraction ``agreement`` of all annotators supports, ``DISPUTED``
        on other marked pixels, ``NO_EDGE`` elsewhere.

    Source: Liu et al. 2017, arXiv:1612.02103, section 3.2, which counts only marks on exactly the same pixel.
    Differs: people draw the same boundary some pixels apart, so agreement is counted within a radius.
    """
    size = 2 * tolerance_px + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    marked = np.any(boundaries, axis=0)
    support = np.mean([cv2.dilate(b.astype(np.uint8), disk) for b in boundaries], axis=0)
    labels: NDArray[np.uint8] = np.where(marked, np.where(support >= agreement - 1e-9, EDGE, DISPUTED), NO_EDGE)
    return labels.astype(np.uint8)


def fit_edges(
    network: nn.Module,
    data: TrainingSet,
    params: EdgeTrainingParams,
    device: torch.device,
    hooks: EdgeHooks,
    state: Mapping[str, Any] | None = None,
    workers: int = 0,
) -> list[dict[str, float]]:
    """Train an edge network in place. At the end it has the averaged weights.

    Args:
        network: Network on ``device`` that returns logits (B,S,H,W) for RGB images in 0..255.
        data: Images with ``labels`` in the codes of ``edge_labels``.
        params: See ``EdgeTrainingParams``.
        device: Device of the training.
        hooks: See ``EdgeHooks``.
        state: Last state that ``hooks.save`` received, to resume from. On a CPU, the result is the same as without interruption.
        workers: Number of loader processes.

    Returns:
        One row per epoch: epoch, step, lr, loss, seconds.

    Raises:
        WssError: The loss is no longer finite.
    """
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=params.lr)
    rows: list[dict[str, float]] = []
    begin, total = 0, 0.0
    if state is not None:
        network.load_state_dict(state["model"])
        average = {name: value.to(device) for name, value in state["average"].items()}
        optimiser.load_state_dict(state["optimiser"])
        rows, begin, total = list(state["rows"]), int(state["step"]), float(state["total"])
    sampler = EpochBatches(len(data), params.batch_size, params.epochs, params.seed, begin)
    steps = sampler.per_epoch * params.epochs
    loader = batches(data, sampler, device=device, workers=workers, channels_last=True, say=hooks.say)
    precision = _precision(network, data, params, steps, device, state, hooks)
    network.train()
    readings, note = Readings(), ""
    saved = clock = time.monotonic()
    for step, batch in enumerate(loader, start=begin):
        lr = params.lr * _schedule(step, steps, params.warmup_iters)
        for group in optimiser.param_groups:
            group["lr"] = lr
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.used):
            loss = _loss(network, batch, params)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        _update(average, network, min(params.average, (1 + step) / (10 + step)))
        readings.send(step, lr, loss.detach().double()[None], ["loss"])
        epoch, place = divmod(step + 1, sampler.per_epoch)
        due = step + 1 < steps and time.monotonic() - saved > CHECKPOINT_INTERVAL_S
        for reading in readings.arrived(wait=due or place == 0):
            value = reading.values["loss"]
            if not math.isfinite(value):
                raise WssError(
                    f"the loss is no longer finite at step {reading.step + 1}; lower the learning rate (now {reading.lr:g})"
                )
            total += value
            note = f"loss {value:.4f}"
        if place == 0:
            now = time.monotonic()
            rows.append(
                {"epoch": epoch, "step": step + 1, "lr": lr, "loss": total / sampler.per_epoch, "seconds": now - clock}
            )
            total, clock = 0.0, now
        hooks.advance(1, note)
        if due:
            hooks.save(
                {
                    "model": network.state_dict(),
                    "average": average,
                    "optimiser": optimiser.state_dict(),
                    "rows": rows,
                    "step": step + 1,
                    "total": total,
                    "precision": precision.record(),
                }
            )
            saved = time.monotonic()
    if params.average:
        network.load_state_dict(average)
    network.eval()
    return rows


def _loss(network: nn.Module, batch: Batch, params: EdgeTrainingParams) -> Tensor:
    logits = network(batch.rgb).float()
    with torch.autocast(logits.device.type, enabled=False):
        return edge_loss(
            logits,
            (batch.labels == EDGE).float(),
            batch.valid & (batch.labels != DISPUTED),
            negative_weight=params.negative_weight,
            side_weight=params.side_weight,
        )


def _precision(
    network: nn.Module,
    data: TrainingSet,
    params: EdgeTrainingParams,
    steps: int,
    device: torch.device,
    state: Mapping[str, Any] | None,
    hooks: EdgeHooks,
) -> Precision:
    """Precision of training steps: as before an interruption, or else decided now."""
    if state is not None and "precision" in state:
        return Precision(**state["precision"])

    def prepare() -> Step:
        trial = copy.deepcopy(network)
        batch_size = min(params.batch_size, len(data))
        return trial_step(
            trial, lambda batch: _loss(trial, batch, params), data, batch_size, device, channels_last=True
        )

    precision = decide(params.amp, device, steps, MIN_STEPS, prepare)
    if precision.times is not None:
        hooks.say(f"train-edges: {precision}")
    return precision


def _schedule(step: int, steps: int, warmup: int) -> float:
    rise = min(1.0, (step + 1) / (warmup + 1))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _update(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
