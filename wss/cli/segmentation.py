"""Segmenting one image at a time into the files to write, in any process of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.images import MAX_PIXELS, Picture, PixelOptions, read_header, read_picture
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.ops.largest_region import outside_largest
from wss.store.atomic import replace_file

if TYPE_CHECKING:
    from wss.precision import Precision
    from wss.predictor import InferenceParams, Predictor

SIDE = 321
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Segmentation:
    """Segments images with a trained network.

    Args:
        network: The network's store.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        test_time: Scales, flip, window and walk.
        out: Folder of the results; masks of TIFFs are written there at once.
        reading: How the values of files become RGB; None takes what the network was trained with.
        probs: Give probabilities too.
        overlays: Give overlays.
        amp: Autocast to bfloat16.
        background: Keep only the largest region of foreground of each image, this being the index of the background. Images that
            are segmented block by block keep all. None keeps all regions of all images.
        slices: Names of images that keep all regions, because they are slices of volumes.

    Attributes:
        note: Told which part of a large picture is done, in the process that shows progress.
    """

    def __init__(
        self,
        network: Path,
        device: str,
        test_time: InferenceParams,
        out: Path,
        reading: PixelOptions | None,
        probs: bool,
        overlays: bool,
        amp: bool = False,
        background: int | None = None,
        slices: frozenset[str] = frozenset(),
    ) -> None:
        self._network, self._device, self._test_time, self._out = network, device, test_time, out
        self._given, self._probs, self._overlays, self._amp = reading, probs, overlays, amp
        self._background, self._slices = background, slices
        self.note: Callable[[str], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, without the progress bar."""
        return self.__dict__ | {"note": None}

    def _note(self, name: str, done: int, count: int) -> None:
        if self.note is not None:
            self.note(f"{name}: block {done} of {count}")

    @cached_property
    def _predictor(self) -> Predictor:
        from wss.checkpoints import load_checkpoint

        return load_checkpoint(self._network, device=self._device, test_time=self._test_time, amp=self._amp)

    @cached_property
    def _reading(self) -> PixelOptions:
        from wss.checkpoints import pixel_options

        return pixel_options(self._network) if self._given is None else self._given

    def __call__(self, source: tuple[str, Any]) -> dict[str, bytes | None] | str:
        """Segment one image.

        Args:
            source: Its name, and its file or a function that gives its ``Picture``.

        Returns:
            The contents of files by the end of their name, None for those that are written already; or why it cannot be read.
        """
        name, given = source
        try:
            if isinstance(given, Path) and _is_tiff(given):
                return self._tiff(name, given)
            return self._segmented(name, *self._read(given))[1]
        except DataError as error:
            return str(error)

    def drawn(self, source: tuple[str, Any], labels: NDArray[np.uint8]) -> dict[str, bytes | None]:
        """The mask of an image, and its overlay, with other labels than the network's.

        Args:
            source: See ``__call__``.
            labels: uint8 (H,W).

        Raises:
            DataError: The image cannot be read any more.
        """
        from wss.viz import indexed_png

        files: dict[str, bytes | None] = {".png": indexed_png(labels, self._predictor.palette)}
        if self._overlays:
            files["_overlay.png"] = self._overlay(self._read(source[1]).rgb, labels)
        return files

    def _read(self, given: Any) -> Picture:
        picture: Picture = read_picture(given, self._reading) if isinstance(given, Path) else given()
        return picture

    def _overlay(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
        from wss.viz import encode_png, overlay

        return encode_png(overlay(image, labels, self._predictor.palette, unpainted=self._predictor.background))

    def _segmented(
        self, name: str, image: NDArray[np.uint8], valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.uint8], dict[str, bytes | None]]:
        """Labels of an image, uint8 (H,W), 255 without data; and its files."""
        from wss.viz import indexed_png

        predictor = self._predictor
        labels = np.empty(image.shape[:2], np.uint8)
        with self._probs_file(name, labels.shape) as probs:
            for area, maps in predictor.parts(image):
                labels[area] = maps.argmax(0)
                if probs is not None:
                    probs[(slice(None), *area)] = maps
        if valid is not None:
            labels[~valid] = UNLABELLED
        if self._background is not None and name not in self._slices:
            labels[outside_largest(labels, self._background)] = self._background
        return labels, {".png": indexed_png(labels, predictor.palette), **self._others(image, labels)}

    def _others(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, bytes | None]:
        """The files beside the mask."""
        files: dict[str, bytes | None] = {}
        if self._overlays:
            files["_overlay.png"] = self._overlay(image, labels)
        if self._probs:
            files["_probs.npy"] = None
        return files

    @contextmanager
    def _probs_file(self, name: str, size: Sequence[int]) -> Iterator[NDArray[np.float16] | None]:
        """Yield an array that lies in the file of probabilities, float16 (K,H,W); None if they are not asked for."""
        if not self._probs:
            yield None
            return
        with replace_file(self._out / f"{name}_probs.npy") as temporary:
            shape = (len(self._predictor.classes), *size)
            maps = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            if hasattr(os, "posix_fallocate"):  # a write to a mapped file on a full disk would end the process
                with temporary.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            yield maps
            maps.flush()

    def _tiff(self, name: str, path: Path) -> dict[str, bytes | None]:
        """A TIFF: part by part if it is large. Its mask is a TIFF too if it is large or has a place on earth."""
        from wss.datasets.mask_files import write_mask_tiff
        from wss.datasets.tiff import geo_tags, open_tiff
        from wss.large_tiff import predict_tiff

        height, width = read_header(path).shape
        target = self._out / f"{name}.tif"
        if height * width > MAX_PIXELS:
            with self._probs_file(name, (height, width)) as probs:
                progress = partial(self._note, name)
                preview = predict_tiff(self._predictor, path, target, self._reading, probs=probs, progress=progress)
            return {".tif": None, **self._others(preview.rgb, preview.labels)}
        labels, files = self._segmented(name, *read_picture(path, self._reading))
        with open_tiff(path) as layout:
            geo = geo_tags(layout.page) if layout.orientation == 1 else []
        if geo:
            write_mask_tiff(target, [labels], labels.shape, self._predictor.palette, geo)
            files[".tif"] = None
        return files


def computed_in(network: Path, device: str, passes: int, sources: Sequence[tuple[str, Any]]) -> Precision:
    """Decide whether to segment in bfloat16, by noise of ``SIDE`` pixels a side.

    Args:
        network: The network's store.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        passes: Times that each image goes through the network.
        sources: Names and images, see ``Segmentation``. Large files count as many images of ``SIDE`` pixels a side.
    """
    import torch

    from wss.checkpoints import load_checkpoint
    from wss.precision import MIN_PASSES, decide_inference

    place = torch.device(device)

    def example() -> tuple[torch.nn.Module, torch.Tensor]:
        return load_checkpoint(network, device=device).model, 255 * torch.rand(1, 3, SIDE, SIDE, device=place)

    count = len(sources)
    for _, given in sources[:MIN_PASSES]:
        if isinstance(given, Path):
            with suppress(DataError):  # it is told when it is read
                height, width = read_header(given).shape
                count += height * width // SIDE**2
    return decide_inference("auto", place, passes * count, example)


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF
    except OSError:
        return False
