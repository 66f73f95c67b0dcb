"""Checks of tensor values that do not make a training step wait for the GPU: their results are read later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from wss.errors import WssError


@dataclass(frozen=True)
class Check:
    """A check of values on a device.

    Attributes:
        numbers: float64 (1+n,): 1 if the check failed, otherwise 0; then n numbers for the message.
        error: Builds the error from the n numbers.
    """

    numbers: Tensor
    error: Callable[..., WssError]

    def settle(self, numbers: Sequence[float]) -> None:
        """Raise the error if the check failed. ``numbers`` are the same numbers, copied to the host."""
        if numbers[0]:
            raise self.error(*numbers[1:])


_postponed: ContextVar[list[Check] | None] = ContextVar("postponed", default=None)


def on_host(tensor: Tensor) -> bool:
    """True if the tensor is in the memory of the host. Reading its values then does not wait."""
    return tensor.device.type == "cpu"


def refuse(wrong: Tensor, error: Callable[..., WssError], *named: Tensor) -> None:
    """Raise an error if ``wrong`` is True: now, or inside ``postponed`` when the caller settles the checks.

    Args:
        wrong: Bool scalar.
        error: Builds the error from the named numbers.
        named: Scalars for the message.
    """
    numbers = torch.stack([n.detach().double() for n in (wrong, *named)])
    check, waiting = Check(numbers, error), _postponed.get()
    if waiting is None or on_host(wrong):
        check.settle(numbers.tolist())
    else:
        waiting.append(check)


@contextmanager
def postponed() -> Iterator[list[Check]]:
    """Context that collects checks of values on a GPU in the list that it yields. The caller must settle them."""
    checks: list[Check] = []
    token = _postponed.set(checks)
    try:
        yield checks
    finally:
        _postponed.reset(token)
