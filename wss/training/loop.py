"""The training loop: phases with weighted loss terms, and checkpoints from which training resumes with the same numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wss.devices import postponed
from wss.distributed import add_gradients, all_reduce_sum
from wss.errors import WssError
from wss.methods import Method, Phase
from wss.networks import freeze_batch_norm
from wss.networks.average import MovingAverage
from wss.networks.stored_features import given_features
from wss.training.batches import EpochBatches, TrainingSet, batches
from wss.training.deep_supervision import deep_supervision, recorded_sides, supervised_weight
from wss.training.optimiser import freeze, learning_rate, make_optimiser, set_learning_rate
from wss.training.readings import Readings
from wss.training.views import stored_maps

CHECKPOINT_INTERVAL_S = 60.0


@dataclass(frozen=True)
class LoopSettings:
    """Settings that are the same in all phases.

    Attributes:
        batch_size: Images per step, over all processes together (``wss.distributed``).
        seed: Seed of the order of images, augmentation and dropout.
        device: Device of the training.
        workers: Number of loader processes.
        amp: Autocast to bfloat16.
        channels_last: Use the memory format ``torch.channels_last``, with faster convolutions on most hardware.
        compile: Compile the model with ``torch.compile``.
        deep_supervision: Weight of the cross-entropy of coarser decoder levels (``NetworkSpec.deep_supervision``).
        average: Decay of the moving average of the weights; 0 for no average.
        validate_every: Number of epochs between validations. Each phase also ends with a validation. 0: never.
    """

    batch_size: int
    seed: int
    device: torch.device
    workers: int = 0
    amp: bool = False
    channels_last: bool = True
    compile: bool = False
    deep_supervision: float = 0.0
    average: float = 0.0
    validate_every: int = 1


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the training loop.

    Attributes:
        validate: Scores a model on held-out images. The scores are only logged; they never select a checkpoint.
        save: Stores a state from which training resumes.
        log: Receives all rows so far, each time a row is added.
        advance: Receives the number of finished steps and a short note.
        say: Receives messages for the user.
    """

    validate: Callable[[nn.Module], Mapping[str, float]]
    save: Callable[[Any], None]
    log: Callable[[Sequence[Mapping[str, float]]], None]
    advance: Callable[[int, str], None]
    say: Callable[[str], None] = lambda message: None


def total_steps(size: int, batch_size: int, phases: Sequence[Phase]) -> int:
    """Number of optimiser steps of all phases together, with ``size`` images."""
    return sum(len(EpochBatches(size, batch_size, phase.epochs, 0, steps=phase.steps)) for phase in phases)


def fit(
    model: nn.Module,
    method: Method,
    phases: Sequence[Phase],
    data: TrainingSet,
    settings: LoopSettings,
    hooks: Hooks,
    state: Mapping[str, Any] | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` through all phases.

    Args:
        model: Model on ``settings.device``, changed in place. At the end it has the averaged weights, if there is an average.
        method: Computes the loss terms.
        phases: Phases in order. Each phase starts with a new optimiser.
        data: Training images.
        settings: See ``LoopSettings``.
        hooks: See ``Hooks``.
        state: Last state that ``hooks.save`` received, to resume from. On a CPU, the numbers are the same as without
            interruption.

    Returns:
        One row per epoch: phase, epoch, step, lr, mean of each loss term and of their weighted sum, validation scores, seconds,
        and seconds_per_step. The latter is the mean over the epoch's steps, without validation. If the last epoch of a phase is
        incomplete, its means are over the steps that it has.

    Raises:
        WssError: The loss is no longer finite, or a loss received an unusable value. On a GPU the error is raised up to
            ``wss.training.readings.AHEAD`` steps later, but before anything is saved.
    """
    rows: list[dict[str, float]] = []
    start_phase, start_step = 0, 0
    sums: dict[str, float] = {}
    average = MovingAverage(model, settings.average) if settings.average else None
    if state is not None:
        model.load_state_dict(state["model"])
        if average is not None:
            average.load_state_dict(state["average"])
        method.carry(model, state.get("carried", {}))
        rows, start_phase, start_step, sums = state["rows"], state["phase"], state["step"], state["sums"]
        torch.set_rng_state(state["rng"])
        if settings.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], settings.device)
    run: nn.Module = torch.compile(model) if settings.compile else model  # type: ignore[assignment]
    done = first_draw = 0
    saved = time.monotonic()
    readings, note = Readings(), ""
    for number, phase in enumerate(phases):
        epochs = EpochBatches(len(data), settings.batch_size, phase.epochs, settings.seed, 0, first_draw, phase.steps)
        steps = len(epochs)
        if number < start_phase:
            done, first_draw = done + steps, first_draw + steps * epochs.batch_size
            continue
        freeze(model, phase)
        optimiser = make_optimiser(model, phase)
        begin = start_step if state is not None and number == start_phase else 0
        if state is not None and begin:
            optimiser.load_state_dict(state["optimiser"])
        sampler = EpochBatches(
            len(data), settings.batch_size, phase.epochs, settings.seed, begin, first_draw, phase.steps
        )
        clock, timed = time.monotonic(), begin
        freeze_batch_norm(model, phase.batch_norm == "frozen")
        model.train()
        loader = batches(
            data,
            sampler,
            device=settings.device,
            workers=settings.workers,
            channels_last=settings.channels_last,
            say=hooks.say,
        )
        for step, batch in enumerate(loader, start=begin):
            lr = learning_rate(phase, step, steps)
            set_learning_rate(optimiser, lr)
            with (
                postponed() as checks,
                torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp),
                given_features(model, stored_maps(batch.maps)),
                recorded_sides(model) as sides,
            ):
                terms = method.losses(run, batch, phase.terms)
                loss = _weighted(terms, phase)
                if sides and (weight := supervised_weight(method, phase)):
                    terms = {**terms, "deep": deep_supervision(sides, batch)}
                    loss = loss + weight * settings.deep_supervision * terms["deep"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            add_gradients(model.parameters())
            if phase.clip_norm is not None:
                nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], phase.clip_norm)
            optimiser.step()
            if average is not None:
                average.update(model)
            readings.send(step, lr, _values({**terms, "loss": loss}), [*terms, "loss"], checks)
            epoch, place = divmod(step, epochs.per_epoch)
            last = step + 1 == steps
            ends = place + 1 == epochs.per_epoch or last
            due = not last and time.monotonic() - saved > CHECKPOINT_INTERVAL_S
            for reading in readings.arrived(wait=ends or due):
                for name, value in reading.values.items():
                    sums[name] = sums.get(name, 0.0) + value
                if not sums["loss"] - sums["loss"] == 0.0:
                    raise WssError(
                        f"the loss is no longer finite at phase {number + 1}, step {reading.step + 1} "
                        f"({', '.join(f'{name} {reading.values[name]:g}' for name in terms)}); lower the learning rate "
                        f"(now {reading.lr:g}) or set clip_norm"
                    )
                note = f"loss {reading.values['loss']:.3f}"
            if ends:
                row = {"phase": number + 1, "epoch": epoch + 1, "step": done + step + 1, "lr": lr}
                row |= {name: value / (place + 1) for name, value in sums.items()}
                per_step = (time.monotonic() - clock) / (step + 1 - timed)
                sums = {}
                if settings.validate_every and ((epoch + 1) % settings.validate_every == 0 or last):
                    scored = model if average is None else average.model
                    scored.eval()
                    row |= hooks.validate(scored)
                    model.train()
                row |= {"seconds": time.monotonic() - clock, "seconds_per_step": per_step}
                clock, timed = time.monotonic(), step + 1
                rows.append(row)
                hooks.log(rows)
            hooks.advance(1, note)
            if due:
                hooks.save(_state(model, average, method, optimiser, number, step + 1, rows, sums))
                saved = time.monotonic()
        sums = {}
        done, first_draw = done + steps, first_draw + steps * epochs.batch_size
        if number + 1 < len(phases):
            hooks.save(_state(model, average, method, optimiser, number + 1, 0, rows, sums))
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    return rows


def _weighted(terms: Mapping[str, Tensor], phase: Phase) -> Tensor:
    missing = set(phase.terms) - set(terms)
    if missing:
        raise WssError(f"the method did not compute the loss terms {sorted(missing)}")
    idle = not any(phase.terms.values())
    # if another term has a weight, a term with weight 0 is recorded but gives no gradient
    used = {name: terms[name] if weight or idle else terms[name].detach() for name, weight in phase.terms.items()}
    return torch.stack([weight * used[name] for name, weight in phase.terms.items()]).sum()


def _values(terms: Mapping[str, Tensor]) -> Tensor:
    """Values of the terms over the whole batch of all processes, float64."""
    return all_reduce_sum(torch.stack([term.detach().double() for term in terms.values()]))


def _state(
    model: nn.Module,
    average: MovingAverage | None,
    method: Method,
    optimiser: torch.optim.Optimizer,
    phase: int,
    step: int,
    rows: list[dict[str, float]],
    sums: dict[str, float],
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "average": None if average is None else average.state_dict(),
        "carried": method.carried(model),
        "optimiser": optimiser.state_dict(),
        "phase": phase,
        "step": step,
        "rows": rows,
        "sums": sums,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,  # type: ignore[no-untyped-call]
    }
