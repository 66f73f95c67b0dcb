"""A whole report for its template: rows, cards, curves, pictures and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.viz.error_map import VOID_COLOUR as ERROR_MAP_VOID
from wss.viz.error_map import WRONG_COLOUR, error_map
from wss.viz.figures import Series, confusion_figure, line_chart, row_shares
from wss.viz.overlays import box_overlay, overlay, scribble_overlay
from wss.viz.palette import distinct_palette
from wss.viz.report_data import Gap, Picture, Report
from wss.viz.run import Run
from wss.viz.study import featured
from wss.viz.study_view import StudyView, series_styles
from wss.viz.thumbnails import Thumbnail, thumbnail
from wss.viz.wording import CURVE_TITLES, percent

_NO_CURVES = frozenset({"step", "epoch", "phase", "seconds", "seconds_per_step"})


_PICTURE_BUDGET = 3_500_000
"""Maximum number of characters of all pictures together. The rest of the page is much smaller."""


MOST_RUNS = 8
"""Maximum number of runs that are shown one by one. Tables of studies always contain all runs."""


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


class ReportPage:
    """Values for the template, computed from the report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        names = featured(report.runs, report.studies, MOST_RUNS)
        bounds = [run for run in report.runs if run.is_upper_bound]
        # Runs that are shown one by one get their styles first, so that these styles are different.
        styles = series_styles(
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
        """True if a run can be compared with an upper bound."""
        return any(row.wvf is not None for row in self.rows)

    @cached_property
    def scored(self) -> list[_Row]:
        """Rows of runs with scores."""
        return [row for row in self.rows if row.run.metrics]

    @cached_property
    def cards(self) -> list[_Row]:
        """Rows with scores that are shown one by one."""
        return [row for row in self.shown if row.run.metrics]

    @cached_property
    def unscored(self) -> dict[str, list[str]]:
        """Names of runs, by the message about images that were not scored."""
        names_by_message: dict[str, list[str]] = {}
        for row in self.rows:
            if row.run.metrics.get("left_out"):
                names_by_message.setdefault(row.run.metrics["left_out"], []).append(row.run.name)
        return names_by_message

    def gaps(self, section: str) -> list[Gap]:
        """The missing parts of a section."""
        return [gap for gap in self.report.gaps if gap.section == section]

    @cached_property
    def studies(self) -> list[StudyView]:
        """Studies of the report, for the template."""
        return [StudyView(study) for study in self.report.studies]

    @cached_property
    def headlines(self) -> list[_Row]:
        """The weakly supervised runs that get a sentence: all of them if there are few, else the best."""
        weak = [row for row in self.rows if not row.run.is_upper_bound and row.run.miou is not None]
        return weak if len(weak) <= 4 else [max(weak, key=lambda row: row.run.miou or 0.0)]

    @cached_property
    def by_class(self) -> list[_Row]:
        """Rows with an IoU for each class."""
        return [row for row in self.shown if row.run.metrics.get("iou_per_class")]

    @cached_property
    def volume_rows(self) -> list[_Row]:
        """Rows with a Dice for each class."""
        return [row for row in self.shown if row.run.metrics.get("dice_per_class")]

    @cached_property
    def volume_classes(self) -> list[str]:
        """Classes with a Dice, in their order."""
        known = {name for row in self.volume_rows for name in row.run.metrics["dice_per_class"]}
        return [name for name in self.report.classes if name in known]

    @cached_property
    def charts(self) -> list[tuple[str, Markup]]:
        """Titles and charts of training curves."""
        names = dict.fromkeys(name for row in self.shown for name in row.run.curves)
        order = [name for name in CURVE_TITLES if name in names]
        order += [name for name in names if name not in CURVE_TITLES and name not in _NO_CURVES]
        charts = []
        for name in order:
            title = CURVE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))
            series = [Series(row.run.name, row.run.curves.get(name, ()), row.style) for row in self.shown]
            svg = line_chart(title, series, percent="miou" in name)
            if svg:
                charts.append((title, Markup(svg)))
        return charts

    @cached_property
    def confusions(self) -> list[tuple[_Row, Markup, list[tuple[str, str, float, float]]]]:
        """Rows with their confusion matrix and its largest errors."""
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
        """True if a picture has a truth and predictions to compare."""
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
                counted = picture.truth != UNLABELLED
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
        """Names and colours of the classes."""
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


_Painted = tuple[str, str, NDArray[np.uint8]]
"""Caption, text alternative and picture."""


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
