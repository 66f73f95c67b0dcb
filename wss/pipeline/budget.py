"""A time for training as a number of steps, by measuring steps on this machine."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from wss.errors import UsageError
from wss.methods import Phase
from wss.stages.stage import Context, Inputs
from wss.stages.train import TrainParams
from wss.stages.train import run as train
from wss.store import MODEL, StoreWriter
from wss.training.loop import total_steps

WARM_UP = 3
"""Steps that are not counted: the first ones are slow."""
COUNTED = 12
"""Steps whose median counts."""
LONGEST_S = 30.0
"""After so many seconds no further step is measured, once there is one."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Seconds of a time such as ``90s``, ``30m`` or ``1.5h``.

    Raises:
        UsageError: Another form, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--budget {text}: expected a time such as 90s, 30m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


class TooShortError(UsageError):
    """A time is too short for one step of each phase.

    Args:
        missing: Seconds that are missing.
    """

    def __init__(self, missing: float) -> None:
        super().__init__(f"--budget: one step of each phase takes {missing:.1f} s more; give more time")
        self.missing = missing


class _EnoughError(Exception):
    """Ends a training whose steps have been measured."""


class _Clock:
    """Progress of a training that keeps the times of its steps and ends it when there are enough."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def say(self, message: str) -> None:
        """Nobody is told: the training that counts says it again."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Begin to count."""
        begin = last = time.monotonic()
        count = 0

        def advance(units: int, note: str) -> None:
            nonlocal last, count
            now = time.monotonic()
            count += units
            if count > WARM_UP:
                self.times.append(now - last)
            last = now
            if len(self.times) >= COUNTED or (self.times and now - begin > LONGEST_S):
                raise _EnoughError

        return advance


def step_seconds(params: TrainParams, phase: Phase, inputs: Inputs, context: Context) -> float:
    """Median seconds of a training step of a phase, on this machine.

    Args:
        params: The training.
        phase: One of its phases.
        inputs: Its inputs.
        context: Where it runs. Nothing is kept.
    """
    clock = _Clock()
    alone = params.model_copy(update={"phases": (phase,), "validate_every": 0})
    with TemporaryDirectory() as folder:
        writer = StoreWriter(Path(folder) / "model.h5", MODEL, {})
        try:
            train(alone, inputs, writer, replace(context, progress=clock, logs=None))
        except _EnoughError:
            pass
        finally:
            writer.close()
    if not clock.times:
        raise UsageError(
            f"--budget: a phase of {WARM_UP} steps or fewer is too short to be measured; leave --budget out"
        )
    return statistics.median(clock.times)


def fitted(params: TrainParams, images: int, seconds: list[float], available: float) -> tuple[Phase, ...]:
    """The phases of a training with steps that take ``available`` seconds. Phases keep their share of the steps.

    Args:
        params: The training.
        images: Number of training images.
        seconds: Of a step of each phase.
        available: Seconds for all phases.

    Raises:
        TooShortError: Not even one step of each phase fits.
    """
    usual = [total_steps(images, min(params.batch_size, images), [phase]) for phase in params.phases]
    longest = sum(count * each for count, each in zip(usual, seconds, strict=True))
    factor = available / longest
    counts = [int(factor * count) for count in usual]
    if min(counts) < 1:
        raise TooShortError(longest / min(usual) - available)
    return tuple(
        phase.model_copy(update={"epochs": None, "steps": count})
        for phase, count in zip(params.phases, counts, strict=True)
    )
