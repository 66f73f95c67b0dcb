"""Predictions of volumes: slices go through the network, and their masks become one file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from wss.cli.session import Session
    from wss.datasets.images import Picture, PixelOptions
    from wss.datasets.volume_file import VolumeFile

Named = tuple[str, Any]
"""Name of an image, and its file or what reads its ``Picture``."""


def part_volumes(
    images: Sequence[Path], out: Path, stacks: bool, say: Callable[[str], None]
) -> tuple[list[Path], dict[str, Path]]:
    """Tell volumes from pictures: NIfTI files and folders of a DICOM series.

    Args:
        images: Files and folders; a folder stands for what is in it and its sub-folders.
        out: Folder of results, in which nothing is looked for.
        stacks: Take TIFF files with several pages too.
        say: Told of volumes in folders whose format is not read.

    Returns:
        The files and folders that hold pictures, and volumes by name.

    Raises:
        UsageError: Two volumes have one name, or a mask would replace its volume.
        DataError: A file that was named is a volume of a format that is not read.
    """
    from wss.datasets.dicom import is_series
    from wss.datasets.finding import FileProblem
    from wss.datasets.images import IMAGE_SUFFIXES
    from wss.datasets.unread_volumes import unread_volume
    from wss.errors import UsageError

    rest: list[Path] = []
    volumes: dict[str, Path] = {}
    for given in images:
        unread = unread_volume(given)
        if unread is not None:
            raise FileProblem("not-read", given, f"is {unread[0]}", unread[1])
        if not given.is_dir():
            paths = {given.name: given} if _is_volume(given, stacks) else {}
            others = not paths
        elif is_series(given):
            paths, others = {given.resolve().name: given}, False
        else:
            inside = [p for p in sorted(given.rglob("*")) if not p.resolve().is_relative_to(out.resolve())]
            inside = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(given).parts)]
            paths = {
                p.relative_to(given).as_posix(): p
                for p in inside
                if (p.is_dir() and is_series(p)) or (p.is_file() and _is_volume(p, stacks))
            }
            taken = set(paths.values())
            left_out = [p for p in inside if not taken & set(p.parents) and unread_volume(p) is not None]
            if left_out:
                reason, remedy = unread_volume(left_out[0]) or ("", "")
                say(f"{len(left_out)} files left out: {left_out[0]} is {reason}; {remedy}")
            others = not paths or any(
                p.suffix.lower() in IMAGE_SUFFIXES and p not in taken and not taken & set(p.parents) for p in inside
            )
            if stacks and paths and others:
                raise UsageError(
                    f"{given} holds TIFF stacks and other pictures; name the files, or give a folder of each"
                )
        if others:
            rest.append(given)
        for file_name, path in paths.items():
            name = _plain(file_name, path)
            if volumes.setdefault(name, path) != path:
                raise UsageError(f"{volumes[name]} and {path} have one name; predict them separately")
    for name, path in volumes.items():
        for ending in (".nii.gz", ".tif"):
            if (out / f"{name}{ending}").resolve() == path.resolve():
                raise UsageError(f"{path} would be replaced by its mask; give --out another folder")
    return rest, volumes


class VolumeMasks:
    """Collects the masks of slices and writes one file for each volume, ``NAME.nii.gz`` or ``NAME.tif``.

    Args:
        out: Folder for them.
        network: Store of the network that makes them.
        reading: How values become RGB; None takes what the network was trained with.

    Attributes:
        faults: Volumes that cannot be opened, and why.
    """

    def __init__(self, out: Path, network: Path, reading: PixelOptions | None = None) -> None:
        from wss.store import MODEL, Store

        self._out, self._network, self._reading = out, network, reading
        self._meta = Store(network, MODEL).meta
        self._owner: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._files: dict[str, tuple[VolumeFile, int]] = {}
        self._masks: dict[str, list[bytes]] = {}
        self.faults: dict[str, str] = {}

    def of_files(self, volumes: dict[str, Path], session: Session) -> list[Named]:
        """The slices of volumes, read as those that the network was trained on."""
        if not volumes:
            return []
        from wss.checkpoints import pixel_options
        from wss.datasets.volume_file import open_volume
        from wss.datasets.volume_slices import usual_axis
        from wss.errors import DataError

        options = (self._reading or pixel_options(self._network)).model_copy(update={"page": None})
        cut = self._meta.get("slices", {})
        sources: list[Named] = []
        for name, path in volumes.items():
            try:
                volume = open_volume(path, cut.get("channel"))
            except DataError as error:
                self.faults[name] = str(error)
                continue
            axis = volume.axis if volume.axis is not None else cut.get("axis", usual_axis(volume))
            if "axis" not in cut and volume.axis is None:
                session.terminal.say(f"{path.name}: cut along axis {axis}; the network was not trained on volumes")
            if "axis" in cut and volume.axis is None and cut["kind"] != "nifti":
                axis = usual_axis(volume)
                session.terminal.say(f"{path.name}: cut along axis {axis}; the network was trained on {cut['kind']}")
            sources += self._add(name, volume, axis, cut.get("channel"), options)
        return sources

    def of_split(self, sources: list[Named], session: Session) -> list[Named]:
        """Take note of slices among the images of a split; they are read as before."""
        from wss.datasets import open_source
        from wss.datasets.volume_source import VolumeSource
        from wss.errors import DataError

        dataset = session.workspace.dataset()
        if dataset.kind not in ("nifti", "dicom", "stack"):
            return sources
        try:
            source = open_source(dataset)
        except DataError as error:
            session.terminal.say(f"masks are written slice by slice, because the volumes cannot be opened: {error}")
            return sources
        assert isinstance(source, VolumeSource)
        for image_id, _ in sources:
            name, _ = source.place(image_id)
            self._owner[image_id] = name
            self._counts[name] = self._counts.get(name, 0) + 1
            self._files[name] = (source.volume(name), source.axis)
        return sources

    def slices(self) -> list[list[str]]:
        """Names of the slices of each volume, in order."""
        by_volume: dict[str, list[str]] = {}
        for name, owner in self._owner.items():
            by_volume.setdefault(owner, []).append(name)
        return list(by_volume.values())

    def owner(self, name: str) -> str:
        """The volume that a slice belongs to, or the name of an image that is no slice."""
        return self._owner.get(name, name)

    def take(self, name: str, files: dict[str, bytes | None]) -> tuple[dict[str, bytes | None], list[Path]]:
        """Keep the mask of a slice, and write the volume's when it is the last one.

        Args:
            name: Name of an image.
            files: What was made of it, by ending.

        Returns:
            What is still to be written for this image, and the volumes that were written.
        """
        from PIL import Image

        from wss.datasets.volume_masks import mask_ending, write_volume_mask

        owner = self._owner.get(name)
        if owner is None:
            return files, []
        masks = self._masks.setdefault(owner, [])
        masks.append(files[".png"] or b"")
        rest = {ending: data for ending, data in files.items() if ending != ".png"}
        if len(masks) < self._counts[owner]:
            return rest, []
        volume, axis = self._files[owner]
        path = self._out / f"{owner}{mask_ending(volume)}"
        slices = [np.array(Image.open(io.BytesIO(data))) for data in self._masks.pop(owner)]
        write_volume_mask(path, volume, axis, slices, np.array(self._meta["palette"], np.uint8))
        return rest, [path]

    def _add(self, name: str, volume: VolumeFile, axis: int, channel: int | None, options: Any) -> list[Named]:
        from wss.datasets.volume_slices import slice_id

        count = volume.grid.shape[axis]
        self._counts[name], self._files[name] = count, (volume, axis)
        sources: list[Named] = []
        for number in range(count):
            self._owner[slice_id(name, number)] = name
            read = partial(_read, volume.path, axis, channel, number, options)
            sources.append((slice_id(name, number), read))
        return sources


def reads_stacks(session: Session, checkpoint: Path | None) -> bool:
    """True if the network was trained on TIFF stacks, so that files with several pages are volumes."""
    from wss.store import MODEL, Store

    if checkpoint is not None:
        return bool(Store(checkpoint, MODEL).meta.get("slices", {}).get("kind") == "stack")
    return session.workspace.dataset().kind == "stack"


def _read(path: Path, axis: int, channel: int | None, number: int, options: Any) -> Picture:
    from wss.datasets.volume_file import open_volume
    from wss.datasets.volume_slices import read_slice

    return read_slice(open_volume(path, channel), axis, number, options)


def _is_volume(path: Path, stacks: bool) -> bool:
    from wss.datasets.volume_file import NIFTI_ENDINGS, STACK_ENDINGS

    name = path.name.lower()
    return name.endswith(NIFTI_ENDINGS) or (stacks and name.endswith(STACK_ENDINGS))


def _plain(name: str, path: Path) -> str:
    from wss.datasets.volume_file import NIFTI_ENDINGS, STACK_ENDINGS

    endings = () if path.is_dir() else (*NIFTI_ENDINGS, *STACK_ENDINGS)
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
