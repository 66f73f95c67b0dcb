"""The data of a report: runs, tables, pictures and notes, as its callers give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.viz.run import Run
from wss.viz.study import Study


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


def check_report(report: Report) -> None:
    """Raise ``UsageError`` if the parts of a report do not fit together."""
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
