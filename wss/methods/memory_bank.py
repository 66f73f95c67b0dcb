"""A memory of the segments of the last batches, with which those of the present one are contrasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wss.distributed import all_rows, others_behind


class MemoryBank:
    """What describes the segments of the last batches, one row each, by name; it takes no gradient.

    Args:
        batches: How many batches are kept.
    """

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self._kept: list[dict[str, Tensor]] = []

    def push(self, **rows: Tensor) -> None:
        """Keep the present batch, all of it where several processes share it, and forget the oldest of too many."""
        kept = [*self._kept, {name: all_rows(values) for name, values in rows.items()}]
        self._kept = kept[-self.batches :] if self.batches else []

    def after(self, name: str, rows: Tensor) -> Tensor:
        """Rows of the present batch, this process's part of it first, and behind them those of the bank, the oldest first."""
        return torch.cat([others_behind(rows), *(batch[name] for batch in self._kept)])

    @property
    def state(self) -> list[dict[str, Tensor]]:
        """The batches, the oldest first."""
        return list(self._kept)

    def restore(self, state: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        """Take up a former ``state``."""
        self._kept = [{name: values.to(device) for name, values in batch.items()} for batch in state]
