"""Interface of propagation algorithms: settings, and one function from an image and its scribbles to labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.params import Params

Extra = Literal["superpixels", "probs", "edges", "features"]
"""Inputs that an algorithm may read besides image and scribble."""


@dataclass(frozen=True)
class Proposal:
    """Labels propagated from scribbles.

    Attributes:
        labels: uint8 (H,W), 255 where the algorithm gives no label.
        doubt: float64 (H,W) in 0..1, 1 minus the probability of the label; 0 = certain. None if the algorithm has no
            doubt.
        margin: float32 (h,w) in 0..1, probability of the label minus that of the second-best class. It is given on the
            grid of the algorithm, which covers the image and can be coarser than the pixels. None if the algorithm has
            no margin.
        scale: Side of a node of this grid in pixels; 1 = every pixel.
    """

    labels: NDArray[np.uint8]
    doubt: NDArray[np.float64] | None = None
    margin: NDArray[np.float32] | None = None
    scale: int = 1


class Propagation(Params, ABC):
    """Settings and behaviour of one algorithm that propagates the scribbles of one image over it, without training.

    All algorithms guarantee: scribbled pixels keep their labels. Only classes that are scribbled in the image occur. An
    image without any scribble is 255 everywhere. If only one class is scribbled, every labelled pixel has it. Equal
    arguments give equal results.
    """

    name: str
    summary: ClassVar[str]
    """One line for help texts."""
    needs: ClassVar[frozenset[Extra]] = frozenset()
    """Extras that the algorithm requires."""
    accepts: ClassVar[frozenset[Extra]] = frozenset()
    """Optional extras, used if they are given."""

    def propagate(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        num_classes: int,
        *,
        superpixels: NDArray[Any] | None = None,
        probs: NDArray[Any] | None = None,
        edges: NDArray[Any] | None = None,
        features: NDArray[Any] | None = None,
    ) -> Proposal:
        """Propagate the scribbles of one image.

        Args:
            image: uint8 (H,W,3), RGB.
            scribble: uint8 (H,W), class indices and 255 = unlabelled.
            num_classes: K.
            superpixels: Integers (H,W), contiguous ids from 0.
            probs: Floating point (K,H,W), a network's probabilities.
            edges: Floating point (H,W), an edge map in 0..1.
            features: Floating point (C,h,w), a network's features of cells that cover the image.

        Returns:
            Labels and, if the algorithm has it, doubt.

        Raises:
            UsageError: An extra that the algorithm needs is missing.
            DataError: Shapes disagree, a scribble label is not a class, or probabilities or edges are out of range.
        """
        named: dict[Extra, NDArray[Any] | None] = {
            "superpixels": superpixels,
            "probs": probs,
            "edges": edges,
            "features": features,
        }
        extras = {name: value for name, value in named.items() if value is not None}
        for name in sorted(self.needs - set(extras)):
            raise UsageError(f"propagation {self.name!r} needs {name}, but none are given")
        _check(image, scribble, num_classes, extras)
        labelled = scribble != UNLABELLED
        present = np.unique(scribble[labelled])
        if not len(present):
            return Proposal(np.full(scribble.shape, UNLABELLED, np.uint8))
        proposal = self._spread(np.ascontiguousarray(image), np.ascontiguousarray(scribble), present, extras)
        doubt = proposal.doubt
        return replace(
            proposal,
            labels=np.where(labelled, scribble, proposal.labels),
            doubt=None if doubt is None else np.where(labelled, 0.0, doubt),
        )

    @abstractmethod
    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        """Implement ``propagate`` for checked arguments with at least one scribbled pixel.

        ``present`` are the scribbled classes, ascending. The caller restores the labels of scribbled pixels afterwards.
        """


def _check(image: NDArray[Any], scribble: NDArray[Any], num_classes: int, extras: Mapping[Extra, NDArray[Any]]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"propagation: expected an image as uint8 (H, W, 3), got {image.dtype} {image.shape}")
    size = image.shape[:2]
    if scribble.dtype != np.uint8 or scribble.shape != size:
        raise DataError(
            f"propagation: the image is {size}; expected scribbles as uint8 of that size, got {scribble.dtype} "
            f"{scribble.shape}"
        )
    wrong = scribble[(scribble >= num_classes) & (scribble != UNLABELLED)]
    if wrong.size:
        raise DataError(
            f"propagation: scribbles hold label {wrong[0]}, but the {num_classes} classes are 0 to {num_classes - 1} and "
            f"{UNLABELLED} is unlabelled"
        )
    shapes: dict[Extra, tuple[int, ...]] = {"superpixels": size, "probs": (num_classes, *size), "edges": size}
    for name, values in extras.items():
        if name == "features":
            if values.ndim != 3 or values.dtype.kind != "f" or not np.isfinite(values).all():
                raise DataError(
                    f"propagation: expected features as finite numbers (C, h, w), got {values.dtype} {values.shape}"
                )
            continue
        kind = "integers" if name == "superpixels" else "floating point"
        if values.shape != shapes[name] or values.dtype.kind not in ("iu" if name == "superpixels" else "f"):
            raise DataError(f"propagation: expected {name} as {kind} {shapes[name]}, got {values.dtype} {values.shape}")
        if name == "superpixels" and values.min(initial=0) < 0:
            raise DataError("propagation: superpixels must have ids from 0; a pixel without superpixel has no label")
        if name != "superpixels" and not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1.01):
            raise DataError(f"propagation: {name} must be in 0..1; look for a diverged network or another scale")
