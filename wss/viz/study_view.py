"""A study for the template of the report: its table and its charts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from markupsafe import Markup

from wss.viz.figures import SERIES_STYLES, Series, factor_chart
from wss.viz.study import FRACTIONS, Cell, Column, Study, level_text
from wss.viz.wording import percent, value_title


class StudyView:
    """Values for the template about a study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.axis = study.row_factor.replace("_", " ")
        self.flags = {column.crf for column in study.columns if column.crf is not None}
        self.values = list(dict.fromkeys(column.value for column in study.columns))
        bounds = {level_text(column.level): column.is_upper_bound for column in study.columns}
        self._styles = series_styles(bounds)
        self.cells = [cell for row in study.rows for cell in row.cells]

    @cached_property
    def heads(self) -> list[tuple[str, bool, int]]:
        """For each level of the column factor: its name, True if it is an upper bound, and its number of columns."""
        levels = dict.fromkeys((column.level, column.is_upper_bound) for column in self.study.columns)
        numeric = all(isinstance(level, float | int) for level, _ in levels)
        prefix = f"{(self.study.column_factor or '').replace('_', ' ')} " if numeric else ""
        return [
            (prefix + level_text(level), bound, sum(column.level == level for column in self.study.columns))
            for level, bound in levels
        ]

    @cached_property
    def begins(self) -> list[bool]:
        """For each column, True if it is the first of its level."""
        levels = [column.level for column in self.study.columns]
        return [index == 0 or level != levels[index - 1] for index, level in enumerate(levels)]

    @property
    def full(self) -> bool:
        """True if there is full supervision that belongs to no row."""
        return any(self.study.full)

    @property
    def has_subheads(self) -> bool:
        """True if a level has several columns, which need second headings."""
        return self.study.column_factor is None or any(span > 1 for *_, span in self.heads)

    def subhead(self, column: Column) -> str:
        """Second head of a column: its value, and the CRF."""
        crf = ("+ CRF" if column.crf else "plain") if len(self.flags) > 1 and column.crf is not None else ""
        if len(self.values) == 1 and self.study.column_factor is not None:
            return crf
        return " ".join(part for part in (value_title(column.value), "" if crf == "plain" else crf) if part)

    def drop(self, cell: Cell) -> str:
        """Loss against the baseline of the column, in percent."""
        if cell.drop is None:
            return ""
        arrow = "\u2191" if cell.drop < 0 else "\u2193"
        return f"{arrow}\u2009{100 * abs(cell.drop):.1f}%"

    def text(self, cell: Cell, column: Column) -> str:
        """Mean of a cell as text."""
        if column.value in FRACTIONS:
            return percent(cell.mean)
        size = abs(cell.mean)
        return f"{cell.mean:.{3 if size < 1 else 2 if size < 10 else 1}f}"

    def spread(self, cell: Cell, column: Column) -> str:
        """Standard deviation of a cell as text."""
        if cell.spread is None:
            return ""
        return f"\u00b1 {100 * cell.spread:.1f}" if column.value in FRACTIONS else f"\u00b1 {cell.spread:.2g}"

    @cached_property
    def counts(self) -> set[int]:
        """Numbers of seeds that occur in the cells."""
        return {cell.count for cell in self.cells if cell}

    @cached_property
    def notes(self) -> list[str]:
        """Notes that explain the table."""
        notes = []
        if len(self.values) == 1 and self.study.column_factor is not None:
            notes.append(f"Values are {value_title(self.values[0])}.")
        if self.counts == {max(self.counts)} != {1}:
            notes.append(f"Means over {max(self.counts)} runs each \u00b1 sample standard deviation.")
        elif self.counts != {1}:
            notes.append("Means over n runs \u00b1 sample standard deviation.")
        if any(cell and cell.offset is not None for cell in self.cells):
            notes.append(
                "In parentheses: difference from full supervision (training on dense masks) in percentage points."
            )
        if self.study.baseline is not None:
            place = f"{self.axis} {level_text(self.study.baseline)}"
            notes.append(f"\u2193: relative loss compared with the value at {place}; \u2191: relative gain.")
        if any(column.crf is None for column in self.study.columns):
            notes.append("Losses are from the last epoch of training.")
        if not all(self.cells):
            notes.append("A dash: no such run.")
        return notes

    @cached_property
    def charts(self) -> list[tuple[str, Markup, list[Series]]]:
        """A chart for each value over the numbers in rows, with the lines if there are several."""
        charts = []
        for value in self.values if self.study.is_numeric else []:
            title, lines = value_title(value), [line for v, line in self._lines if v == value]
            svg = factor_chart(title, lines, self.axis, percent=value in FRACTIONS)
            charts += [(title, Markup(svg), lines if len(lines) > 1 else [])] if svg else []
        return charts

    @cached_property
    def _lines(self) -> list[tuple[str, Series]]:
        rows, lines, full = self.study.rows, [], {}
        xs = [float(row.level) for row in rows]
        for index, column in enumerate(self.study.columns):
            cells = [row.cells[index] for row in rows]
            crf = " + CRF" if column.crf and len(self.flags) > 1 else ""
            name = f"{level_text(column.level)}{crf}" if column.level is not None else value_title(column.value) + crf
            style = self._styles[level_text(column.level)]
            points = [(x, cell.mean if cell else None) for x, cell in zip(xs, cells, strict=True)]
            spreads = [cell.spread if cell else None for cell in cells]
            lines.append((column.value, Series(name, points, style, spreads, dashed=bool(crf))))
            beside = self.study.full[index]
            if beside is not None:
                key = (column.value, column.crf, beside.mean)
                points = [(x, beside.mean) for x in (xs[0], xs[-1])]
                full[key] = Series(f"full supervision{crf}", points, SERIES_STYLES - 1, dashed=bool(crf))
        return lines + [(key[0], line) for key, line in full.items()]


def series_styles(bounds: Mapping[str, bool]) -> dict[str, int]:
    """Styles by name. Upper bounds get the last, neutral styles, so that coloured lines are weakly supervised runs."""
    weak = [name for name, bound in bounds.items() if not bound]
    full = [name for name, bound in bounds.items() if bound]
    styles = {name: index % (SERIES_STYLES - 2) for index, name in enumerate(weak)}
    return styles | {name: SERIES_STYLES - 1 - index % 2 for index, name in enumerate(full)}
