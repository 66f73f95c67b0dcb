"""DensePose-COCO: people with masks of body parts, and a point on each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.datasets.cards import load_card
from wss.datasets.coco_instances import Instances, find_folder, image_file, read_instances
from wss.datasets.files import Entry, FileSource, ReadOptions, Scribble
from wss.datasets.finding import FileProblem
from wss.datasets.source import Catalogue
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke

_FILES = {"train": "train", "val": "minival", "valminusminival": "valminusminival"}
"""Split by the name of its annotation file."""


class DenseposeOptions(ReadOptions):
    """Options of kind ``densepose``.

    Attributes:
        points: ``centre``: one point per person and part, at the pixel of the part that is nearest to its centre of mass.
            ``annotated``: the points for which annotators marked correspondences, about a hundred per person.
        point_std: Standard deviation of the Gaussian around a point, as a fraction of the person's size (square root of the area
            of the box). The width of the point is twice this value. For a standing person, most pixels are within a third of the
            size from the centre of their part: with 0.03, `halo: 10` leaves these pixels unlabelled.
    """

    points: Literal["centre", "annotated"] = "centre"
    point_std: float = Field(default=0.03, gt=0, le=1)


class DenseposeSource(FileSource):
    """DensePose-COCO as described in the card ``densepose``: 14 body parts and background.

    Masks are the parts of annotated people; smaller people are drawn over larger ones. Pixels that only people without part
    annotation cover are void, because they are neither background nor a known part. Points are strokes of one point.

    Source: Gueler, Neverova and Kokkinos 2018, "DensePose: Dense Human Pose Estimation In The Wild", arXiv:1802.00434; Ke,
        Hwang and Yu 2021, section 4 and appendix A.3, for points in the centre of parts and Gaussians around them.
    Differs: Ke et al. also derive the standard deviation from the size of an instance, but publish no numbers.
    """

    options: DenseposeOptions
    version = 3

    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""
        card = load_card("densepose")
        self.part_of: Sequence[int] = card.facts["part_of_chart"]
        self.instances: dict[str, Instances] = {}
        self.entries, self.notes = {}, []
        splits: dict[str, tuple[str, ...]] = {}
        for split, name in _FILES.items():
            file = f"densepose_coco_2014_{name}.json"
            path = next((p for p in (self.root / "annotations" / file, self.root / file) if p.is_file()), None)
            if path is None:
                continue
            instances = read_instances(path)
            archive = "train2014" if split == "train" else "val2014"
            folder = find_folder([self.root / archive, self.root / "images" / archive, self.root / "images"], instances)
            for image_id, (image, _, _) in instances.images.items():
                if image_id in self.instances:
                    message = f"names image {image_id!r}, which {self.instances[image_id].path.name} has too"
                    raise FileProblem("split-overlap", path, message, "download the annotation files again")
                self.instances[image_id] = instances
                self.entries[image_id] = Entry(image_file(folder, image), path, path)
            splits[split] = tuple(instances.images)
        if not splits:
            raise DataError(
                f"{self.root}: no annotation file densepose_coco_2014_train.json, neither here nor in annotations/; see the "
                "card data/densepose.yaml for where to get it"
            )
        self.catalogue = Catalogue("densepose", card.classes, card.colours, splits, background=card.background)

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """The parts of all annotated people; None if there is no annotated person."""
        instances, people, others = self._people(image_id)
        if not people:
            return None
        _, height, width = instances.images[image_id]
        mask = np.zeros((height, width), np.uint8)
        for row in others:
            mask[instances.region(row, (height, width))] = UNLABELLED
            if (unknown := instances.vague(row, (height, width))) is not None:
                mask[unknown] = UNLABELLED
        for row in people:
            x, y, wide, high = instances.box(row)
            parts = self._parts(instances, row)
            down, inside_rows = _cells(y, high, height)
            right, inside_columns = _cells(x, wide, width)
            there = parts[np.ix_(down, right)]
            window = mask[inside_rows, inside_columns]
            window[there > 0] = there[there > 0]
        return mask

    def load_scribble(self, image_id: str) -> Scribble:
        """The points of all annotated people, as strokes of one point; None if there is no annotated person."""
        instances, people, _ = self._people(image_id)
        strokes: list[Stroke] = []
        for row in people:
            x, y, wide, high = instances.box(row)
            width = max(1, round(2 * self.options.point_std * (wide * high) ** 0.5))
            for label, across, down in self._points(instances, row):
                place = (x + across * wide - 0.5, y + down * high - 0.5)  # the centre of the first pixel is 0
                strokes.append(Stroke(label, np.array([place], np.float64), width))
        return tuple(strokes) if people else None

    def _people(self, image_id: str) -> tuple[Instances, list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """The annotation file, the people with annotated parts (larger ones first), and the other people."""
        self.entry(image_id)
        instances = self.instances[image_id]
        rows = instances.annotations[image_id]
        people = [row for row in rows if row.get("dp_masks")]
        people.sort(key=lambda row: -instances.box(row)[2] * instances.box(row)[3])
        return instances, people, [row for row in rows if not row.get("dp_masks")]

    def _parts(self, instances: Instances, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """Parts on the grid of a person's box, uint8 (256, 256), 0 = no part."""
        masks = row["dp_masks"]
        count = len(self.catalogue.classes) - 1
        if not isinstance(masks, list) or len(masks) != count:
            raise instances.problem(row, f"has no {count} masks of parts in dp_masks")
        parts = np.zeros((256, 256), np.uint8)
        for label, encoded in enumerate(masks, 1):
            if encoded:
                there = instances.rle(row, encoded, f"mask of part {label}")
                if there.shape != parts.shape:
                    raise instances.problem(row, f"has a mask of part {label} of {there.shape}, expected {parts.shape}")
                parts[there] = label
        return parts

    def _points(self, instances: Instances, row: Mapping[str, Any]) -> list[tuple[int, float, float]]:
        """Part index of each point, and its horizontal and vertical position in the person's box, in 0..1."""
        if self.options.points == "annotated":
            try:
                charts = np.array(row["dp_I"], np.float64).astype(np.int64)
                places = np.array([row["dp_x"], row["dp_y"]], np.float64) / 255
            except (KeyError, TypeError, ValueError):
                raise instances.problem(row, "has no lists dp_I, dp_x and dp_y of equal length") from None
            if places.shape != (2, len(charts)) or not np.isfinite(places).all():
                raise instances.problem(row, "has no lists dp_I, dp_x and dp_y of equal length")
            if ((charts < 1) | (charts > len(self.part_of))).any():
                raise instances.problem(row, f"has a point in dp_I on no part from 1 to {len(self.part_of)}")
            return [(self.part_of[chart - 1], float(x), float(y)) for chart, x, y in zip(charts, *places, strict=True)]
        parts = self._parts(instances, row)
        points = []
        for label in np.unique(parts[parts > 0]):
            cells = np.argwhere(parts == label)
            y, x = cells[((cells - cells.mean(0)) ** 2).sum(1).argmin()]
            points.append((int(label), (x + 0.5) / 256, (y + 0.5) / 256))
        return points


def _cells(start: float, extent: float, size: int) -> tuple[NDArray[np.intp], slice]:
    """The pixels whose centres are inside a box (as a slice), and for each of them its cell, out of 256 cells of the box."""
    first, last = max(0, int(np.ceil(start - 0.5))), min(size, int(np.ceil(start + extent - 0.5)))
    pixels = np.arange(first, max(first, last))
    return np.clip(((pixels + 0.5 - start) * 256 / extent).astype(np.intp), 0, 255), slice(first, max(first, last))
