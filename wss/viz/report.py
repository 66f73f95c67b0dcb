"""The report: one self-contained HTML page about a data set, the runs trained on it, and what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.viz.error_map import VOID_COLOUR as ERROR_MAP_VOID
from wss.viz.error_map import WRONG_COLOUR, error_map
from wss.viz.figures import SERIES_STYLES, Series, confusion_figure, factor_chart, line_chart, row_shares
from wss.viz.overlays import box_overlay, overlay, scribble_overlay
from wss.viz.palette import distinct_palette
from wss.viz.run import Run
from wss.viz.study import FRACTIONS, Cell, Column, Study, featured, level_text
from wss.viz.thumbnails import Thumbnail, thumbnail

_CURVE_TITLES = {
    "loss": "Loss",
    "val_miou": "Validation mIoU",
    "train_miou": "mIoU on training images",
    "lr": "Learning rate",
}
_NO_CURVES = frozenset({"step", "epoch", "phase", "seconds", "seconds_per_step"})
_PICTURE_BUDGET = 3_500_000
"""Characters all pictures together may take; the page around them is much smaller."""
MOST_RUNS = 8
"""Of more runs, only the leading ones are shown one by one; tables of studies have them all."""
_VALUE_TITLES = {
    "miou": "mIoU",
    "val_miou": "Validation mIoU",
    "train_miou": "mIoU on training images",
    "iou_per_class": "Mean IoU",
    "dice_per_class": "Mean Dice",
    "hd95_per_class": "Mean HD95",
    "trimap_miou": "mIoU near boundaries",
    "trimap_accuracy": "Accuracy near boundaries",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "ce": "Cross-entropy loss",
    "pce": "Partial cross-entropy",
    "ncut": "NC loss",
    "densecrf": "CRF loss",
    "kernelcut": "KC loss",
    "seconds_per_step": "Seconds per step",
}


@dataclass(frozen=True)
class Gallery:
    """Pictures that a stage made of an image.

    Attributes:
        title: What they have in common.
        tiles: Captions and pictures, uint8 (H, W, 3), RGB.
    """

    title: str
    tiles: Sequence[tuple[str, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Picture:
    """One image with its annotation and what the runs predict for it.

    Attributes:
        image_id: Its name.
        image: uint8 (H, W, 3), RGB.
        rank: Why it was chosen, for example ``best``, ``median`` or ``worst``; pictures of equal rank stand together.
        scribble: Integers (H, W), 255 = unlabelled, or None.
        truth: Integers (H, W), 255 = void, or None.
        predictions: Integers (H, W) by the name of the run.
        scores: mIoU on this image, a fraction, by the name of the run.
        galleries: Further pictures.
        boxes: Integers (N, 5), rows ``class, x0, y0, x1, y1``, that the labels in ``scribble`` come from, or None.
    """

    image_id: str
    image: NDArray[np.uint8]
    rank: str = ""
    scribble: NDArray[Any] | None = None
    truth: NDArray[Any] | None = None
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    scores: Mapping[str, float | None] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    boxes: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class DataSummary:
    """What was there to train on.

    Attributes:
        name: Name of the data set.
        splits: Number of images by split.
        coverage: Share of the training pixels that carry a label, a fraction, or None when unknown.
        label_pixels: Labelled training pixels by class name.
        truth_pixels: Pixels of the dense masks by class name.
        facts: Anything else, for example the rate by which strokes were shortened.
    """

    name: str
    splits: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    label_pixels: Mapping[str, int] = field(default_factory=dict)
    truth_pixels: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One artifact on the way to the scores.

    Attributes:
        stage: Name of the stage.
        key: Key of its store.
        details: Parameters, inputs, seed, versions, device, time; may be nested.
    """

    stage: str
    key: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Numbers that a stage measured.

    Attributes:
        title: Heading.
        text: A paragraph below it.
        columns: Headings of the columns.
        rows: A name, then shares in 0..1, for each row.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Section = Literal["studies", "labels", "pictures"]


@dataclass(frozen=True)
class Gap:
    """Something that a stage left out.

    Attributes:
        section: Where on the page it would stand.
        title: What it would be called.
        reason: Why it is not there.
    """

    section: Section
    title: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything on the page. What is empty or None leaves its section out.

    Attributes:
        title: Heading of the page.
        classes: K names by index.
        runs: In the order in which they are shown. Of more than ``MOST_RUNS`` the leading ones are, see ``featured``.
        palette: uint8 (K, 3), RGB; None takes colours of our own.
        background: A class that is left unpainted over images, or None.
        subtitle: A line under the heading.
        summary: A paragraph, before the scores.
        studies: Tables over factors that were varied.
        labels: Records of ``wss.metrics.label_record``: made labels against masks.
        tables: What stages measured besides scores.
        pictures: Examples.
        gaps: What was left out; each is told in the section in which it would stand.
        data: About the data set.
        provenance: The artifacts behind the scores, in order.
        environment: Versions, device and seed of the whole, by name.
        created: When, as it should be read.
    """

    title: str
    classes: Sequence[str]
    runs: Sequence[Run] = ()
    palette: NDArray[np.uint8] | None = None
    background: int | None = None
    subtitle: str = ""
    summary: str = ""
    studies: Sequence[Study] = ()
    labels: Sequence[Mapping[str, Any]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    gaps: Sequence[Gap] = ()
    data: DataSummary | None = None
    provenance: Sequence[Step] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""


def render_report(report: Report) -> str:
    """Render the page: HTML that needs no other file, no network and no script.

    Raises:
        UsageError: Run names repeat, a picture names an unknown run, or sizes do not fit together.
        DataError: A label without a class.
    """
    from jinja2 import Environment, StrictUndefined

    _check(report)
    templates = files("wss.viz") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "number": _number,
        "count_of": _count_of,
        "points": _points,
        "level": level_text,
        "css": _css_colour,
    }
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        report=report,
        style=Markup((templates / "report.css").read_text(encoding="utf-8")),
        page=_Page(report),
    )
    return page.lstrip()


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as people read it, ``61.2%``; a dash when undefined."""
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}%"


def _number(value: float | None, digits: int = 1) -> str:
    return "\u2013" if value is None else f"{value:,.{digits}f}"


def _points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "\u2212") if rounded else "0.0"


def _count_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _css_colour(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in colour))


def _check(report: Report) -> None:
    names = [run.name for run in report.runs]
    if len(set(names)) != len(names):
        raise UsageError(f"expected a different name for every run, got {names}")
    if len(set(report.classes)) != len(report.classes):
        raise UsageError(f"expected different class names, got {list(report.classes)}")
    if report.palette is not None and len(report.palette) != len(report.classes):
        raise UsageError(f"{len(report.classes)} classes, but {len(report.palette)} colours")
    for run in report.runs:
        if run.confusion is not None and run.confusion.shape != (len(report.classes),) * 2:
            raise UsageError(
                f"run {run.name!r}: expected a confusion matrix of {len(report.classes)} classes, "
                f"got shape {run.confusion.shape}"
            )
    for picture in report.pictures:
        unknown = sorted({*picture.predictions, *picture.scores} - set(names))
        if unknown:
            raise UsageError(f"picture {picture.image_id!r}: no run is called {unknown[0]!r}; runs: {', '.join(names)}")


@dataclass(frozen=True)
class _Row:
    """A run as the page shows it."""

    run: Run
    style: int
    bound: Run | None

    @property
    def wvf(self) -> float | None:
        return _over(self.run.miou, self.bound.miou) if self.bound else None

    def wvf_of(self, name: str) -> float | None:
        """Weak / full IoU of one class."""
        return _over(self.iou(name), self.bound.metrics.get("iou_per_class", {}).get(name)) if self.bound else None

    def iou(self, name: str) -> float | None:
        value: float | None = self.run.metrics.get("iou_per_class", {}).get(name)
        return value

    def volume(self, score: str, name: str) -> float | None:
        value: float | None = self.run.metrics.get(score, {}).get(name)
        return value

    @property
    def test_time(self) -> str:
        scales = self.run.metrics.get("scales")
        if not scales:
            return "\u2013"
        sizes = "single scale" if len(scales) == 1 else "scales " + ", ".join(f"{s:g}" for s in scales)
        if len(scales) == 1 and scales[0] != 1:
            sizes = f"scale {scales[0]:g}"
        return sizes + (" + mirrored" if self.run.metrics.get("flip") else "") + (" + walk" if self.run.walk else "")


@dataclass(frozen=True)
class _Tile:
    caption: str
    alt: str
    picture: Thumbnail


@dataclass(frozen=True)
class _Example:
    """A picture as the page shows it: tiles that belong to the data, galleries, then those of each run."""

    picture: Picture
    data: Sequence[_Tile]
    galleries: Sequence[tuple[str, Sequence[_Tile]]]
    runs: Sequence[tuple[_Row, Sequence[_Tile]]]

    @property
    def groups(self) -> list[Sequence[_Tile]]:
        return [self.data, *(tiles for _, tiles in self.galleries), *(tiles for _, tiles in self.runs)]


class _Page:
    """What the template asks for, worked out from the report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        names = featured(report.runs, report.studies, MOST_RUNS)
        bounds = [run for run in report.runs if run.is_upper_bound]
        # Styles are dealt to the runs that are shown one by one first, so that these differ.
        styles = _styles(
            {run.name: run.is_upper_bound for run in sorted(report.runs, key=lambda r: r.name not in names)}
        )
        self.rows = [
            _Row(run, styles[run.name], None if run.is_upper_bound else _bound(run, bounds)) for run in report.runs
        ]
        self.shown = [row for row in self.rows if row.run.name in names]
        self.is_selection = len(self.shown) < len(self.rows)
        own = distinct_palette(len(report.classes), report.background)
        self.palette: NDArray[np.uint8] = own if report.palette is None else report.palette
        self.wrong, self.void = WRONG_COLOUR, ERROR_MAP_VOID

    @cached_property
    def has_wvf(self) -> bool:
        return any(row.wvf is not None for row in self.rows)

    @cached_property
    def scored(self) -> list[_Row]:
        return [row for row in self.rows if row.run.metrics]

    @cached_property
    def cards(self) -> list[_Row]:
        return [row for row in self.shown if row.run.metrics]

    @cached_property
    def unscored(self) -> dict[str, list[str]]:
        """Names of runs by what was left out of their scores."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if row.run.metrics.get("left_out"):
                found.setdefault(row.run.metrics["left_out"], []).append(row.run.name)
        return found

    def gaps(self, section: str) -> list[Gap]:
        """Note on what a section leaves out."""
        return [gap for gap in self.report.gaps if gap.section == section]

    @cached_property
    def studies(self) -> list[_StudyView]:
        return [_StudyView(study) for study in self.report.studies]

    @cached_property
    def headlines(self) -> list[_Row]:
        """The weakly supervised runs that get a sentence: all of them when they are few, else the best."""
        weak = [row for row in self.rows if not row.run.is_upper_bound and row.run.miou is not None]
        return weak if len(weak) <= 4 else [max(weak, key=lambda row: row.run.miou or 0.0)]

    @cached_property
    def by_class(self) -> list[_Row]:
        return [row for row in self.shown if row.run.metrics.get("iou_per_class")]

    @cached_property
    def volume_rows(self) -> list[_Row]:
        return [row for row in self.shown if row.run.metrics.get("dice_per_class")]

    @cached_property
    def volume_classes(self) -> list[str]:
        known = {name for row in self.volume_rows for name in row.run.metrics["dice_per_class"]}
        return [name for name in self.report.classes if name in known]

    @cached_property
    def charts(self) -> list[tuple[str, Markup]]:
        names = dict.fromkeys(name for row in self.shown for name in row.run.curves)
        order = [name for name in _CURVE_TITLES if name in names]
        order += [name for name in names if name not in _CURVE_TITLES and name not in _NO_CURVES]
        charts = []
        for name in order:
            title = _CURVE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))
            series = [Series(row.run.name, row.run.curves.get(name, ()), row.style) for row in self.shown]
            svg = line_chart(title, series, percent="miou" in name)
            if svg:
                charts.append((title, Markup(svg)))
        return charts

    @cached_property
    def confusions(self) -> list[tuple[_Row, Markup, list[tuple[str, str, float, float]]]]:
        return [
            (
                row,
                Markup(confusion_figure(row.run.confusion, self.report.classes, row.run.name)),
                _frequent_errors(row.run.confusion, self.report.classes),
            )
            for row in self.shown
            if row.run.confusion is not None and row.run.confusion.sum() > 0
        ]

    @cached_property
    def examples(self) -> list[tuple[str, list[_Example]]]:
        """Examples by rank, their pictures just small enough that all fit into the page."""
        ranks = dict.fromkeys(picture.rank for picture in self.report.pictures)
        known = ("best", "median", "worst")
        order = sorted(ranks, key=lambda rank: known.index(rank) if rank in known else len(known))
        painted = [(picture, *self._paint(picture)) for picture in self.report.pictures]
        for side in (360, 280, 220, 160, 110):
            shrunk = [
                _Example(
                    picture,
                    [_tile(side, *tile) for tile in data],
                    [(title, [_tile(side, *tile) for tile in tiles]) for title, tiles in galleries],
                    [(row, [_tile(side, *tile) for tile in tiles]) for row, tiles in runs],
                )
                for picture, data, galleries, runs in painted
            ]
            tiles = [tile for example in shrunk for group in example.groups for tile in group]
            if sum(len(tile.picture.uri) for tile in tiles) <= _PICTURE_BUDGET:
                break
        return [(rank, [example for example in shrunk if example.picture.rank == rank]) for rank in order]

    @cached_property
    def columns(self) -> int:
        """Tiles side by side on a wide screen: as many as the fullest example has, within what is well seen."""
        counts = [sum(len(tiles) for tiles in e.groups) for _, group in self.examples for e in group]
        return min(7, max(5, *counts))

    @property
    def has_errors(self) -> bool:
        return any(picture.truth is not None and picture.predictions for picture in self.report.pictures)

    def _paint(
        self, picture: Picture
    ) -> tuple[list[_Painted], list[tuple[str, list[_Painted]]], list[tuple[_Row, list[_Painted]]]]:
        name, image, palette, unpainted = picture.image_id, picture.image, self.palette, self.report.background
        data: list[_Painted] = [("Image", f"Image {name}", image)]
        if picture.scribble is not None and picture.boxes is not None:
            painted = box_overlay(image, picture.scribble, picture.boxes, palette, background=unpainted)
            data.append(("Boxes", f"Boxes on {name}: {self._spoken(picture.boxes[:, 0])}", painted))
        elif picture.scribble is not None:
            painted = scribble_overlay(image, picture.scribble, palette)
            data.append(("Scribbles", f"Scribbles on {name}: {self._spoken(picture.scribble)}", painted))
        if picture.truth is not None:
            painted = overlay(image, picture.truth, palette, unpainted=unpainted)
            data.append(("Truth", f"True classes of {name}: {self._spoken(picture.truth)}", painted))
        galleries: list[tuple[str, list[_Painted]]] = [
            (g.title, [(caption, f"{caption}, {name}: {g.title}", tile) for caption, tile in g.tiles])
            for g in picture.galleries
        ]
        runs = []
        for row in self.shown:
            labels = picture.predictions.get(row.run.name)
            if labels is None:
                continue
            painted = overlay(image, labels, palette, unpainted=unpainted)
            alt = f"Classes of {name} predicted by {row.run.name}: {self._spoken(labels)}"
            tiles: list[_Painted] = [("Prediction", alt, painted)]
            if picture.truth is not None:
                counted = picture.truth != 255
                wrong = float((picture.truth != labels)[counted].mean()) if counted.any() else 0.0
                alt = f"Errors of {row.run.name} on {name}: {percent(wrong)} of the pixels are wrong"
                tiles.append(("Errors", alt, error_map(image, picture.truth, labels)))
            runs.append((row, tiles))
        return data, galleries, runs

    def _spoken(self, labels: NDArray[Any]) -> str:
        present = [self.report.classes[k] for k in np.unique(labels) if k < len(self.report.classes)]
        return ", ".join(present) if present else "none"

    @cached_property
    def legend(self) -> list[tuple[str, Sequence[int]]]:
        return list(zip(self.report.classes, self.palette.tolist(), strict=True))

    @cached_property
    def class_shares(self) -> list[tuple[str, Sequence[int], float | None, float | None]]:
        """Name, colour, share of the labelled pixels and share of the true pixels of each class."""
        data = self.report.data
        if data is None or not (data.label_pixels or data.truth_pixels):
            return []
        labelled, true = sum(data.label_pixels.values()), sum(data.truth_pixels.values())
        return [
            (
                name,
                colour,
                _over(data.label_pixels.get(name, 0), labelled),
                _over(data.truth_pixels.get(name, 0), true),
            )
            for name, colour in self.legend
        ]


class _StudyView:
    """What the template asks for about a study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.axis = study.row_factor.replace("_", " ")
        self.flags = {column.crf for column in study.columns if column.crf is not None}
        self.values = list(dict.fromkeys(column.value for column in study.columns))
        bounds = {level_text(column.level): column.is_upper_bound for column in study.columns}
        self._styles = _styles(bounds)
        self.cells = [cell for row in study.rows for cell in row.cells]

    @cached_property
    def heads(self) -> list[tuple[str, bool, int]]:
        """Name of each level of the column factor, whether it is an upper bound, and how many columns it has."""
        levels = dict.fromkeys((column.level, column.is_upper_bound) for column in self.study.columns)
        numeric = all(isinstance(level, float | int) for level, _ in levels)
        prefix = f"{(self.study.column_factor or '').replace('_', ' ')} " if numeric else ""
        return [
            (prefix + level_text(level), bound, sum(column.level == level for column in self.study.columns))
            for level, bound in levels
        ]

    @cached_property
    def begins(self) -> list[bool]:
        """Of each column, whether it is the first of its level."""
        levels = [column.level for column in self.study.columns]
        return [index == 0 or level != levels[index - 1] for index, level in enumerate(levels)]

    @property
    def full(self) -> bool:
        """Whether there is full supervision that belongs to no row."""
        return any(self.study.full)

    @property
    def has_subheads(self) -> bool:
        """Whether columns of one level have to be told apart."""
        return self.study.column_factor is None or any(span > 1 for *_, span in self.heads)

    def subhead(self, column: Column) -> str:
        crf = ("+ CRF" if column.crf else "plain") if len(self.flags) > 1 and column.crf is not None else ""
        if len(self.values) == 1 and self.study.column_factor is not None:
            return crf
        return " ".join(part for part in (value_title(column.value), "" if crf == "plain" else crf) if part)

    def drop(self, cell: Cell) -> str:
        if cell.drop is None:
            return ""
        arrow = "\u2191" if cell.drop < 0 else "\u2193"
        return f"{arrow}\u2009{100 * abs(cell.drop):.1f}%"

    def text(self, cell: Cell, column: Column) -> str:
        if column.value in FRACTIONS:
            return percent(cell.mean)
        size = abs(cell.mean)
        return f"{cell.mean:.{3 if size < 1 else 2 if size < 10 else 1}f}"

    def spread(self, cell: Cell, column: Column) -> str:
        if cell.spread is None:
            return ""
        return f"\u00b1 {100 * cell.spread:.1f}" if column.value in FRACTIONS else f"\u00b1 {cell.spread:.2g}"

    @cached_property
    def counts(self) -> set[int]:
        return {cell.count for cell in self.cells if cell}

    @cached_property
    def notes(self) -> list[str]:
        """What has to be known to read the table."""
        notes = []
        if len(self.values) == 1 and self.study.column_factor is not None:
            notes.append(f"Values are {value_title(self.values[0])}.")
        if self.counts == {max(self.counts)} != {1}:
            notes.append(f"Means over {max(self.counts)} runs each \u00b1 sample standard deviation.")
        elif self.counts != {1}:
            notes.append("Means over as many runs as n says \u00b1 sample standard deviation.")
        if any(cell and cell.offset is not None for cell in self.cells):
            notes.append("In parentheses: percentage points from full supervision, that is, training on dense masks.")
        if self.study.baseline is not None:
            place = f"{self.axis} {level_text(self.study.baseline)}"
            notes.append(f"\u2193: the share of the value at {place} that is lost; \u2191: gained.")
        if any(column.crf is None for column in self.study.columns):
            notes.append("Losses are those of the last epoch of training.")
        if not all(self.cells):
            notes.append("A dash: no such run.")
        return notes

    @cached_property
    def charts(self) -> list[tuple[str, Markup, list[Series]]]:
        """A chart for each value over the numbers in rows, with its lines where there are several."""
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


_Painted = tuple[str, str, NDArray[np.uint8]]
"""Caption, text alternative and picture."""


def _styles(bounds: Mapping[str, bool]) -> dict[str, int]:
    """Styles by name; upper bounds take the last, neutral ones, so that colour says which are weakly supervised."""
    weak = [name for name, bound in bounds.items() if not bound]
    full = [name for name, bound in bounds.items() if bound]
    styles = {name: index % (SERIES_STYLES - 2) for index, name in enumerate(weak)}
    return styles | {name: SERIES_STYLES - 1 - index % 2 for index, name in enumerate(full)}


def value_title(name: str) -> str:
    """What a value of a record or of a training log is called."""
    return _VALUE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))


def _tile(side: int, caption: str, alt: str, image: NDArray[np.uint8]) -> _Tile:
    return _Tile(caption, alt, thumbnail(image, side))


def _bound(run: Run, bounds: Sequence[Run]) -> Run | None:
    """The upper bound to compare with: of the same network, with most factors in common, with the same use of a CRF."""

    def nearness(bound: Run) -> tuple[bool, int, bool]:
        shared = sum(bound.factors.get(factor) == level for factor, level in run.factors.items())
        return bound.metrics.get("backbone") == run.metrics.get("backbone"), shared, bound.crf == run.crf

    return max(bounds, key=nearness, default=None)


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _frequent_errors(
    confusion: NDArray[Any], classes: Sequence[str], count: int = 8
) -> list[tuple[str, str, float, float]]:
    """True class, predicted class, share of all errors, share of the true class; the most frequent first."""
    wrong = np.asarray(confusion, np.float64).copy()
    np.fill_diagonal(wrong, 0)
    total, shares = wrong.sum(), row_shares(confusion)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(index), len(classes)) for index in order]
    return [(classes[i], classes[j], wrong[i, j] / total, shares[i, j]) for i, j in pairs if wrong[i, j] > 0]
