"""The report: one self-contained HTML page about a data set, the runs trained on it, and what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.viz.error_map import VOID_COLOUR as ERROR_MAP_VOID
from wss.viz.error_map import WRONG_COLOUR, error_map
from wss.viz.figures import SERIES_STYLES, Series, confusion_figure, line_chart, row_shares
from wss.viz.overlays import overlay, scribble_overlay
from wss.viz.palette import distinct_palette
from wss.viz.thumbnails import Thumbnail, thumbnail

_CURVE_TITLES = {"loss": "Loss", "val_miou": "Validation mIoU", "lr": "Learning rate"}
_NO_CURVES = frozenset({"step", "epoch", "phase", "seconds"})
_PICTURE_BUDGET = 3_500_000
"""Characters all pictures together may take; the page around them is much smaller."""


@dataclass(frozen=True)
class Run:
    """One trained network and its scores.

    Attributes:
        name: Short and unique in the report.
        method: Name of the training method.
        supervision: What it was trained on, for example ``scribbles`` or ``dense masks``.
        metrics: As in ``metrics.json``; missing entries are shown as undefined.
        is_upper_bound: Trained on dense masks: what other runs are compared with.
        confusion: Integers (K, K), truth in rows, or None.
        curves: (step, value) pairs by name; names with ``miou`` hold fractions. Values that are None are skipped.
        details: Anything else worth keeping, for example the training parameters; may be nested.
    """

    name: str
    method: str
    supervision: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    is_upper_bound: bool = False
    confusion: NDArray[Any] | None = None
    curves: Mapping[str, Sequence[tuple[float, float | None]]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def miou(self) -> float | None:
        """Mean IoU as a fraction; None when undefined."""
        return self.metrics.get("miou")

    @property
    def crf(self) -> bool:
        """Whether a CRF refined the predictions."""
        return bool(self.metrics.get("crf", False))


@dataclass(frozen=True)
class Picture:
    """One image with its annotation and what the runs predict for it.

    Attributes:
        image_id: Its name.
        image: uint8 (H, W, 3), RGB.
        rank: Why it was chosen: ``best``, ``median`` or ``worst``; pictures of equal rank stand together.
        scribble: Integers (H, W), 255 = unlabelled, or None.
        truth: Integers (H, W), 255 = void, or None.
        predictions: Integers (H, W) by the name of the run.
        scores: mIoU on this image, a fraction, by the name of the run.
    """

    image_id: str
    image: NDArray[np.uint8]
    rank: str = ""
    scribble: NDArray[Any] | None = None
    truth: NDArray[Any] | None = None
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    scores: Mapping[str, float | None] = field(default_factory=dict)


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
class Report:
    """Everything on the page. What is empty or None leaves its section out.

    Attributes:
        title: Heading of the page.
        classes: K names by index.
        runs: In the order in which they are shown.
        palette: uint8 (K, 3), RGB; None takes colours of our own.
        background: A class that is left unpainted over images, or None.
        subtitle: A line under the heading.
        summary: A paragraph, before the scores.
        pictures: Examples.
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
    pictures: Sequence[Picture] = ()
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
    _check(report)
    templates = files("wss.viz") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": _number, "count_of": _count_of, "css": _css_colour}
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
        return sizes + (" + mirrored" if self.run.metrics.get("flip") else "")


@dataclass(frozen=True)
class _Tile:
    caption: str
    alt: str
    picture: Thumbnail


@dataclass(frozen=True)
class _Example:
    """A picture as the page shows it: tiles that belong to the data, then those of each run."""

    picture: Picture
    data: Sequence[_Tile]
    runs: Sequence[tuple[_Row, Sequence[_Tile]]]


class _Page:
    """What the template asks for, worked out from the report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        weak = [run for run in report.runs if not run.is_upper_bound]
        bounds = [run for run in report.runs if run.is_upper_bound]
        # Upper bounds take the last, neutral styles, so that colour says which runs are the weakly supervised ones.
        styles = {run.name: index % (SERIES_STYLES - 2) for index, run in enumerate(weak)}
        styles |= {run.name: SERIES_STYLES - 1 - index % 2 for index, run in enumerate(bounds)}
        self.rows = [
            _Row(run, styles[run.name], None if run.is_upper_bound else _bound(run, bounds)) for run in report.runs
        ]
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
    def headlines(self) -> list[_Row]:
        """The weakly supervised runs that get a sentence: all of them when they are few, else the best."""
        weak = [row for row in self.rows if not row.run.is_upper_bound and row.run.miou is not None]
        return weak if len(weak) <= 4 else [max(weak, key=lambda row: row.run.miou or 0.0)]

    @cached_property
    def by_class(self) -> list[_Row]:
        return [row for row in self.rows if row.run.metrics.get("iou_per_class")]

    @cached_property
    def volume_rows(self) -> list[_Row]:
        return [row for row in self.rows if row.run.metrics.get("dice_per_class")]

    @cached_property
    def volume_classes(self) -> list[str]:
        known = {name for row in self.volume_rows for name in row.run.metrics["dice_per_class"]}
        return [name for name in self.report.classes if name in known]

    @cached_property
    def charts(self) -> list[tuple[str, Markup]]:
        names = dict.fromkeys(name for row in self.rows for name in row.run.curves)
        order = [name for name in _CURVE_TITLES if name in names]
        order += [name for name in names if name not in _CURVE_TITLES and name not in _NO_CURVES]
        charts = []
        for name in order:
            title = _CURVE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))
            series = [Series(row.run.name, row.run.curves.get(name, ()), row.style) for row in self.rows]
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
            for row in self.rows
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
                    [(row, [_tile(side, *tile) for tile in tiles]) for row, tiles in runs],
                )
                for picture, data, runs in painted
            ]
            tiles = [
                tile for example in shrunk for group in (example.data, *(t for _, t in example.runs)) for tile in group
            ]
            if sum(len(tile.picture.uri) for tile in tiles) <= _PICTURE_BUDGET:
                break
        return [(rank, [example for example in shrunk if example.picture.rank == rank]) for rank in order]

    @cached_property
    def columns(self) -> int:
        """Tiles side by side on a wide screen: as many as the fullest example has, within what is well seen."""
        counts = [len(e.data) + sum(len(tiles) for _, tiles in e.runs) for _, group in self.examples for e in group]
        return min(7, max(5, *counts))

    @property
    def has_errors(self) -> bool:
        return any(picture.truth is not None and picture.predictions for picture in self.report.pictures)

    def _paint(self, picture: Picture) -> tuple[list[_Painted], list[tuple[_Row, list[_Painted]]]]:
        name, image, palette, unpainted = picture.image_id, picture.image, self.palette, self.report.background
        data: list[_Painted] = [("Image", f"Image {name}", image)]
        if picture.scribble is not None:
            painted = scribble_overlay(image, picture.scribble, palette)
            data.append(("Scribbles", f"Scribbles on {name}: {self._spoken(picture.scribble)}", painted))
        if picture.truth is not None:
            painted = overlay(image, picture.truth, palette, unpainted=unpainted)
            data.append(("Truth", f"True classes of {name}: {self._spoken(picture.truth)}", painted))
        runs = []
        for row in self.rows:
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
        return data, runs

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


_Painted = tuple[str, str, NDArray[np.uint8]]
"""Caption, text alternative and picture."""


def _tile(side: int, caption: str, alt: str, image: NDArray[np.uint8]) -> _Tile:
    return _Tile(caption, alt, thumbnail(image, side))


def _bound(run: Run, bounds: Sequence[Run]) -> Run | None:
    """The upper bound to compare with: one with the same use of a CRF if there is any."""
    return next((bound for bound in bounds if bound.crf == run.crf), bounds[0] if bounds else None)


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
