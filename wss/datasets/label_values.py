"""Analysis of the values in all label files of a data set: their likely meaning if they are not class indices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import colour_map
from wss.datasets.files import FileSource, label_out_of_range
from wss.datasets.finding import Finding
from wss.datasets.source import Catalogue, Source
from wss.datasets.value_map import written
from wss.labels import UNLABELLED

Counts = NDArray[np.int64]
What = Literal["masks", "scribbles"]

MISREAD = ("binary-masks", "stretched-labels", "unlabelled-as-class")
"""Codes of findings that mean that the labels of all files are not class indices."""

_DRAWN = (".json", ".xml", ".txt", ".csv")
"""Files with outlines or strokes. Their labels are drawn, so they store no values."""

_NO_PAIRS: Counts = np.zeros((0, 3), np.int64)
_FULL = 0.9
"""A scribble that labels at least this fraction of the pixels counts as full. Real scribbles cover a few per cent."""
_NEARLY_ALL = 0.7
"""If one class has more than this fraction of the pixels, it is assumed to mean unlabelled. Only used without masks."""
_MOST = 0.5
_MISSED = 0.1
"""Fraction of the other classes' pixels that a scribble labels wrongly if the class means unlabelled. Full masks agree better."""


class StoredLabels:
    """Values of one label file, after the options of the data set. The object is small, because there is one per file.

    Args:
        image_id: The image.
        file: The file, or None.
        counts: int64 (256,), number of pixels per value.
        pairs: int64 (N, 3), see ``label_pairs``; empty if there is no mask to compare with.
    """

    __slots__ = ("_counts", "_pairs", "_values", "file", "image_id")

    def __init__(self, image_id: str, file: Path | None, counts: Counts, pairs: Counts = _NO_PAIRS) -> None:
        self.image_id, self.file = image_id, file
        values = np.flatnonzero(counts)
        self._values = values.astype(np.uint8).tobytes()
        self._counts = counts[values].astype(np.int64).tobytes()
        self._pairs = pairs.astype(np.int64).tobytes()

    @property
    def counts(self) -> Counts:
        """int64 (256,), pixels per value."""
        counts = np.zeros(256, np.int64)
        counts[np.frombuffer(self._values, np.uint8)] = np.frombuffer(self._counts, np.int64)
        return counts

    @property
    def pairs(self) -> Counts:
        """int64 (N, 3), see ``label_pairs``."""
        return np.frombuffer(self._pairs, np.int64).reshape(-1, 3)


def label_pairs(scribble: NDArray[np.uint8] | None, mask: NDArray[np.uint8] | None) -> Counts:
    """Scribble label, mask label and number of pixels, int64 (N, 3), where both are labelled."""
    if scribble is None or mask is None or scribble.shape != mask.shape:
        return _NO_PAIRS
    both = (scribble != UNLABELLED) & (mask != UNLABELLED)
    table = np.bincount(scribble[both].astype(np.int64) * 256 + mask[both], minlength=65536)
    codes = np.flatnonzero(table)
    return np.stack([codes // 256, codes % 256, table[codes]], axis=1)


def stores_values(file: Path | None) -> bool:
    """True if a file is a label image, so that data-set options can declare the meaning of its values."""
    return file is not None and file.suffix.lower() not in _DRAWN


def declared_values(source: Source) -> tuple[frozenset[int], frozenset[int]]:
    """Stored values of masks and of scribbles whose meaning is declared by the options of a data set."""
    if not isinstance(source, FileSource):
        return frozenset(), frozenset()
    options = source.options
    masks, scribbles = (dict(values) for values in (options.mask_values, options.scribble_values))
    return frozenset(masks).union(options.ignore), frozenset(scribbles).union(options.ignore)


def set_option(what: What, values: Mapping[int, int]) -> str:
    """Instruction for declaring the meaning of stored values."""
    return f"set {what.removesuffix('s')}_values: {written(values)} below dataset in wss.yaml"


def mask_values(labels: Sequence[StoredLabels], catalogue: Catalogue, declared: Collection[int] = ()) -> list[Finding]:
    """Findings about values of masks: values that are not class indices, or 255 for an object.

    Args:
        labels: Values of every mask.
        catalogue: The data set.
        declared: Stored values whose meaning the data set's options declare.
    """
    return [*_two_values(labels, catalogue, declared), *_no_classes("masks", labels, catalogue)]


def scribble_values(
    labels: Sequence[StoredLabels], catalogue: Catalogue, declared: Collection[int] = ()
) -> list[Finding]:
    """Findings about values of scribbles: values that are not class indices, or a class for unlabelled pixels.

    Args:
        labels: Values of every scribble that is a label image.
        catalogue: The data set.
        declared: Stored values whose meaning the data set's options declare.
    """
    findings = _unlabelled_as_class(labels, catalogue, declared)
    if any(finding.severity == "error" for finding in findings):
        return findings  # this finding also explains values that are not classes
    return findings + _no_classes("scribbles", labels, catalogue)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _present(labels: Iterable[StoredLabels]) -> list[int]:
    total = sum((stored.counts for stored in labels), np.zeros(256, np.int64))
    return [int(value) for value in np.flatnonzero(total)]


def _two_values(labels: Sequence[StoredLabels], catalogue: Catalogue, declared: Collection[int]) -> list[Finding]:
    """Finding for masks that hold only 0 and 255, although 255 means void."""
    names = catalogue.classes
    if len(names) < 2 or UNLABELLED in declared or _present(labels) != [0, UNLABELLED]:
        return []
    first = next(stored for stored in labels if stored.counts[UNLABELLED])
    message = (
        f"the masks hold only 0 and {UNLABELLED}, and {UNLABELLED} is void: {', '.join(names[1:])} would never be "
        "learned or scored"
    )
    remedy = (
        f"if {UNLABELLED} is {names[1]}, {set_option('masks', {0: 0, UNLABELLED: 1})}; if it is really void, "
        f"{set_option('masks', {UNLABELLED: UNLABELLED})}"
    )
    return [Finding("error", "binary-masks", first.image_id, first.file, message, remedy, len(labels))]


def _no_classes(what: What, labels: Sequence[StoredLabels], catalogue: Catalogue) -> list[Finding]:
    """Findings for files with values that are not classes: one common explanation if possible, else one finding per file."""
    count = len(catalogue.classes)
    wrong = [stored for stored in labels if stored.counts[count:UNLABELLED].any()]
    if not wrong:
        return []
    present = _present(wrong)
    first, values = wrong[0], [value for value in present if value != UNLABELLED]
    outside = [value for value in values if value >= count]
    listed = _listed(values)
    if outside != [UNLABELLED - 1] and (greys := _greys(values, catalogue)) is not None:
        message = f"labels {_listed([v for v in values if v])} look like colours of the palette saved as grey"
        remedy = "save class indices: an indexed PNG must be written with its indices, not converted to grey"
        remedy += f"; or {set_option(what, greys)}" if greys else ""
        return [Finding("error", "grey-rendering", first.image_id, first.file, message, remedy, len(wrong))]
    if (steps := _steps(present, count)) is not None:
        message = f"the {what} hold the values {listed}: class indices with their contrast stretched, it seems"
        meant = ", ".join(catalogue.classes[label] for _, label in sorted(steps.items()))
        remedy = (
            f"if they stand for {meant}, {set_option(what, steps)}; if not, give each value the class it stands for"
        )
        if UNLABELLED in steps:
            unset = {value: label for value, label in steps.items() if value != UNLABELLED}
            remedy += f"; if {UNLABELLED} is unlabelled or void, {set_option(what, unset)}"
        if outside == [UNLABELLED - 1]:
            remedy += f"; if {UNLABELLED - 1} is unlabelled or void, set ignore: [{UNLABELLED - 1}] there"
        return [Finding("error", "stretched-labels", first.image_id, first.file, message, remedy, len(wrong))]
    if outside == [count]:
        shifted = _shifted(count)
        message = f"holds label {count}, but the {count} classes are 0 to {count - 1} and {UNLABELLED} is unlabelled"
        remedy = (
            f"if a class is missing in the class list, such as background as the first, add it; if 0 is unlabelled and the "
            f"classes count from 1, {set_option(what, shifted)}; if {count} is unlabelled, "
            f"{set_option(what, {count: UNLABELLED})}"
        )
        return [Finding("error", "label-range", first.image_id, first.file, message, remedy, len(wrong))]
    return [finding for stored in wrong for finding in _each(stored, count)]


def _each(stored: StoredLabels, count: int) -> list[Finding]:
    values = [int(value) for value in np.flatnonzero(stored.counts) if count <= value < UNLABELLED]
    others = [value for value in values if value != UNLABELLED - 1]
    told = [UNLABELLED - 1] * (UNLABELLED - 1 in values) + others[-1:]
    file = stored.file or Path(stored.image_id)
    return [label_out_of_range(file, value, count, stored=True).finding(stored.image_id) for value in told]


def _greys(values: Sequence[int], catalogue: Catalogue) -> dict[int, int] | None:
    """The class by grey value, if all values except 0 are grey values of one palette; empty if two classes share a grey value."""
    count = len(catalogue.classes)
    for palette in (catalogue.palette, colour_map(count)):
        greys = [int(grey) for grey in (palette.astype(np.int64) @ np.array([19595, 38470, 7471]) + 32768) >> 16]
        if set(values) - {0} <= set(greys[1:]):
            unique = len(set(greys)) == len(greys)
            return {value: greys.index(value) for value in values if value} if unique else {}
    return None


def _steps(present: Sequence[int], count: int) -> dict[int, int] | None:
    """The class by value, if the values are multiples of one number, such as 0, 85 and 170; else None."""
    if count > 2:  # the 8-bit range divided into equal steps, rounded up or down
        whole = {value: round(value * (count - 1) / 255) for value in present}
        if all(abs(value - label * 255 / (count - 1)) < 1 for value, label in whole.items()):
            return whole
    values = [value for value in present if value != UNLABELLED]
    step = gcd(*values)
    if step > 1 and max(values) // step < count:
        return {value: value // step for value in values}
    return None


def _shifted(count: int) -> dict[int, int]:
    """Table for classes that count from 1, with 0 for unlabelled."""
    return {0: UNLABELLED, **{label + 1: label for label in range(count)}}


def _unlabelled_as_class(
    labels: Sequence[StoredLabels], catalogue: Catalogue, declared: Collection[int]
) -> list[Finding]:
    """Findings for scribbles that label all pixels, nearly all with one class: unlabelled pixels are painted as this class."""
    tops = {stored.image_id: int(stored.counts[:UNLABELLED].argmax()) for stored in labels}
    suspects = [stored for stored in labels if _suspicious(stored, tops[stored.image_id])]
    if not suspects:
        return []
    usual = [tops[stored.image_id] for stored in suspects]
    top = max(set(usual), key=usual.count)
    suspects = [stored for stored in suspects if tops[stored.image_id] == top]
    if top in declared:
        return []
    names = catalogue.classes
    name = f"{top} ({names[top]})" if top < len(names) else str(top)
    first = suspects[0]
    pixels = sum(int(stored.counts.sum()) for stored in suspects)
    share = sum(int(stored.counts[top]) for stored in suspects) / pixels
    about = (
        f"nearly every pixel is labelled, {share:.0%} of them as {name}; pixels without scribble seem to be painted as "
        f"{top}, where {UNLABELLED} is the code for unlabelled"
    )
    if len(suspects) < _MOST * len(labels):
        message = f"{about}, unlike in the other scribbles"
        remedy = f"paint {UNLABELLED} where nothing is scribbled, as in the other files"
        return [Finding("warning", "full-scribble", s.image_id, s.file, message, remedy) for s in suspects]
    message = f"in {len(suspects)} of {len(labels)} scribbles {about}"
    return [
        Finding(
            "error",
            "unlabelled-as-class",
            first.image_id,
            first.file,
            message,
            _unlabelled_remedy(top, _present(suspects), names),
            len(suspects),
        )
    ]


def _suspicious(stored: StoredLabels, top: int) -> bool:
    """True if one class seems to mean unlabelled, judged by the class shares and by the mask if there is one."""
    total = stored.counts.sum()
    if not total or total - stored.counts[UNLABELLED] < _FULL * total:
        return False
    if not len(stored.pairs):
        return bool(stored.counts[top] >= _NEARLY_ALL * total)
    elsewhere = stored.pairs[stored.pairs[:, 1] != top]
    return bool(elsewhere[elsewhere[:, 0] == top, 2].sum() > _MISSED * elsewhere[:, 2].sum())


def _unlabelled_remedy(top: int, present: Sequence[int], names: Sequence[str]) -> str:
    count = len(names)
    strokes = [value for value in present if value != top and value != UNLABELLED]
    if top == 0 and UNLABELLED in present and (not strokes or max(strokes) >= count):
        strokes.append(UNLABELLED)  # white strokes on black
    table = {top: UNLABELLED}
    if top == 0 and strokes and max(strokes) == count:
        table = _shifted(count)
    elif strokes and max(strokes) >= count and len(strokes) in (count, count - 1):
        table |= {value: label + count - len(strokes) for label, value in enumerate(strokes)}
    remedy = f"if {top} is unlabelled, {set_option('scribbles', table)}"
    if top < count and top not in table.values():
        free = next(value for value in range(count, UNLABELLED) if value not in present)
        remedy += (
            f"; scribbles of {names[top]} that are painted as {top}, too, cannot be told from it: paint them as {free}, and "
            f"{set_option('scribbles', {**table, free: top})}"
        )
    if top < count:
        remedy += f"; if really every pixel is labelled, {set_option('scribbles', {top: top})}"
    return remedy
