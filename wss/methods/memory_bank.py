"""Memory bank: descriptions of the segments of the last batches, for contrastive losses across batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wss.distributed import gather_rows, gather_rows_own_first


class MemoryBank:
    """Named tensors that describe the segments of the last batches, one row per segment, without gradient.

    Args:
        batches: Number of batches that are kept.
    """

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self._kept: list[dict[str, Tensor]] = []

    def push(self, **rows: Tensor) -> None:
        """Add the rows of the current batch, gathered from all processes. Drop the oldest batch beyond ``batches``."""
        kept = [*self._kept, {name: gather_rows(values) for name, values in rows.items()}]
        self._kept = kept[-self.batches :] if self.batches else []

    def after(self, name: str, rows: Tensor) -> Tensor:
        """Concatenate this process's rows, the other processes' rows, and the bank's rows (oldest batch first)."""
        return torch.cat([gather_rows_own_first(rows), *(batch[name] for batch in self._kept)])

    @property
    def state(self) -> list[dict[str, Tensor]]:
        """The kept batches, oldest first."""
        return list(self._kept)

    def restore(self, state: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        """Load a ``state`` from a checkpoint."""
        self._kept = [{name: values.to(device) for name, values in batch.items()} for batch in state]
