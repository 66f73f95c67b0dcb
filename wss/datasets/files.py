"""Common part of all data sets in files: the files of each image, and their conversion to a sample."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.fingerprint import digest_files
from wss.datasets.images import IMAGE_SUFFIXES, LABEL_SUFFIXES, Picture, PixelOptions, read_label, read_picture
from wss.datasets.listing import composed, files_by_stem
from wss.datasets.orientation import orientation, sideways
from wss.datasets.source import Catalogue, Sample
from wss.datasets.strokes_io import STROKE_SUFFIXES, read_polylines, read_xml
from wss.datasets.value_map import ValueMap
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.params import LATER, canonical
from wss.scribbles.strokes import Stroke

Scribble = tuple[Stroke, ...] | NDArray[np.uint8] | None
"""A scribble as strokes, as a raster with 255 for unlabelled, or none."""


class ReadOptions(PixelOptions):
    """Options of every data set in files, in addition to ``PixelOptions``.

    Attributes:
        ignore: Further values in label files that are read as 255 (unlabelled or void), for example ``[254]``, ``[65535]``.
        mask_values: Class index, or 255 for void, by the value stored in mask files, for example ``{0: 0, 255: 1}``. Other values
            are class indices already.
        scribble_values: The same for scribbles that are label images, for example ``{0: 255}`` if 0 is unlabelled.
        rgb_labels: Decode label files with RGB colours through the palette, instead of refusing them.
        painted_on_images: True if scribbles were painted on copies of the pictures in the palette's colours. Pixels of any other
            colour are unlabelled. No class may have a grey colour, because pictures contain grey too.
        scribble_width: Brush width in pixels for scribbles that are polylines.
    """

    ignore: tuple[int, ...] = ()
    mask_values: ValueMap = Field(default=(), json_schema_extra=LATER)
    scribble_values: ValueMap = Field(default=(), json_schema_extra=LATER)
    rgb_labels: bool = False
    painted_on_images: bool = Field(default=False, json_schema_extra=LATER)
    scribble_width: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _one_meaning_for_each_value(self) -> ReadOptions:
        for name, values in (("mask_values", self.mask_values), ("scribble_values", self.scribble_values)):
            for stored, label in values:
                if stored in self.ignore and label != UNLABELLED:
                    raise ValueError(f"{stored} stands in ignore and in {name}; leave it out of one of them")
        return self


@dataclass(frozen=True)
class Entry:
    """The files of one image. The image file may not exist. The other attributes are None if there is no such file.

    Attributes:
        image: File of the image.
        mask: File of the dense labels.
        scribble: File of the strokes or raster.
        objects: File with the boxes of objects.
        boxes: Rows ``class, x0, y0, x1, y1`` from a table of all images.
        tags: Classes in the image from a table of all images.
    """

    image: Path
    mask: Path | None = None
    scribble: Path | None = None
    objects: Path | None = None
    boxes: tuple[tuple[int, int, int, int, int], ...] | None = None
    tags: tuple[int, ...] | None = None


class FileSource(ABC):
    """A data set on disk. Constructing it lists folders and reads lists, but decodes no image.

    Subclasses set the attributes in ``scan``. An instance is pickled as its folder and options, and opened again at most
    once per process, so it is cheap to pass it to many small tasks.

    Args:
        root: The data set's folder.
        options: The reader's options.

    Attributes:
        root: The data set's folder.
        options: The reader's options.
        catalogue: Classes, splits and volumes.
        entries: Files by image id, for all images found or listed.
        notes: Problems found while listing; ``wss.datasets.check`` reports them.

    Raises:
        DataError: The folder is missing, or lists or class names are unusable.
    """

    version = 3
    """Version of the reader. Raise it when equal files give other samples, so that fingerprints change."""

    one_image_per_file: ClassVar[bool] = True
    """False if images are parts of files, such as slices of a volume."""

    catalogue: Catalogue
    entries: Mapping[str, Entry]
    notes: Sequence[Finding]

    def __init__(self, root: Path, options: ReadOptions) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give the data set's root folder")
        self.options = options
        self.scan()
        unmasked = frozenset(i for i, entry in self.entries.items() if entry.mask is None)
        unscribbled = frozenset(i for i, entry in self.entries.items() if entry.scribble is None)
        unboxed = frozenset(i for i, entry in self.entries.items() if entry.objects is None)
        untagged = frozenset(i for i, entry in self.entries.items() if entry.tags is None)
        self.catalogue = replace(
            self.catalogue, unmasked=unmasked, unscribbled=unscribbled, unboxed=unboxed, untagged=untagged
        )

    @abstractmethod
    def scan(self) -> None:
        """Fill in ``catalogue``, ``entries`` and ``notes``."""

    def read(self, image_id: str) -> Sample:
        """Read one image with its annotations.

        Raises:
            DataError: A file is missing, unreadable or breaks a convention; the message names it and the remedy.
        """
        entry = self.entry(image_id)
        image, valid = self.load_picture(image_id)
        mask = self.load_mask(image_id)
        scribble = self.load_scribble(image_id)
        strokes = scribble if isinstance(scribble, tuple) else None
        raster = scribble if isinstance(scribble, np.ndarray) else None
        for file, labels in ((entry.mask, mask), (entry.scribble, raster)):
            if labels is not None:
                self.require_labels(file or entry.image, labels, image.shape[:2], entry.image)
        if valid is not None:
            mask, raster = (
                None if labels is None else np.where(valid, labels, UNLABELLED) for labels in (mask, raster)
            )
        for stroke in strokes or ():
            self.require_class(entry.scribble or entry.image, stroke.label)
        return Sample(
            image_id,
            image,
            mask=mask,
            strokes=strokes,
            scribble=raster,
            tags=entry.tags,
            boxes=self.load_boxes(image_id),
            valid=valid,
        )

    def entry(self, image_id: str) -> Entry:
        """The files of an image.

        Raises:
            DataError: The data set has no such image.
        """
        try:
            return self.entries[image_id]
        except KeyError:
            raise DataError(
                f"{self.root}: no image {image_id!r} among {len(self.entries)}; see `wss data info`"
            ) from None

    def load_image(self, image_id: str) -> NDArray[np.uint8]:
        """Only the image, uint8 (H, W, 3)."""
        return self.load_picture(image_id).rgb

    def load_picture(self, image_id: str) -> Picture:
        """The image, and the mask of pixels with data."""
        return read_picture(self.entry(image_id).image, self.options)

    def load_mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """Only the mask, uint8 (H, W), as in the file after ``ignore`` and ``mask_values``, without checks."""
        path = self.entry(image_id).mask
        return None if path is None else self._label(path, self.options.mask_values)

    def load_scribble(self, image_id: str) -> Scribble:
        """Only the scribble, as in the file after ``ignore`` and ``scribble_values``, without checks."""
        path = self.entry(image_id).scribble
        if path is None:
            return None
        width = self.options.scribble_width
        if path.suffix.lower() == ".xml":
            return read_xml(path, self.labels_by_name(), width=width)
        if path.suffix.lower() == ".txt":
            return read_polylines(path, width=width)
        if self.options.painted_on_images:
            return self._painted(path)
        return self._label(path, self.options.scribble_values)

    def load_boxes(self, image_id: str) -> NDArray[np.int32] | None:
        """Only the boxes, int32 (N, 5), rows ``class, x0, y0, x1, y1`` as in the file; None if the image has no box file."""
        boxes = self.entry(image_id).boxes
        return None if boxes is None else np.array(boxes, np.int32).reshape(-1, 5)

    def labels_by_name(self) -> Mapping[str, int]:
        """Class indices by every accepted spelling of the class names."""
        return {name: index for index, name in enumerate(self.catalogue.classes)}

    def files(self, image_id: str) -> Sequence[Path]:
        """The files that ``read`` opens for this image, existing or not."""
        entry = self.entry(image_id)
        return [
            path for path in dict.fromkeys((entry.image, entry.mask, entry.scribble, entry.objects)) if path is not None
        ]

    def fingerprint(self, cache: Path | None = None) -> str:
        """SHA-256 hex digest of everything that affects the result of ``read``. Equal fingerprints mean equal samples.

        Args:
            cache: File for content hashes by path, size and modification time; it is created if it does not exist.
        """
        catalogue = self.catalogue
        ids = dict.fromkeys(i for split in catalogue.splits.values() for i in split)
        files = [path for image_id in ids for path in self.files(image_id)]
        declared = {
            "reader": [type(self).__name__, self.version],
            "options": canonical(self.options),
            "classes": list(catalogue.classes),
            "palette": catalogue.palette.tolist(),
            "background": catalogue.background,
            "splits": {name: list(split) for name, split in catalogue.splits.items()},
            "volumes": {name: [list(v.ids), v.spacing_mm] for name, v in catalogue.volumes.items()},
        }
        head = json.dumps(declared, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{head}\n{digest_files(files, self.root, cache)}".encode()).hexdigest()

    def require_labels(self, file: Path, labels: NDArray[np.uint8], shape: tuple[int, ...], image: Path) -> None:
        """Check that a label image has the size of its image and holds only classes and 255.

        Args:
            file: The label image's file.
            labels: The label image.
            shape: Height and width of the image.
            image: The image's file.

        Raises:
            DataError: Sizes differ, or a label is not a class.
        """
        if labels.shape != shape:
            raise size_mismatch(file, labels.shape, shape, image)
        for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)):
            if label != UNLABELLED and label >= len(self.catalogue.classes):
                raise label_out_of_range(file, int(label), len(self.catalogue.classes), stored=True)

    def require_class(self, file: Path, label: int) -> None:
        """Check that the label of a stroke is a class index.

        Raises:
            DataError: The label is not a class index.
        """
        count = len(self.catalogue.classes)
        if label >= count:
            raise label_out_of_range(file, label, count)

    def _painted(self, path: Path) -> NDArray[np.uint8]:
        """Read scribbles that were painted on a copy of the picture, uint8 (H, W).

        Raises:
            DataError: A class has a grey colour, so pixels of the picture would count as strokes; or no pixel has the colour of a
                class.
        """
        for name, colour in zip(self.catalogue.classes, self.catalogue.palette.tolist(), strict=True):
            if len(set(colour)) == 1:
                raise FileProblem(
                    "grey-stroke",
                    path,
                    f"class {name!r} has the colour {tuple(colour)}, a grey, which the picture below the strokes has too",
                    "write the colours of the strokes into classes.yaml: a `palette` with one [red, green, blue] for each class",
                )
        values = self.options.scribble_values
        labels = read_label(
            path, palette=self.catalogue.palette, on_picture=True, values=values, page=self.options.page
        )
        if (labels == UNLABELLED).all():
            message = "no pixel has the colour of a class"
            remedy = "compare the strokes' colours with `palette` in classes.yaml; paint with a hard brush"
            raise FileProblem("no-stroke", path, message, remedy)
        return labels

    def _label(self, path: Path, values: ValueMap) -> NDArray[np.uint8]:
        palette = self.catalogue.palette if self.options.rgb_labels else None
        return read_label(path, palette=palette, ignore=self.options.ignore, values=values, page=self.options.page)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.root, self.options, self._listing)

    @cached_property
    def _listing(self) -> str:
        text = repr((self.catalogue.splits, list(self.entries.items())))
        return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=4)
def _reopen(kind: type[FileSource], root: Path, options: ReadOptions, listing: str) -> FileSource:
    """Open a pickled source in another process, once per listing of its files."""
    return kind(root, options)


def size_mismatch(file: Path, found: tuple[int, ...], wanted: tuple[int, ...], image: Path) -> FileProblem:
    """Error for a label image with another size than its image.

    Args:
        file: The label image's file.
        found: Its height and width.
        wanted: Height and width of the image.
        image: The image's file. Its EXIF orientation may be the reason for the difference.
    """
    message = f"{found[1]}x{found[0]} pixels, the image has {wanted[1]}x{wanted[0]}"
    if found != wanted[::-1]:
        return FileProblem("size-mismatch", file, message, "export the labels at the size of the image")
    if sideways(orientation(image)):
        remedy = "the image is turned by its EXIF orientation: turn the labels too, or remove the tag"
        return FileProblem("size-mismatch", file, message, remedy)
    remedy = "transpose the labels (an array saved with x as its first axis), or turn them back by 90 degrees"
    return FileProblem("size-swapped", file, f"height and width are swapped: {message}", remedy)


def label_out_of_range(file: Path, label: int, count: int, *, stored: bool = False) -> FileProblem:
    """Error for a label that is not a class.

    Args:
        file: The file.
        label: The label.
        count: Number of classes.
        stored: True if the file is a label image, so that data-set options can declare its values.
    """
    if label == UNLABELLED - 1 and stored:
        return FileProblem(
            "void-254",
            file,
            f"holds label 254, which is no class and not {UNLABELLED} for unlabelled either",
            "if it means unlabelled, set ignore: [254] below dataset in wss.yaml; else correct the file",
        )
    return FileProblem(
        "label-range",
        file,
        f"holds label {label}, but the {count} classes are 0 to {count - 1} and {UNLABELLED} is unlabelled",
        "correct the file or the class list"
        + (
            "; if the value means unlabelled, add it to the option ignore; if it means a class, say so in the option "
            "mask_values or scribble_values (`wss data check` looks at all files)"
        )
        * stored,
    )


def annotation_files(
    folders: Sequence[Path], suffixes: Sequence[str] = (*STROKE_SUFFIXES, *LABEL_SUFFIXES), ending: str = ""
) -> tuple[dict[str, Path], list[Finding]]:
    """Annotation files of several folders by image name. If folders have files for the same name, the earlier suffix wins.

    Args:
        folders: Folders, existing or not.
        suffixes: Accepted suffixes in order of preference.
        ending: Ending that is removed from file names.
    """
    path_of: dict[str, Path] = {}
    doubtful: list[Finding] = []
    for folder in folders:
        files, ambiguous = files_by_stem(folder, suffixes, ending)
        doubtful += ambiguous
        for name, path in files.items():
            rank = suffixes.index(path.suffix.lower())
            if name not in path_of or rank < suffixes.index(path_of[name].suffix.lower()):
                path_of[name] = path
    return path_of, doubtful


def orphans(images: Mapping[str, Path], others: Mapping[str, Path], what: str) -> list[Finding]:
    """Findings for annotation files without an image, and separate findings for names that differ only in case."""
    lower = {name.lower(): name for name in images}
    doubtful = []
    for name, path in others.items():
        if name in images:
            if composed(path.name) != composed(images[name].name):
                message = f"{path.name} and its image spell the same name in two Unicode forms; they are matched"
                remedy = "nothing to do here; other programs may need names of one form (NFC)"
                doubtful.append(Finding("note", "unicode-form", name, path, message, remedy))
            continue
        if name.lower() in lower:
            message = f"{path.name} differs from image {images[lower[name.lower()]].name} in upper and lower case"
            doubtful.append(Finding("warning", "case-mismatch", name, path, message, "give both the same name"))
        else:
            message = f"{what} without an image of the same name"
            doubtful.append(Finding("warning", "orphan", name, path, message, "add the image or remove the file"))
    return doubtful


def unlisted(images: Mapping[str, Path], splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Findings for images in no split, and for listed names that differ from a file only in case."""
    listed = {name for ids in splits.values() for name in ids}
    lower = {name.lower(): name for name in images}
    doubtful = [
        Finding("warning", "unlisted", name, path, "image in no split", "add it to a list, or ignore this")
        for name, path in images.items()
        if name not in listed
    ]
    for name in listed:
        if name not in images and name.lower() in lower:
            path = images[lower[name.lower()]]
            message = f"listed as {name}, the file is {path.name}"
            doubtful.append(Finding("warning", "case-mismatch", name, path, message, "write the name as the file's"))
    return doubtful


def image_files(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """The images of a folder by name.

    Raises:
        DataError: There are none.
    """
    files, doubtful = files_by_stem(folder, IMAGE_SUFFIXES)
    if not files:
        raise DataError(
            f"{folder}: no image files ({', '.join(IMAGE_SUFFIXES)}); give the folder that holds this layout"
        )
    return files, doubtful
