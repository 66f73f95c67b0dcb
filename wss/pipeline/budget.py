"""Conversion of a time budget for training into a number of steps, by measuring steps on this machine."""

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
from wss.stages.train import run as train
from wss.stages.train_params import TrainParams
from wss.store import MODEL, StoreWriter
from wss.training.loop import total_steps

WARM_UP = 3
"""Number of first steps that are not measured, because they are slow."""
COUNTED = 12
"""Number of measured steps; their median is the result."""
LONGEST_S = 30.0
"""Time limit of the measurement in seconds. At least one step is measured."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Convert a time such as ``90s``, ``30m`` or ``1.5h`` to seconds.

    Raises:
        UsageError: The text has another form, or the time is 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--budget {text}: expected a time such as 90s, 30m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


class TooShortError(UsageError):
    """The time is too short for one step of each phase.

    Args:
        missing: Number of missing seconds.
    """

    def __init__(self, missing: float) -> None:
        super().__init__(f"--budget: one step of each phase needs {missing:.1f} s more; give more time")
        self.missing = missing


class _EnoughError(Exception):
    """Raised to end a training after enough steps have been measured."""


class _Clock:
    """Progress that records the times of training steps and ends the training after enough steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def say(self, message: str) -> None:
        """Discard the message; the real training repeats it."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Start measuring."""
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
    """Median time of a training step of a phase on this machine, in seconds.

    Args:
        params: Parameters of the training.
        phase: One of its phases.
        inputs: Inputs of the training.
        context: Device and jobs. Nothing is stored.

    Raises:
        UsageError: The phase has too few steps to be measured.
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
    """The phases with numbers of steps that take ``available`` seconds together. Each phase keeps its share of the steps.

    Args:
        params: Parameters of the training.
        images: Number of training images.
        seconds: Seconds per step, for each phase.
        available: Seconds for all phases together.

    Raises:
        TooShortError: One step of each phase takes longer than ``available``.
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
