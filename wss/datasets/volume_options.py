"""Options of data sets of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from wss.datasets.files import ReadOptions


class VolumeOptions(ReadOptions):
    """Options of kinds ``dicom`` and ``stack``. Relative paths start at the data set's root.

    Percentiles of the option ``stretch`` are those of the whole volume, so that a tissue has the same brightness in all
    slices.

    Attributes:
        images: Folder of the volumes.
        masks: Folder of dense masks, class indices and 255 for void; may be missing.
        scribbles: Folder of scribbles, class indices and 255 for unlabelled; may be missing.
        classes: File of class names; None takes classes.txt, .yaml or .json.
        val_fraction: Share of the volumes with masks that becomes ``val`` if there are no lists.
        group_pattern: Regular expression with the group ``group``. Volumes with equal groups stay in one split, for example
            the volumes of a patient. A name that does not match is a group of its own.
        channel: Index of the volume in files with several (four dimensions, times), from 0. None refuses such files.
        spacing_mm: Distance between slices, rows and columns of all volumes in millimetres. None uses the values in the files.
    """

    images: Path = Path("images")
    masks: Path = Path("masks")
    scribbles: Path = Path("scribbles")
    classes: Path | None = None
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    group_pattern: str | None = r"(?P<group>patient\d+)_frame\d+"
    channel: int | None = Field(default=None, ge=0)
    spacing_mm: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=3, max_length=3)

    @model_validator(mode="after")
    def _no_pages(self) -> VolumeOptions:
        if self.page is not None:
            raise ValueError(
                "all pages of a stack are slices: leave out page, or choose one of several stacks by channel"
            )
        if self.rgb_labels:
            raise ValueError("labels of volumes are class indices: leave out rgb_labels")
        return self


class NiftiOptions(VolumeOptions):
    """Options of kind ``nifti``: those of ``VolumeOptions``.

    Attributes:
        axis: Axis of the file's array along which volumes are cut into slices: 0, 1 or 2. None uses the axis with the largest
            spacing, or axis 2 if several axes have it.
    """

    axis: int | None = Field(default=None, ge=0, le=2)
