"""Training curves as CSV and, when TensorBoard is installed, as event files."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from wss.store.atomic import write_text


class TrainingLog(AbstractContextManager["TrainingLog"]):
    """Writes the rows of one training into a folder: ``log.csv`` and one TensorBoard event file, closed at the end.

    If an interrupted training resumes, its new event file replaces the earlier ones: it begins with all rows so far, and tells
    TensorBoard to discard earlier records of the same steps.

    Args:
        folder: The folder. It is created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: Any = None
        self._written = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()

    def __call__(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write all rows so far. The CSV file is rewritten; TensorBoard gets only new rows."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "log.csv", text.getvalue())
        if rows and importlib.util.find_spec("tensorboard") is not None:
            self._record(rows[self._written :])
        self._written = len(rows)

    def _record(self, rows: Sequence[Mapping[str, float]]) -> None:
        if self._events is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(self.folder), purge_step=int(rows[0]["step"]))
        for row in rows:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    self._events.add_scalar(name, value, int(row["step"]))
        self._events.flush()
