"""Inference on whole images: several scales, horizontal flip, sliding window."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from wss.blocks import WHOLE, Area, blocks
from wss.errors import DataError, UsageError
from wss.params import LATER, Params


class WalkParams(Params):
    """One step of a lazy random walk on the features before the classifier: f <- (alpha P f + f) / (1 + alpha).

    P = softmax(scale c) over rows, with c the cosines of pairs of features. It needs no training, so it works with any
    network.

    Source: none; an option of this toolkit. The random walk of the paper RW-SS takes part in training (method ``rw-ss``).
    """

    stride: Literal[4, 8, 16, 32] = 8
    """Side in pixels of the cells between which features walk. Networks with a larger stride use their own."""
    scale: float = Field(default=5.0, gt=0)
    """Factor of the cosines. A larger value restricts the walk to more similar features."""
    alpha: float = Field(default=0.5, ge=0)
    """Weight of the step. A larger value smooths features more; 0 changes nothing."""


@runtime_checkable
class Walks(Protocol):
    """A model that can apply a random walk to its features before they are classified."""

    def walk_before_classifying(self, *, stride: int, scale: float, alpha: float) -> None:
        """Insert one step of a lazy walk before the last classifier."""


class InferenceParams(Params):
    """Settings of inference at test time."""

    scales: tuple[Annotated[float, Field(ge=0.05, le=8)], ...] = Field(default=(1.0,), min_length=1)
    """Image scales whose probabilities are averaged. Each scale adds to the time."""
    flip: bool = False
    """Average with the probabilities of the mirrored image. It doubles the time."""
    window: int | None = Field(default=None, ge=16)
    """Side of a sliding window in pixels of the scaled image. None processes the whole image at once."""
    overlap: float = Field(default=1 / 3, ge=0, lt=1)
    """Share of a window that the next window overlaps. A larger value takes more time."""
    walk: WalkParams | None = Field(default=None, json_schema_extra=LATER)
    """One step of a random walk on the features before they are classified. ``true`` uses the default settings. None:
    no walk."""

    @property
    def passes(self) -> int:
        """Number of forward passes per image."""
        return len(self.scales) * (2 if self.flip else 1)

    @field_validator("walk", mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value


class Predictor:
    """A trained network for images of any size.

    Args:
        model: Model from RGB (B,3,H,W) in 0..255 to logits (B,K,H,W).
        classes: Class names by index.
        palette: Colours of the classes, uint8 (K,3).
        device: Device of the model.
        test_time: Scales, flip, window and random walk. With a walk the predictor uses a copy of the model.
        amp: Autocast to bfloat16.
        background: Index of the background class, which overlays do not paint, or None.

    Raises:
        UsageError: ``test_time`` has a walk, but the model does not support it.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        palette: NDArray[np.uint8],
        device: torch.device,
        test_time: InferenceParams | None = None,
        amp: bool = False,
        background: int | None = None,
    ) -> None:
        walk = test_time.walk if test_time else None
        self.model = (model if walk is None else _walking(model, walk)).to(device).eval()
        self.classes = tuple(classes)
        self.palette = palette
        self.device = device
        self.test_time = test_time or InferenceParams()
        self.amp = amp
        self.background = background

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels, uint8 (H,W), of an RGB image, uint8 (H,W,3).

        Raises:
            DataError: The image has another type or shape.
        """
        _check(image)
        labels = np.empty(image.shape[:2], np.uint8)
        for area, maps in self.parts(image):
            labels[area] = maps.argmax(0)
        return labels

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 (K,H,W), of an RGB image, uint8 (H,W,3): the mean over scales and flips.

        Raises:
            DataError: The image has another type or shape.
        """
        _check(image)
        if image.shape[0] * image.shape[1] <= WHOLE:
            return self._whole(image)
        result = np.empty((len(self.classes), *image.shape[:2]), np.float32)
        for area, maps in self.parts(image):
            result[(slice(None), *area)] = maps
        return result

    def parts(self, image: NDArray[np.uint8]) -> Iterator[tuple[Area, NDArray[np.float32]]]:
        """Class probabilities part by part, so that memory does not grow with the size of the image.

        Args:
            image: RGB, uint8 (H,W,3). Images with more than 4 million pixels are processed in blocks (``wss.blocks``).

        Yields:
            Rows and columns of a part, and its probabilities, float32 (K,h,w). Parts cover the image without overlap.

        Raises:
            DataError: The image has another type or shape.
        """
        _check(image)
        height, width = image.shape[:2]
        if height * width <= WHOLE:
            yield (slice(0, height), slice(0, width)), self._whole(image)
            return
        for block in blocks(height, width):
            yield block.inside, self._whole(image[block.seen])[(slice(None), *block.kept)]

    def _whole(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        rgb = as_tensor(image, self.device)
        size = rgb.shape[2:]
        total = torch.zeros((), device=self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            for scale in self.test_time.scales:
                scaled = rgb if scale == 1 else _resize(rgb, [max(1, round(side * scale)) for side in size])
                for flipped in (False, True) if self.test_time.flip else (False,):
                    logits = self._logits(scaled.flip(3) if flipped else scaled)
                    logits = logits.flip(3) if flipped else logits
                    total = total + _resize(logits.float(), size).softmax(1)
        probs = total[0] / total[0].sum(0)
        result: NDArray[np.float32] = probs.cpu().numpy()
        return result

    def _logits(self, rgb: Tensor) -> Tensor:
        window = self.test_time.window
        height, width = rgb.shape[2:]
        if window is None or (height <= window and width <= window):
            logits: Tensor = self.model(rgb)
            return logits
        total, count = None, torch.zeros(1, 1, height, width, device=rgb.device)
        for top in _positions(height, window, self.test_time.overlap):
            for left in _positions(width, window, self.test_time.overlap):
                area = (slice(None), slice(None), slice(top, top + window), slice(left, left + window))
                part = self.model(rgb[area]).float()
                if total is None:
                    total = torch.zeros(1, part.shape[1], height, width, device=rgb.device)
                total[area] += part
                count[area] += 1
        if total is None:
            raise RuntimeError("a window grid is never empty")
        return total / count


def as_tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Convert an image (H,W,3) to the input of networks, float32 (1,3,H,W)."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()


def _walking(model: nn.Module, walk: WalkParams) -> nn.Module:
    """A copy of the model with a random walk before the classifier."""
    if not isinstance(model, Walks):
        raise UsageError(
            f"test_time.walk needs a network with a classifier on features, but {type(model).__name__} has none: "
            "leave test_time.walk out"
        )
    model = copy.deepcopy(model)
    model.walk_before_classifying(stride=walk.stride, scale=walk.scale, alpha=walk.alpha)
    return model


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    if list(maps.shape[2:]) == list(size):
        return maps
    return functional.interpolate(maps, list(size), mode="bilinear", align_corners=False)


def _positions(length: int, window: int, overlap: float) -> list[int]:
    """Start positions of windows that cover ``length`` evenly with at least the given overlap."""
    if length <= window:
        return [0]
    count = math.ceil((length - window) / (window * (1 - overlap))) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _check(image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray):
        raise DataError(f"expected an RGB image as an array, uint8 (H,W,3), got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"expected an RGB image as uint8 (H,W,3) with values 0 to 255, got {image.dtype} {image.shape}")
