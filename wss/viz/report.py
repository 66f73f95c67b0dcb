"""The report: one self-contained HTML page about a data set, the runs trained on it, and their predictions."""

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
"""Maximum number of characters of all pictures together. The rest of the page is much smaller."""
MOST_RUNS = 8
"""Maximum number of runs that are shown one by one. Tables of studies always contain all runs."""
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
        title: Common heading.
        tiles: Captions and pictures, uint8 (H, W, 3), RGB.
    """

    title: str
    tiles: Sequence[tuple[str, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Picture:
    """One image with its annotation and the predictions of the runs.

    Attributes:
        image_id: Name of the image.
        image: uint8 (H, W, 3), RGB.
        rank: Reason for the choice, for example ``best``, ``median`` or ``worst``. Pictures of equal rank are grouped.
        scribble: Integers (H, W), 255 = unlabelled, or None.
        truth: Integers (H, W), 255 = void, or None.
        predictions: Integers (H, W), by name of the run.
        scores: mIoU on this image as a fraction, by name of the run.
        galleries: Further pictures.
        boxes: Integers (N, 5), rows ``class, x0, y0, x1, y1``, from which the labels in ``scribble`` were made, or None.
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
    """Summary of the training data.

    Attributes:
        name: Name of the data set.
        splits: Number of images by split.
        coverage: Labelled fraction of the training pixels, or None if unknown.
        label_pixels: Labelled training pixels by class name.
        truth_pixels: Pixels of the dense masks by class name.
        facts: Other facts, for example the rate by which strokes were shortened.
    """

    name: str
    splits: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    label_pixels: Mapping[str, int] = field(default_factory=dict)
    truth_pixels: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One artifact from which the scores were computed.

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
        rows: For each row, a name and then fractions in 0..1.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Section = Literal["studies", "labels", "pictures"]


@dataclass(frozen=True)
class Gap:
    """A part of the report that is missing.

    Attributes:
        section: Section of the page that would contain it.
        title: Its title.
        reason: Reason why it is missing.
    """

    section: Section
    title: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Content of the page. Sections whose content is empty or None are left out.

    Attributes:
        title: Heading of the page.
        classes: K names by index.
        runs: Runs in the order of the page. If there are more than ``MOST_RUNS``, only the leading ones are shown one by one,
            see ``featured``.
        palette: uint8 (K, 3), RGB; None uses ``distinct_palette``.
        background: A class that is not painted over images, or None.
        subtitle: A line below the heading.
        summary: A paragraph before the scores.
        studies: Tables over factors that a study varies.
        labels: Records of ``wss.metrics.label_record``: scores of made labels against masks.
        tables: Other measurements of stages.
        pictures: Example images.
        gaps: Missing parts. Each is reported in its section.
        data: Summary of the data set.
        provenance: The artifacts from which the scores were computed, in order.
        environment: Versions, device and seed, by name.
        created: Time of creation, as text.
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
    """Render the page as HTML that needs no other files, no network and no scripts.

    Raises:
        UsageError: Run names repeat, a picture names an unknown run, or sizes do not fit together.
        DataError: A label has no class.
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
    """Format a fraction as a percentage, ``61.2%``; a dash if undefined."""
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}%"


def _number(value: float | None, digits: int = 1) -> str:
    return "\u2013" if value is None else f"{value:,.{digits}f}"


def _points(difference: float) -> str:
    """Format a difference of fractions in percentage points, with its sign."""
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
    """A run, prepared for the page."""

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
    """A picture, prepared for the page: tiles of the data, galleries, and then tiles of each run."""

    picture: Picture
    data: Sequence[_Tile]
    galleries: Sequence[tuple[str, Sequence[_Tile]]]
    runs: Sequence[tuple[_Row, Sequence[_Tile]]]

    @property
    def groups(self) -> list[Sequence[_Tile]]:
        return [self.data, *(tiles for _, tiles in self.galleries), *(tiles for _, tiles in self.runs)]


class _Page:
    """Values for the template, computed from the report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        names = featured(report.runs, report.studies, MOST_RUNS)
        bounds = [run for run in report.runs if run.is_upper_bound]
        # Runs that are shown one by one get their styles first, so that these styles are different.
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
        """Names of runs, by the message about images that were not scored."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if row.run.metrics.get("left_out"):
                found.setdefault(row.run.metrics["left_out"], []).append(row.run.name)
        return found

    def gaps(self, section: str) -> list[Gap]:
        """The missing parts of a section."""
        return [gap for gap in self.report.gaps if gap.section == section]

    @cached_property
    def studies(self) -> list[_StudyView]:
        return [_StudyView(study) for study in self.report.studies]

    @cached_property
    def headlines(self) -> list[_Row]:
        """The weakly supervised runs that get a sentence: all of them if there are few, else the best."""
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
        """Examples by rank. Pictures are made just small enough for the size limit of the page."""
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
        """Number of tiles side by side on a wide screen: the largest number of any example, within limits of visibility."""
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
        """Name, colour, fraction of the labelled pixels and fraction of the true pixels of each class."""
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
    """Values for the template about a study."""

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


_Painted = tuple[str, str, NDArray[np.uint8]]
"""Caption, text alternative and picture."""


def _styles(bounds: Mapping[str, bool]) -> dict[str, int]:
    """Styles by name. Upper bounds get the last, neutral styles, so that coloured lines are weakly supervised runs."""
    weak = [name for name, bound in bounds.items() if not bound]
    full = [name for name, bound in bounds.items() if bound]
    styles = {name: index % (SERIES_STYLES - 2) for index, name in enumerate(weak)}
    return styles | {name: SERIES_STYLES - 1 - index % 2 for index, name in enumerate(full)}


def value_title(name: str) -> str:
    """Title of a value of a metrics record or a training log."""
    return _VALUE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))


def _tile(side: int, caption: str, alt: str, image: NDArray[np.uint8]) -> _Tile:
    return _Tile(caption, alt, thumbnail(image, side))


def _bound(run: Run, bounds: Sequence[Run]) -> Run | None:
    """The upper bound to compare a run with: same network, most factors in common, same use of a CRF. None if there is none."""

    def nearness(bound: Run) -> tuple[bool, int, bool]:
        shared = sum(bound.factors.get(factor) == level for factor, level in run.factors.items())
        return bound.metrics.get("backbone") == run.metrics.get("backbone"), shared, bound.crf == run.crf

    return max(bounds, key=nearness, default=None)


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _frequent_errors(
    confusion: NDArray[Any], classes: Sequence[str], count: int = 8
) -> list[tuple[str, str, float, float]]:
    """Most frequent errors first: true class, predicted class, fraction of all errors, fraction of the true class."""
    wrong = np.asarray(confusion, np.float64).copy()
    np.fill_diagonal(wrong, 0)
    total, shares = wrong.sum(), row_shares(confusion)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(index), len(classes)) for index in order]
    return [(classes[i], classes[j], wrong[i, j] / total, shares[i, j]) for i, j in pairs if wrong[i, j] > 0]
