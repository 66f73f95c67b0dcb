"""A study: one table with the scores of many runs over the varied factors."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wss.errors import UsageError
from wss.params import nearest
from wss.viz.run import Level, Run

FRACTIONS = frozenset(
    {
        "miou",
        "pixel_accuracy",
        "mean_accuracy",
        "frequency_weighted_iou",
        "iou_per_class",
        "dice_per_class",
        "trimap_miou",
        "trimap_accuracy",
        "val_miou",
        "train_miou",
    }
)
"""Values in 0..1 for which larger is better. They are shown as percentages and compared with a baseline and full supervision."""

_Source = Literal["metrics", "log"]
_Key = tuple[Level, Level | None]


@dataclass(frozen=True)
class Cell:
    """One value, averaged over runs that differ only in averaged factors.

    Attributes:
        mean: Mean over the runs.
        spread: Sample standard deviation; None for one run.
        count: Number of runs with the value.
        offset: Mean minus the mean of full supervision; None if there is nothing to compare with.
        drop: Relative loss compared with the mean of the baseline; None without a baseline.
    """

    mean: float
    spread: float | None = None
    count: int = 1
    offset: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        level: Level of the column factor; None if the study has no column factor.
        value: Name of the shown value.
        crf: True if a CRF refined the predictions; None for values of the training log, which are from before any CRF.
        is_upper_bound: True if its runs, unlike others, were trained on dense masks.
    """

    level: Level | None
    value: str
    crf: bool | None
    is_upper_bound: bool


@dataclass(frozen=True)
class Row:
    """One row of the table: a level of the row factor, with a cell or None for every column."""

    level: Level
    is_upper_bound: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Study:
    """A table over one or two factors.

    Attributes:
        title: Heading.
        text: A paragraph below it.
        row_factor: Name of the factor in rows.
        column_factor: Name of the factor in columns, or None.
        columns: Columns from left to right.
        rows: Rows from top to bottom.
        full: For every column, the cell of full supervision without a level of the row factor, or None.
        baseline: The row level to which drops refer, or None.
        leading: Names of the best run of each column level, or of each row level if there is no column factor.
    """

    title: str
    text: str
    row_factor: str
    column_factor: str | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    full: tuple[Cell | None, ...]
    baseline: Level | None
    leading: tuple[str, ...]

    @property
    def is_numeric(self) -> bool:
        """True if the row levels are numbers, so that lines can be drawn over them."""
        return len(self.rows) > 1 and _numeric([row.level for row in self.rows])


def tabulate(
    runs: Sequence[Run],
    *,
    title: str,
    rows: str,
    columns: str | None = None,
    values: Sequence[str] = ("miou",),
    baseline: Level | None = None,
    where: Mapping[str, Level] | None = None,
    average: Sequence[str] = ("seed",),
    text: str = "",
) -> Study:
    """Put runs into a table.

    A run is in the table if it has the factors of rows and columns and the levels of ``where``. An upper bound may lack the
    factors of ``where``. Runs of one cell are averaged. If there are runs with and without a CRF, they get separate columns. A
    run on dense masks without a level of the row factor, and without factors that the other runs lack, is compared with all rows.

    Args:
        runs: All runs of a report.
        title: Heading.
        rows: Factor in the rows. Numbers are sorted; names keep the order of the runs, with upper bounds last.
        columns: Factor in the columns, or None.
        values: Entries of the metrics record (means of entries by class), or columns of the training log's last epoch.
        baseline: A level of the row factor. Drops relative to it are given for values for which larger is better.
        where: Required levels of other factors.
        average: Factors in which runs of one cell may differ, in addition to the training seed.
        text: A paragraph below the heading.

    Raises:
        UsageError: No run is in the table or has a value; a value or the baseline is unknown; or runs of a cell differ in a
            factor that is not averaged.
    """
    where, name = where or {}, f"study {title!r}"
    entered = [run for run in runs if rows in run.factors and (columns is None or columns in run.factors)]
    entered = [run for run in entered if _fits(run, where)]
    if not entered:
        wanted = ", ".join([rows, *([columns] if columns else []), *(f"{f} {v}" for f, v in where.items())])
        known = sorted({f for run in runs for f in run.factors})
        raise UsageError(f"{name}: no run has the factors {wanted}; runs have: {', '.join(known) or 'no factors'}")
    cells = _Cells(name, rows, columns, entered, runs, where, average)
    sources = {value: _source(name, value, entered) for value in values}
    if baseline is not None and baseline not in cells.rows:
        raise UsageError(
            f"{name}: no run has the baseline's {rows} {baseline!r}{nearest(baseline, map(str, cells.rows))}"
        )
    flags: list[bool | None] = [*sorted({run.crf for run in entered})]
    heads = [
        Column(level, value, crf, level in cells.bound_columns)
        for level in cells.columns
        for value in values
        for crf in (flags if sources[value] == "metrics" else [None])
    ]
    table = {
        row: [cells.cell((row, head.level), head, sources[head.value], baseline) for head in heads]
        for row in cells.rows
    }
    shown = [index for index in range(len(heads)) if any(line[index] for line in table.values())]
    if not shown:
        raise UsageError(f"{name}: no run has a value of {', '.join(values)}")
    return Study(
        title,
        text,
        rows,
        columns,
        tuple(heads[index] for index in shown),
        tuple(Row(row, row in cells.bound_rows, tuple(line[i] for i in shown)) for row, line in table.items()),
        tuple(cells.full(heads[i].level, heads[i], sources[heads[i].value]) for i in shown),
        baseline,
        cells.leading(values[0]),
    )


class _Cells:
    """The runs of a study by row and column."""

    def __init__(
        self,
        name: str,
        rows: str,
        columns: str | None,
        entered: Sequence[Run],
        runs: Sequence[Run],
        where: Mapping[str, Level],
        average: Sequence[str],
    ) -> None:
        self.groups: dict[_Key, list[Run]] = {}
        for run in entered:
            self.groups.setdefault((run.factors[rows], run.factors[columns] if columns else None), []).append(run)
        passed_over = {rows, columns, *average}
        for (row, column), group in self.groups.items():
            place = f"{rows} {level_text(row)}" + (f" and {columns} {level_text(column)}" if columns else "")
            _check_alike(f"{name}: runs of {place}", group, passed_over)
        some_weak = not all(run.is_upper_bound for run in entered)
        self.bound_rows = {row for row, _ in self.groups if some_weak and self._bound(row, 0)}
        self.bound_columns = {c for _, c in self.groups if some_weak and columns and self._bound(c, 1)}
        self.rows = [row for row in _ordered([row for row, _ in self.groups], self.bound_rows) if row is not None]
        self.columns = _ordered([column for _, column in self.groups], self.bound_columns)
        known = {factor for run in entered for factor in run.factors}
        self.outside: dict[Level | None, list[Run]] = {}
        for run in runs:
            belongs = run.is_upper_bound and rows not in run.factors and known.issuperset(run.factors)
            if some_weak and belongs and _fits(run, where):
                self.outside.setdefault(run.factors.get(columns) if columns else None, []).append(run)
        for group in self.outside.values():
            _check_alike(f"{name}: runs of full supervision", group, passed_over)

    def _bound(self, level: Level | None, place: int) -> bool:
        return all(run.is_upper_bound for key, group in self.groups.items() if key[place] == level for run in group)

    def cell(self, key: _Key, head: Column, source: _Source, baseline: Level | None) -> Cell | None:
        cell = _average(self.groups.get(key, []), head, source)
        if cell is None or head.value not in FRACTIONS:
            return cell
        full, base = self._full(key, head, source), None
        if baseline is not None and key[0] not in {baseline, *self.bound_rows}:
            base = _average(self.groups.get((baseline, key[1]), []), head, source)
        return Cell(
            cell.mean,
            cell.spread,
            cell.count,
            offset=cell.mean - full.mean if full else None,
            drop=(base.mean - cell.mean) / base.mean if base and base.mean else None,
        )

    def _full(self, key: _Key, head: Column, source: _Source) -> Cell | None:
        """The cell of full supervision to compare a cell with: in its row, in its column, or outside the table."""
        row, column = key
        if row in self.bound_rows or column in self.bound_columns:
            return None
        beside = [(row, c) for c in self.columns if c in self.bound_columns]
        beside += [(r, column) for r in self.rows if r in self.bound_rows]
        cells = (_average(self.groups.get(k, []), head, source) for k in beside)
        return next((cell for cell in cells if cell), None) or self.full(column, head, source)

    def full(self, column: Level | None, head: Column, source: _Source) -> Cell | None:
        """The cell of full supervision without a level of the row factor: of this column, or else the only one."""
        if column in self.bound_columns or head.value not in FRACTIONS:
            return None
        only = next(iter(self.outside.values())) if len(self.outside) == 1 else []
        return _average(self.outside.get(column, only), head, source)

    def leading(self, value: str) -> tuple[str, ...]:
        """The best run of each column, or of each row if there is one column, and of the full supervision outside the table."""
        by_level: dict[Level | None, list[Run]] = {}
        for (row, column), group in self.groups.items():
            by_level.setdefault(row if self.columns == [None] else column, []).extend(group)
        order = self.rows if self.columns == [None] else self.columns
        groups = [*(by_level[level] for level in order), *self.outside.values()]
        sign = 1 if value in FRACTIONS else -1
        best = []
        for group in groups:
            scored = [(sign * v, run.name) for run in group if (v := _value(run, value)) is not None]
            best += [max(scored, key=lambda pair: pair[0])[1]] if scored else []
        return tuple(best)


def featured(runs: Sequence[Run], studies: Sequence[Study], most: int) -> list[str]:
    """Names of the runs to show one by one: all if there are few, else the leading runs of the studies, else the best runs.

    Args:
        runs: All runs of a report.
        studies: Studies; their leading runs come first.
        most: Maximum number of runs.
    """
    if len(runs) <= most:
        return [run.name for run in runs]
    leading = list(dict.fromkeys(name for study in studies for name in study.leading))
    if not leading:
        best = sorted(runs, key=lambda run: -(run.miou or 0))
        bounds = [run.name for run in best if run.is_upper_bound][:1]
        leading = [run.name for run in best if not run.is_upper_bound][: most - len(bounds)] + bounds
    chosen = set(leading[:most])
    return [run.name for run in runs if run.name in chosen]


def level_text(level: Level | None) -> str:
    """Format a level: ``0.5``, ``1``, ``ncut``."""
    return f"{level:g}" if isinstance(level, float | int) else str(level or "")


def _fits(run: Run, where: Mapping[str, Level]) -> bool:
    """True if a run has these levels. An upper bound may lack factors, such as those of an annotation that it does not use."""
    return all(run.factors.get(f, level if run.is_upper_bound else None) == level for f, level in where.items())


def _numeric(levels: Sequence[Level | None]) -> bool:
    return all(isinstance(level, float | int) for level in levels)


def _ordered(levels: Sequence[Level | None], bounds: set[Level | None] | set[Level]) -> list[Level | None]:
    """Distinct levels: numbers are sorted; names are in order of appearance, with upper bounds last."""
    unique = list(dict.fromkeys(levels))
    if _numeric(unique):
        return sorted(unique, key=lambda level: float(level or 0))
    return sorted(unique, key=lambda level: level in bounds)


def _check_alike(who: str, group: Sequence[Run], passed_over: Collection[str | None]) -> None:
    for factor in sorted({factor for run in group for factor in run.factors}.difference(passed_over)):
        levels = dict.fromkeys(run.factors.get(factor) for run in group)
        if len(levels) > 1:
            shown = ", ".join("none" if level is None else level_text(level) for level in levels)
            raise UsageError(
                f"{who} differ in {factor!r} ({shown}); choose one level of it with `where`, or put it into `average`"
            )


def _source(name: str, value: str, runs: Sequence[Run]) -> _Source:
    """Find the source of a value: the metrics record or the training log."""
    for run in runs:
        if value in run.metrics:
            if not isinstance(run.metrics[value], float | int | Mapping | None) or isinstance(run.metrics[value], bool):
                raise UsageError(f"{name}: {value!r} is not a number, but {run.metrics[value]!r}")
            return "metrics"
    if any(value in run.last_epoch for run in runs):
        return "log"
    numbers = {n for run in runs for n, v in run.metrics.items() if isinstance(v, float | Mapping)}
    raise UsageError(
        f"{name}: no value {value!r}{nearest(value, numbers | {n for run in runs for n in run.last_epoch})}"
    )


def _value(run: Run, name: str) -> float | None:
    value = run.metrics[name] if name in run.metrics else run.last_epoch.get(name)
    if isinstance(value, Mapping):
        known = [float(v) for v in value.values() if v is not None]
        return statistics.fmean(known) if known else None
    return None if value is None else float(value)


def _average(group: Sequence[Run], head: Column, source: _Source) -> Cell | None:
    """The cell of these runs. A training log is the same with and without CRF, so it counts once."""
    if head.crf is not None:
        group = [run for run in group if run.crf == head.crf]
    elif source == "log":
        group = [run for run in group if not run.crf] or group
    values = [v for run in group if (v := _value(run, head.value)) is not None]
    if not values:
        return None
    return Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
