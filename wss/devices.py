"""A training step on a GPU should not wait for the device: where work runs, and checks whose outcome is read later."""

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
        numbers: float64 (1+n,): whether it failed, then what its message names.
        error: Makes the error out of the n numbers.
    """

    numbers: Tensor
    error: Callable[..., WssError]

    def settle(self, numbers: Sequence[float]) -> None:
        """Raise the error if the numbers, now on the host, say so."""
        if numbers[0]:
            raise self.error(*numbers[1:])


_postponed: ContextVar[list[Check] | None] = ContextVar("postponed", default=None)


def on_host(tensor: Tensor) -> bool:
    """True if the tensor is in the memory of the host, so that reading its values does not wait."""
    return tensor.device.type == "cpu"


def refuse(wrong: Tensor, error: Callable[..., WssError], *named: Tensor) -> None:
    """Raise an error if ``wrong`` holds: now, or within ``postponed`` when somebody reads the outcome.

    Args:
        wrong: bool ().
        error: Makes the error out of the named numbers.
        named: Numbers () that the message names.
    """
    numbers = torch.stack([n.detach().double() for n in (wrong, *named)])
    check, waiting = Check(numbers, error), _postponed.get()
    if waiting is None or on_host(wrong):
        check.settle(numbers.tolist())
    else:
        waiting.append(check)


@contextmanager
def postponed() -> Iterator[list[Check]]:
    """Let checks of values that are not on the host gather in the list that this gives, whose owner has to settle them."""
    checks: list[Check] = []
    token = _postponed.set(checks)
    try:
        yield checks
    finally:
        _postponed.reset(token)
