"""Training curves as CSV and, when TensorBoard is installed, as event files."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from wss.store.atomic import write_text


class TrainingLog:
    """Writes the rows of a training run into a folder, ``log.csv`` and TensorBoard events.

    Args:
        folder: Made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: object | None = None
        self._written = 0

    def __call__(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write all rows so far; rows written before are replaced (CSV) or left alone (TensorBoard)."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "log.csv", text.getvalue())
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            with SummaryWriter(str(self.folder)) as events:
                for row in rows[self._written :]:
                    for name, value in row.items():
                        if name not in ("step", "epoch"):
                            events.add_scalar(name, value, int(row["step"]))
        self._written = len(rows)
