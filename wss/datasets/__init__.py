"""Readers that convert raw files to samples. There is one reader per format, and each one is a ``Source``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from wss.datasets.source import Catalogue, Sample, Source, Volume
from wss.errors import UsageError
from wss.params import LATER, LOCAL, Params, nearest, validate

Kind = Literal["voc", "context", "coco", "densepose", "folder", "camvid", "acdc", "nifti", "dicom", "stack", "sample"]
"""Names of the readers, as in ``wss init --kind``."""


class DatasetSpec(Params):
    """Declaration of a data set in ``wss.yaml``.

    The reader's options may stand beside ``kind`` and ``root`` or below ``options``; they end up in ``options``.
    """

    kind: Kind
    """Name of the reader, as in ``wss init --kind``."""
    root: Path | None = Field(default=None, json_schema_extra=LOCAL)
    """Folder of the data set; None for the generated sample."""
    keep: Literal["pixels", "encoded"] = Field(default="pixels", json_schema_extra=LATER)
    """Form in which the workspace stores images. ``pixels``: fastest to read; three bytes per pixel of a colour image.
    ``encoded``: the bytes of the original JPEG or PNG file if it holds exactly the pixels that are read, otherwise a PNG. The
    choice does not change any result."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reader: ``VocOptions``, ``ContextOptions``, ``FolderOptions``, ``CamvidOptions``, ``AcdcOptions``,
    ``NiftiOptions``, ``VolumeOptions`` and, for all of them, ``ReadOptions``."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = get_args(Kind)
        if "kind" in values and values["kind"] not in known:
            raise UsageError(f"no data set kind {values['kind']!r}{nearest(str(values['kind']), known)}")
        flat = {name: value for name, value in values.items() if name not in cls.model_fields}
        given = values.get("options", {})
        if not flat or not isinstance(given, dict):
            return values
        return {**{n: v for n, v in values.items() if n in cls.model_fields}, "options": {**given, **flat}}


class SampleOptions(Params):
    """Options of kind ``sample``, see ``SampleSource``; None takes its default."""

    seed: int | None = None
    train: int | None = None
    val: int | None = None
    height: int | None = None
    width: int | None = None


def open_source(dataset: DatasetSpec | Kind, root: Path | str | None = None, **options: Any) -> Source:
    """Open a data set. Folders and lists are read, but no images.

    Args:
        dataset: A specification, or the name of a reader, as in ``open_source("folder", "cells", masks="truth")``.
        root: With a name: the data set's folder.
        options: With a name: the reader's options.

    Raises:
        UsageError: No such kind, an unknown option (the nearest known one is named) or a bad value, or no root.
        DataError: The folder is missing or does not have the layout of this kind.
    """
    if isinstance(dataset, DatasetSpec):
        spec = dataset
    else:
        spec = validate(DatasetSpec, {"kind": dataset, "root": root, "options": options}, "data set")
    where = f"options of data set kind {spec.kind!r}"
    if spec.kind == "sample":
        from wss.datasets.sample import SampleSource

        return SampleSource(**validate(SampleOptions, spec.options, where).model_dump(exclude_none=True))
    if spec.root is None:
        raise UsageError(f"data set kind {spec.kind!r} needs a root folder; `wss init --kind {spec.kind} --root DIR`")
    match spec.kind:
        case "voc":
            from wss.datasets.voc import VocOptions, VocSource

            return VocSource(spec.root, validate(VocOptions, spec.options, where))
        case "context":
            from wss.datasets.context import ContextOptions, ContextSource

            return ContextSource(spec.root, validate(ContextOptions, spec.options, where))
        case "coco":
            from wss.datasets.coco import CocoOptions, CocoSource

            return CocoSource(spec.root, validate(CocoOptions, spec.options, where))
        case "densepose":
            from wss.datasets.densepose import DenseposeOptions, DenseposeSource

            return DenseposeSource(spec.root, validate(DenseposeOptions, spec.options, where))
        case "folder":
            from wss.datasets.folder import FolderOptions, FolderSource

            return FolderSource(spec.root, validate(FolderOptions, spec.options, where))
        case "camvid":
            from wss.datasets.camvid import CamvidOptions, CamvidSource

            return CamvidSource(spec.root, validate(CamvidOptions, spec.options, where))
        case "acdc":
            from wss.datasets.acdc import AcdcOptions, AcdcSource

            return AcdcSource(spec.root, validate(AcdcOptions, spec.options, where))
        case "nifti":
            from wss.datasets.volume_options import NiftiOptions
            from wss.datasets.volume_source import NiftiSource

            return NiftiSource(spec.root, validate(NiftiOptions, spec.options, where))
        case "dicom":
            from wss.datasets.volume_options import VolumeOptions
            from wss.datasets.volume_source import DicomSource

            return DicomSource(spec.root, validate(VolumeOptions, spec.options, where))
        case "stack":
            from wss.datasets.volume_options import VolumeOptions
            from wss.datasets.volume_source import StackSource

            return StackSource(spec.root, validate(VolumeOptions, spec.options, where))


__all__ = [
    "Catalogue",
    "DatasetSpec",
    "Kind",
    "Sample",
    "Source",
    "Volume",
    "open_source",
]
