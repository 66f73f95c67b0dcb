"""The terminal: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from wss.cli import interrupt


class Terminal:
    """Draws progress on stderr and prints results on stdout.

    Args:
        quiet: Print only results and errors.
        verbose: Print details of each stage.
        as_json: Print results as one JSON line instead of tables.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._out = Console(
            highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160
        )
        self._progress = Progress(
            TextColumn("  {task.description:<18}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._err,
            transient=True,
            disable=quiet or not self._err.is_terminal,
        )

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, message: str) -> None:
        """Print one line on stderr, unless quiet."""
        interrupt.check()
        if not self.quiet:
            self._err.print(escape(message))

    def detail(self, message: str) -> None:
        """Print one line on stderr if verbose."""
        if self.verbose:
            self._err.print(f"[dim]{escape(message)}[/dim]")

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Show a progress bar; see ``wss.stages.stage.Progress``."""
        for task in self._progress.tasks:
            self._progress.update(task.id, visible=False)
        number = self._progress.add_task(label, total=total, completed=done, note="")

        def advance(units: int, note: str) -> None:
            interrupt.check()
            self._progress.update(number, advance=units, note=escape(note))

        return advance

    def result(self, values: Any, render: Callable[[], None]) -> None:
        """Print a command's result: ``values`` as one JSON line with ``--json``, otherwise by calling ``render``."""
        self._progress.stop()
        if self.as_json:
            sys.stdout.write(json.dumps(values, allow_nan=False, default=str) + "\n")
        else:
            render()

    def line(self, text: str) -> None:
        """Print one line of a result on stdout."""
        self._out.print(escape(text))

    def text(self, text: str) -> None:
        """Print text on stdout unchanged, without wrapping."""
        sys.stdout.write(text)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table of results on stdout. Columns of numbers are right-aligned."""
        rows = [[_cell(value) for value in row] for row in rows]
        table = Table(
            title=escape(title) if title else None, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for index, column in enumerate(columns):
            numeric = all(_numeric(row[index]) for row in rows) and bool(rows)
            table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _numeric(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "").replace("-", "").replace("%", "").isdigit()
