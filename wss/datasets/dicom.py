"""DICOM series: a folder of files, one slice each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.raster import MAX_PIXELS, Raster, opened, require_size, unsupported
from wss.datasets.volume_file import Grid, VolumeFile, package, require_channel

_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
_UNEVEN = 0.1
"""Distances between slices that differ by more than this share are not even."""

_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "BitsStored",
    "BitsAllocated",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
]


@dataclass(frozen=True)
class _Slice:
    """One file of a series.

    Attributes:
        path: The file.
        number: InstanceNumber, or None.
        position: ImagePositionPatient, or None.
        orientation: ImageOrientationPatient, or None.
        place: Position along the normal of the slices in millimetres.
    """

    path: Path
    number: int | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    place: float = 0.0


class DicomSeries(VolumeFile):
    """A series in a folder of its own: axes are slices, rows and columns.

    Slices are sorted by ImagePositionPatient along the normal of their planes; where no file has one, by InstanceNumber.

    Args:
        folder: The folder. Sub-folders, hidden files, DICOMDIR, and files with other endings (text, pictures) are not read.
        channel: Which of several images at each position, from 0, in the order of InstanceNumber.

    Raises:
        DataError: No DICOM file, a damaged one, files of several series, several images at each position without ``channel``,
            unequal orientations, or images that are not read (colours, several frames).
        UsageError: pydicom is not installed.
    """

    axis = 0

    def __init__(self, folder: Path, channel: int | None = None) -> None:
        self.path = folder
        paths, left_out = _files(folder)
        headers = [(path, _read(path, pixels=False)) for path in paths]
        headers = [(path, header) for path, header in headers if header is not None]
        if not headers:
            raise FileProblem("unreadable-image", folder, "holds no DICOM files", "put the files of one series into it")
        _require_one_series(folder, headers)
        for path, header in headers:
            _require_readable(path, header)
        first = headers[0][1]
        slices, notes = _sorted(folder, headers)
        slices = _one_each(folder, slices, channel)
        self._slices = slices
        self.files = tuple(s.path for s in slices)
        self.grid, spaced = _grid(folder, slices, first)
        self.values = f"values of {first.get('BitsStored', '?')} bits after RescaleSlope and RescaleIntercept"
        self.remarks = (*notes, *spaced, *_others(folder, left_out))

    def raster(self, axis: int, number: int) -> Raster:
        """See ``VolumeFile.raster``; slices are along axis 0. Values are int32, or float64 where they are scaled to fractions."""
        path = self.file_of(number)
        dataset = _read(path, pixels=True)
        if dataset is None:
            raise FileProblem("unreadable-image", path, "is no DICOM image", "copy or download it again")
        with opened(path, "unreadable-image"):
            require_size(path, int(dataset.Columns), int(dataset.Rows), MAX_PIXELS)
            stored = _pixels(path, dataset)
        slope, inter = (
            float(dataset.get(name, usual)) for name, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
        padding = _padding(dataset, stored)
        values: NDArray[Any]
        if slope.is_integer() and inter.is_integer():
            values = stored.astype(np.int64) * int(slope) + int(inter)
            values = values.astype(np.int32) if np.abs(values).max(initial=0) < 2**31 else values
        else:
            values = stored.astype(np.float64) * slope + inter
        white_is_zero = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        nodata = None if padding is None else padding * slope + inter
        lossy = str(dataset.get("LossyImageCompression", "00")) == "01"
        return Raster(values, "white-is-zero" if white_is_zero else "grey", nodata=nodata, lossy=lossy)

    def file_of(self, number: int) -> Path:
        """The file of a slice."""
        return self._slices[number].path


def is_series(folder: Path) -> bool:
    """True if a folder holds a DICOM file."""
    try:
        for path in sorted(folder.iterdir()):
            if _may_be_dicom(path) and path.is_file():
                with path.open("rb") as file:
                    if file.read(132)[128:] == b"DICM":
                        return True
    except OSError:
        return False
    return False


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that may be DICOM, and those that are not by their ending."""
    found = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.upper() != "DICOMDIR")
    found = [path for path in found if path.is_file()]
    return [p for p in found if _may_be_dicom(p)], [p for p in found if not _may_be_dicom(p)]


def _may_be_dicom(path: Path) -> bool:
    """True for the endings of DICOM, for none, and for UIDs such as 1.2.840.113619.2; False for hidden files."""
    known = path.suffix.lower() in ("", *_ENDINGS) or path.suffix[1:].isdigit()
    return known and not path.name.startswith(".")


def _read(path: Path, *, pixels: bool) -> Any:
    """A file's data set; None for an index of other files."""
    pydicom = package("pydicom")
    with opened(path, "unreadable-image") as begin, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break the standard; what matters becomes an error
        if len(begin) < 64:
            raise FileProblem("unreadable-image", path, "is no DICOM file", "copy or download it again")
        try:
            tags = None if pixels else _TAGS
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)
        except pydicom.errors.InvalidDicomError:
            raise FileProblem(
                "unreadable-image",
                path,
                "is no DICOM file: it lacks the mark DICM after 128 bytes",
                "copy it again, or take it out of the folder",
            ) from None
        if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10":
            return None
        return dataset


def _require_one_series(folder: Path, headers: Sequence[tuple[Path, Any]]) -> None:
    series = {str(h.get("SeriesInstanceUID", "")): h for _, h in headers}
    if len(series) > 1:
        named = [f"{h.get('SeriesNumber', '?')} {h.get('SeriesDescription', '')}".strip() for h in series.values()]
        message = f"holds files of {len(series)} series (SeriesNumber {'; '.join(sorted(named)[:6])})"
        raise FileProblem("dicom-series", folder, message, "put each series into a folder of its own")


def _require_readable(path: Path, header: Any) -> None:
    if int(header.get("NumberOfFrames") or 1) > 1:
        message = f"holds {header.NumberOfFrames} frames in one file, which is not read"
        raise unsupported(path, message, "convert it to NIfTI (dcm2niix) and use kind nifti")
    if header.get("Rows") is None or header.get("Columns") is None:
        kind = header.SOPClassUID.name if "SOPClassUID" in header else "file"
        raise unsupported(path, f"is a {kind} without pixels", "take it out of the folder")
    colours = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if int(header.get("SamplesPerPixel") or 1) > 1 or not colours.startswith("MONOCHROME"):
        raise unsupported(path, f"has colours of the kind {colours}, which are not read", "save it as grey")


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    value = header.get(name)
    if value is None or isinstance(value, str | float | int) or len(value) != count:
        return None
    return tuple(float(part) for part in value)


def _sorted(folder: Path, headers: Sequence[tuple[Path, Any]]) -> tuple[list[_Slice], list[Finding]]:
    """The files in the order of their slices."""
    slices = [
        _Slice(
            path,
            int(h.InstanceNumber) if h.get("InstanceNumber") is not None else None,
            _numbers(h, "ImagePositionPatient", 3),
            _numbers(h, "ImageOrientationPatient", 6),
        )
        for path, h in headers
    ]
    placed = [s for s in slices if s.position is not None and s.orientation is not None]
    if placed and len(placed) < len(slices):
        lacking = next(s for s in slices if s not in placed)
        message = "has no ImagePositionPatient or ImageOrientationPatient, as other files of its folder have"
        raise FileProblem(
            "dicom-position", lacking.path, message, "take it out of the folder, if it is no slice (a scout)"
        )
    if not placed:
        if len(slices) > 1 and any(s.number is None for s in slices):
            message = "says neither ImagePositionPatient nor InstanceNumber: the order of its slices is unknown"
            raise FileProblem("dicom-position", folder, message, "convert it to NIfTI or a TIFF stack")
        message = "no file has ImagePositionPatient: slices are in the order of InstanceNumber"
        remedy = "compare their order with a viewer"
        note = Finding("warning", "dicom-position", None, folder, message, remedy)
        ordered = sorted(slices, key=lambda s: (s.number or 0, s.path.name))
        return [_Slice(s.path, s.number, None, None, float(n)) for n, s in enumerate(ordered)], [note]
    first = np.array(placed[0].orientation)
    normal = np.cross(first[:3], first[3:])
    found = []
    for s in placed:
        if np.abs(np.array(s.orientation) - first).max() > 1e-3:
            message = f"lies in another plane than {placed[0].path.name} (ImageOrientationPatient)"
            raise FileProblem(
                "dicom-position", s.path, message, "take it out of the folder, if it is no slice (a scout)"
            )
        place = float(np.dot(np.array(s.position), normal))
        found.append(_Slice(s.path, s.number, s.position, s.orientation, place))
    return sorted(found, key=lambda s: (round(s.place, 3), s.number or 0, s.path.name)), []


def _one_each(folder: Path, slices: list[_Slice], channel: int | None) -> list[_Slice]:
    """One file at each position."""
    groups: dict[float, list[_Slice]] = {}
    for s in slices:
        groups.setdefault(round(s.place, 3), []).append(s)
    counts = {len(group) for group in groups.values()}
    if len(counts) > 1:
        usual = min(counts)
        extra = next(group for group in groups.values() if len(group) > usual)
        message = f"{extra[0].path.name} and {extra[1].path.name} are at one position, and other positions have {usual}"
        raise FileProblem(
            "dicom-position", folder, message, "remove files that are there twice, or restore missing ones"
        )
    number = require_channel(folder, channel, counts.pop(), "images at each position, such as times or echoes")
    return [group[number] for group in groups.values()]


def _grid(folder: Path, slices: Sequence[_Slice], header: Any) -> tuple[Grid, list[Finding]]:
    shape = (len(slices), int(header.Rows), int(header.Columns))
    in_plane = _numbers(header, "PixelSpacing", 2)
    places = [s.place for s in slices]
    steps = np.diff(places)
    first, last = slices[0], slices[-1]
    if first.position is None or first.orientation is None or last.position is None:
        between = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
        known = in_plane is not None and between is not None
        return Grid(shape, (float(between), in_plane[0], in_plane[1]) if known and in_plane else None), []
    usual = float(np.median(steps)) if len(steps) else float(header.get("SliceThickness") or 1.0)
    notes = []
    spacing = (usual, *in_plane) if in_plane is not None else None
    if len(steps) and np.abs(steps - usual).max() > _UNEVEN * usual:
        at = int(np.abs(steps - usual).argmax())
        message = (
            f"slices {at} and {at + 1} ({slices[at].path.name}, {slices[at + 1].path.name}) are {steps[at]:g} mm apart, others "
            f"{usual:g} mm: slices are missing, or were not taken evenly"
        )
        remedy = "restore the missing files; if there are none, give the option spacing_mm, which then counts for all volumes"
        notes.append(Finding("error", "missing-slices", None, folder, message, remedy))
        spacing = None
    affine = None
    if in_plane is not None:
        rows, columns = np.array(first.orientation[3:]), np.array(first.orientation[:3])
        through = (np.array(last.position) - np.array(first.position)) / max(1, len(slices) - 1)
        if len(slices) == 1:
            through = np.cross(columns, rows) * usual
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([through, rows * in_plane[0], columns * in_plane[1]], axis=1)
        matrix[:3, 3] = first.position
        matrix[:2] *= -1  # DICOM counts to the left and to the back
        affine = tuple(tuple(float(value) for value in row) for row in matrix)
    return Grid(shape, (spacing[0], spacing[1], spacing[2]) if spacing else None, affine), notes


def _others(folder: Path, left_out: Sequence[Path]) -> list[Finding]:
    if not left_out:
        return []
    message = f"{len(left_out)} files are not read, such as {left_out[0].name}: their endings are not those of DICOM"
    return [Finding("note", "not-dicom", None, folder, message, "nothing to do", len(left_out))]


def _pixels(path: Path, dataset: Any) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = np.asarray(dataset.pixel_array)
    except (NotImplementedError, RuntimeError, AttributeError) as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        named = getattr(syntax, "name", syntax)
        if isinstance(error, AttributeError) and "PixelData" not in dataset:
            raise FileProblem("unreadable-image", path, "has no pixels", "take it out of the folder") from None
        message = f"has the compression {named}, which cannot be decoded here ({str(error)[:200]})"
        remedy = "decompress it (gdcmconv --raw, dcmdjpeg), or install a decoder: pip install pylibjpeg[all]"
        raise unsupported(path, message, remedy) from None
    if values.ndim != 2:
        raise unsupported(path, f"has pixels of the shape {values.shape}, expected one grey image", "save it as grey")
    return values


def _padding(dataset: Any, stored: NDArray[Any]) -> float | None:
    """The stored value that is no part of the image; all of a range become its first value."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None or isinstance(value, bytes):
        return None
    if limit is not None and not isinstance(limit, bytes):
        low, high = sorted((int(value), int(limit)))
        stored[(stored >= low) & (stored <= high)] = int(value)
    return float(value)
