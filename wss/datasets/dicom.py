"""DICOM series: folders with one file per slice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.raster import MAX_PIXELS, Colours, Raster, opened, require_size, unsupported
from wss.datasets.volume_file import Grid, VolumeFile, package, require_channel

_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
_INDEX = "1.2.840.10008.1.3.10"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_LOSSLESS = {f"1.2.840.10008.1.2.{end}" for end in ("4.57", "4.70", "4.80", "4.90", "4.201", "4.202", "5")}
_MAYBE_LOSSLESS = {f"1.2.840.10008.1.2.{end}" for end in ("4.91", "4.203")}
"""JPEG 2000 and HTJ2K: the tag LossyImageCompression tells."""
_UNEVEN = 0.1
"""Relative difference above which distances between slices count as uneven."""

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
    """A series in its own folder. The axes are slices, rows and columns.

    Slices are sorted by ImagePositionPatient along the normal of their planes, or by InstanceNumber if no file has a position.

    Args:
        folder: The folder. A file is DICOM if its ending or its content says so. Sub-folders, hidden files, DICOMDIR, and other
            files (text, pictures) are not read.
        channel: Index of the image to read if each position has several, from 0, in the order of InstanceNumber.

    Raises:
        DataError: No DICOM file, a damaged one, files of several series, several images at each position without ``channel``,
            unequal sizes, pixel spacings or orientations, an unknown order, or images that are not read (colours, several frames,
            segmentations).
        UsageError: pydicom is not installed.
    """

    axis = 0

    def __init__(self, folder: Path, channel: int | None = None) -> None:
        self.path = folder
        paths, left_out, folders = _files(folder)
        headers = [(path, _read(path, pixels=False)) for path in paths]
        headers = [(path, header) for path, header in headers if header is not None]
        if not headers:
            message = "holds no DICOM files" + (f"; its folder {folders[0].name!r} is not searched" if folders else "")
            raise FileProblem("unreadable-image", folder, message, "put the files of one series into it")
        _require_one_series(folder, headers)
        for path, header in headers:
            _require_readable(path, header)
        _require_same_pixels(headers)
        first = headers[0][1]
        slices, notes = _sorted(folder, headers)
        slices = _one_each(folder, slices, channel)
        self._slices = slices
        self.files = tuple(s.path for s in slices)
        self.grid, spaced = _grid(folder, slices, first)
        self.values = f"values of {first.get('BitsStored', '?')} bits after RescaleSlope and RescaleIntercept"
        self.remarks = (*notes, *spaced, *_others(folder, left_out, folders))

    def raster(self, axis: int, number: int) -> Raster:
        """See ``VolumeFile.raster``; slices are along axis 0. Values are int32, or float64 if they are fractions."""
        path = self.file_of(number)
        dataset = _read(path, pixels=True)
        if dataset is None:
            raise FileProblem("unreadable-image", path, "is no DICOM image", "copy or download it again")
        with opened(path, "unreadable-image"):
            require_size(path, int(dataset.Columns), int(dataset.Rows), MAX_PIXELS)
            stored = _pixels(path, dataset)
        values, empty = _rescaled(dataset, stored)
        white_is_zero = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        colours: Colours = "white-is-zero" if white_is_zero else "grey"
        return Raster(values, colours, nodata=empty, lossy=_is_lossy(dataset), span=_span(dataset, stored.dtype))

    def file_of(self, number: int) -> Path:
        """The file of a slice."""
        return self._slices[number].path

    @property
    def placed(self) -> bool:
        """True if the slices are sorted by position, False if they are sorted by InstanceNumber."""
        return self._slices[0].position is not None

    @property
    def numbered(self) -> bool:
        """True if the slices are in the order of InstanceNumber."""
        numbers = [s.number for s in self._slices]
        return all(one is not None and other is not None and one < other for one, other in pairwise(numbers))


def is_series(folder: Path) -> bool:
    """True if a folder holds a DICOM file."""
    try:
        return any(p.is_file() and not p.name.startswith(".") and _marked(p) for p in sorted(folder.iterdir()))
    except OSError:
        return False


def _files(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Files that may be DICOM, files that are not DICOM (by ending and content), and folders."""
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.upper() != "DICOMDIR")
    files = [path for path in entries if path.is_file()]
    read = [path for path in files if _may_be_dicom(path) or _marked(path)]
    return read, [p for p in files if p not in set(read)], [p for p in entries if p.is_dir()]


def _may_be_dicom(path: Path) -> bool:
    """True for DICOM endings, for names without ending, and for UIDs such as 1.2.840.113619.2. False for hidden files."""
    known = path.suffix.lower() in ("", *_ENDINGS) or path.suffix[1:].isdigit()
    return known and not path.name.startswith(".")


def _marked(path: Path) -> bool:
    """True if a file has the mark of DICOM."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read(path: Path, *, pixels: bool) -> Any:
    """The DICOM data set of a file; None for an index of other files (DICOMDIR)."""
    pydicom = package("pydicom")
    with opened(path, "unreadable-image") as begin, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pydicom warns of values that break the standard; relevant problems become errors
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
        if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _INDEX:
            return None
        return dataset


def _require_one_series(folder: Path, headers: Sequence[tuple[Path, Any]]) -> None:
    series = {str(h.get("SeriesInstanceUID", "")): h for _, h in headers}
    if len(series) > 1:
        named = [f"{h.get('SeriesNumber', '?')} {h.get('SeriesDescription', '')}".strip() for h in series.values()]
        message = f"holds files of {len(series)} series (SeriesNumber {'; '.join(sorted(named)[:6])})"
        raise FileProblem("dicom-series", folder, message, "put each series into a folder of its own")


def _require_readable(path: Path, header: Any) -> None:
    if str(header.get("SOPClassUID", "")) in _SEGMENTATIONS:
        message = "is a DICOM segmentation (SEG), which is not read"
        remedy = (
            "save it as NIfTI with the voxels of the image (3D Slicer: export to a labelmap; dcmqi: segimage2itkimage)"
        )
        raise unsupported(path, message, remedy)
    if int(header.get("NumberOfFrames") or 1) > 1:
        message = f"holds {header.NumberOfFrames} frames in one file, which is not read"
        raise unsupported(path, message, "convert it to NIfTI (dcm2niix) and use kind nifti")
    if header.get("Rows") is None or header.get("Columns") is None:
        kind = header.SOPClassUID.name if "SOPClassUID" in header else "file"
        raise unsupported(path, f"is a {kind} without pixels", "take it out of the folder")
    colours = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if int(header.get("SamplesPerPixel") or 1) > 1 or not colours.startswith("MONOCHROME"):
        raise unsupported(path, f"has colours of the kind {colours}, which are not read", "save it as grey")


def _require_same_pixels(headers: Sequence[tuple[Path, Any]]) -> None:
    """Check that all slices have the size and the pixel spacing of the first."""
    path, first = headers[0]
    size, spacing = (int(first.Columns), int(first.Rows)), _numbers(first, "PixelSpacing", 2)
    for other, header in headers[1:]:
        here = (int(header.Columns), int(header.Rows))
        if here != size:
            message = f"has {here[0]}x{here[1]} pixels, {path.name} of its series has {size[0]}x{size[1]}"
            remedy = "take it out of the folder, if it is no slice (a scout), or put each size into a folder of its own"
            raise FileProblem("volume-sizes", other, message, remedy)
        apart = _numbers(header, "PixelSpacing", 2)
        if (apart is None) != (spacing is None) or (apart and spacing and not np.allclose(apart, spacing, rtol=1e-3)):
            message = f"has the PixelSpacing {apart}, {path.name} of its series has {spacing}"
            raise FileProblem(
                "volume-sizes", other, message, "put the slices of each spacing into a folder of their own"
            )


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    value = header.get(name)
    if value is None or isinstance(value, str | float | int) or len(value) != count:
        return None
    return tuple(float(part) for part in value)


def _sorted(folder: Path, headers: Sequence[tuple[Path, Any]]) -> tuple[list[_Slice], list[Finding]]:
    """The files sorted by slice, and findings about their order."""
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
        twice = next(((a, b) for a, b in pairwise(ordered) if a.number == b.number), None)
        if twice is not None:
            message = (
                f"no file has ImagePositionPatient, and {twice[0].path.name} and {twice[1].path.name} have the same "
                f"InstanceNumber {twice[0].number}: the order of its slices is unknown"
            )
            remedy = "remove files that are there twice, or convert it to NIfTI or a TIFF stack"
            raise FileProblem("dicom-position", folder, message, remedy)
        return [_Slice(s.path, s.number, None, None, float(n)) for n, s in enumerate(ordered)], [
            note,
            *_gap(folder, ordered),
        ]
    first = np.array(placed[0].orientation)
    normal = np.cross(first[:3], first[3:])
    along_normal = []
    for s in placed:
        if np.abs(np.array(s.orientation) - first).max() > 1e-3:
            message = f"lies in another plane than {placed[0].path.name} (ImageOrientationPatient)"
            raise FileProblem(
                "dicom-position", s.path, message, "take it out of the folder, if it is no slice (a scout)"
            )
        place = float(np.dot(np.array(s.position), normal))
        along_normal.append(_Slice(s.path, s.number, s.position, s.orientation, place))
    return sorted(along_normal, key=lambda s: (round(s.place, 3), s.number or 0, s.path.name)), []


def _gap(folder: Path, slices: Sequence[_Slice]) -> list[Finding]:
    """Error findings for gaps in the numbers of the slices."""
    steps = [((other.number or 0) - (one.number or 0), one, other) for one, other in pairwise(slices)]
    usual = min((step for step, _, _ in steps), default=1)
    for step, one, other in steps:
        if step > usual:
            message = (
                f"between {one.path.name} and {other.path.name} InstanceNumber goes from {one.number} to {other.number}, "
                f"elsewhere by {usual}: slices are missing"
            )
            remedy = "restore the missing files; if there are none, give the option spacing_mm, which then counts for all volumes"
            return [Finding("error", "missing-slices", None, folder, message, remedy)]
    return []


def _one_each(folder: Path, slices: list[_Slice], channel: int | None) -> list[_Slice]:
    """Choose one file per position."""
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
        matrix[:2] *= -1  # DICOM's axes point to the left and to the back
        affine = tuple(tuple(float(value) for value in row) for row in matrix)
    return Grid(shape, (spacing[0], spacing[1], spacing[2]) if spacing else None, affine), notes


def _others(folder: Path, left_out: Sequence[Path], folders: Sequence[Path]) -> list[Finding]:
    findings = []
    if left_out:
        message = f"{len(left_out)} files are not read, such as {left_out[0].name}: they are no DICOM"
        findings.append(Finding("note", "not-dicom", None, folder, message, "nothing to do", len(left_out)))
    if folders:
        message = f"folders in it are not searched, such as {folders[0].name!r}"
        remedy = "put all slices of the series into one folder, and other series into folders beside it"
        findings.append(Finding("warning", "dicom-folders", None, folder, message, remedy, len(folders)))
    return findings


def _rescaled(dataset: Any, stored: NDArray[Any]) -> tuple[NDArray[Any], float | None]:
    """Values after RescaleSlope and RescaleIntercept, or after the modality's table; and the value of pixels without data."""
    padding = _padding(dataset, stored)
    if "ModalityLUTSequence" in dataset:
        values = package("pydicom.pixels").apply_modality_lut(stored, dataset).astype(np.float64)
        if padding is not None:
            values[stored == padding] = np.nan
        return values, None
    slope, inter = _scale(dataset)
    empty = None if padding is None else padding * slope + inter
    if stored.dtype.kind in "iu" and slope.is_integer() and inter.is_integer():
        exact = stored.astype(np.int64) * int(slope) + int(inter)
        return exact.astype(np.int32) if np.abs(exact).max(initial=0) < 2**31 else exact, empty
    return stored.astype(np.float64) * slope + inter, empty


def _scale(dataset: Any) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept. An empty tag counts as missing."""
    slope, inter = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return 1.0 if slope in (None, "") else float(slope), 0.0 if inter in (None, "") else float(inter)


def _span(dataset: Any, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Range of values that the stored bits can represent; None for floating point and for tables."""
    if dtype.kind not in "iu" or "ModalityLUTSequence" in dataset:
        return None
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    slope, inter = _scale(dataset)
    ends = sorted((low * slope + inter, high * slope + inter))
    return ends[0], ends[1]


def _is_lossy(dataset: Any) -> bool:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    told = str(dataset.get("LossyImageCompression", "") or "")
    if told == "01" or syntax is None or not syntax.is_compressed or str(syntax) in _LOSSLESS:
        return told == "01"
    return str(syntax) not in _MAYBE_LOSSLESS or told != "00"


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
    """The stored value of padding pixels. If padding is a range, all its values become the first one."""
    value, limit = (_stored_number(dataset, f"PixelPadding{name}", stored.dtype) for name in ("Value", "RangeLimit"))
    if value is not None and limit is not None:
        low, high = sorted((value, limit))
        stored[(stored >= low) & (stored <= high)] = value
    return value


def _stored_number(dataset: Any, name: str, dtype: np.dtype[Any]) -> float | None:
    """A stored value from a tag. Integers are compared by their bits, because writers confuse signed and unsigned values."""
    value = dataset.get(name)
    if value is None or isinstance(value, bytes | str):
        return None
    return float(np.array(int(value), np.int64).astype(dtype)) if dtype.kind in "iu" else float(value)
