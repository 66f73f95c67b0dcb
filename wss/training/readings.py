"""Loss values of past training steps, read without blocking the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wss import devices
from wss.devices import Check

AHEAD = 16
"""Number of steps that the host may queue before it reads the numbers of the first of them."""


@dataclass(frozen=True)
class Reading:
    """The numbers of one step.

    Attributes:
        step: Number of the step.
        lr: Learning rate of the step.
        values: Numbers by name.
    """

    step: int
    lr: float
    values: dict[str, float]


@dataclass(frozen=True)
class _Sent:
    step: int
    lr: float
    names: tuple[str, ...]
    checks: tuple[Check, ...]
    numbers: Tensor
    copied: torch.cuda.Event | None
    late: bool

    def has_arrived(self) -> bool:
        return not self.late or (self.copied is not None and self.copied.query())  # type: ignore[no-untyped-call]


class Readings:
    """Queue of numbers of steps that are being copied to the host, in order.

    Numbers of tensors on the host are available at once. Others are copied while the device continues. They are read when they
    have arrived, when the caller asks to wait, or when more than ``AHEAD`` steps are in the queue.
    """

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()

    def send(self, step: int, lr: float, values: Tensor, names: Sequence[str], checks: Sequence[Check] = ()) -> None:
        """Add a step to the queue: its values, float64 (N,), with their names, and the outcomes of its checks."""
        late = not devices.on_host(values)
        numbers, copied = torch.cat([values, *(check.numbers for check in checks)]), None
        if numbers.is_cuda:
            numbers = numbers.to("cpu", non_blocking=True)  # into pinned memory
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._sent.append(_Sent(step, lr, tuple(names), tuple(checks), numbers, copied, late))

    def arrived(self, *, wait: bool = False) -> Iterator[Reading]:
        """Yield the readings that have arrived since the last call, after evaluating their checks. ``wait`` yields all.

        Raises:
            WssError: A check failed.
        """
        while self._sent and (wait or len(self._sent) > AHEAD or self._sent[0].has_arrived()):
            sent = self._sent.popleft()
            if sent.copied is not None:
                sent.copied.synchronize()
            numbers = sent.numbers.tolist()
            rest = numbers[len(sent.names) :]
            for check in sent.checks:
                check.settle(rest[: len(check.numbers)])
                rest = rest[len(check.numbers) :]
            yield Reading(sent.step, sent.lr, dict(zip(sent.names, numbers, strict=False)))
