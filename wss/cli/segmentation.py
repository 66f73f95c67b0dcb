"""Segmenting one image at a time into the files to write, in any process of a run."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.images import MAX_PIXELS, PixelOptions, read_header, read_picture
from wss.errors import DataError

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
    ) -> None:
        self._network, self._device, self._test_time, self._out = network, device, test_time, out
        self._given, self._probs, self._overlays, self._amp = reading, probs, overlays, amp

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
            if not isinstance(given, Path):
                return self._segmented(*given())[1]
            if _is_tiff(given):
                return self._tiff(given, self._out / f"{name}.tif")
            return self._segmented(*read_picture(given, self._reading))[1]
        except DataError as error:
            return str(error)

    def _segmented(
        self, image: NDArray[np.uint8], valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.uint8], dict[str, bytes | None]]:
        """Labels of an image, uint8 (H,W), 255 without data; and the files of mask, overlay and probabilities."""
        from wss.viz import encode_png, indexed_png, overlay

        predictor = self._predictor
        maps = predictor.probabilities(image)
        labels = maps.argmax(0).astype(np.uint8)
        if valid is not None:
            labels[~valid] = 255
        files: dict[str, bytes | None] = {".png": indexed_png(labels, predictor.palette)}
        if self._overlays:
            drawn = overlay(image, labels, predictor.palette, unpainted=predictor.background)
            files["_overlay.png"] = encode_png(drawn)
        if self._probs:
            buffer = io.BytesIO()
            np.save(buffer, maps.astype(np.float16))
            files["_probs.npy"] = buffer.getvalue()
        return labels, files

    def _tiff(self, path: Path, target: Path) -> dict[str, bytes | None]:
        """A TIFF: by blocks if it is large; with a mask ``target`` as TIFF if it has a place on earth."""
        from wss.datasets.mask_files import write_mask_tiff
        from wss.datasets.tiff import geo_tags, open_tiff

        height, width = read_header(path).shape
        if height * width > MAX_PIXELS:
            return self._blocks(path, target)
        labels, files = self._segmented(*read_picture(path, self._reading))
        with open_tiff(path) as layout:
            geo = geo_tags(layout.page) if layout.orientation == 1 else []
        if geo:
            write_mask_tiff(target, [labels], labels.shape, self._predictor.palette, geo)
            files[".tif"] = None
        return files

    def _blocks(self, path: Path, target: Path) -> dict[str, bytes | None]:
        from wss.blocks import predict_blocks
        from wss.viz import encode_png, overlay

        if self._probs:
            message = "has too many pixels for a file of probabilities"
            raise FileProblem("too-large", path, message, "leave out --probs, or cut it into tiles (`wss data tile`)")
        predictor = self._predictor
        preview = predict_blocks(predictor, path, target, self._reading)
        files: dict[str, bytes | None] = {".tif": None}
        if self._overlays:
            drawn = overlay(preview.rgb, preview.labels, predictor.palette, unpainted=predictor.background)
            files["_overlay.png"] = encode_png(drawn)
        return files


def computed_in(network: Path, device: str, passes: int) -> Precision:
    """Decide what ``passes`` images are segmented in, by noise of ``SIDE`` pixels a side."""
    import torch

    from wss.checkpoints import load_checkpoint
    from wss.precision import decide_inference

    place = torch.device(device)

    def example() -> tuple[torch.nn.Module, torch.Tensor]:
        return load_checkpoint(network, device=device).model, 255 * torch.rand(1, 3, SIDE, SIDE, device=place)

    return decide_inference("auto", place, passes, example)


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF
    except OSError:
        return False
