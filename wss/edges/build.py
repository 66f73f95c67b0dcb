"""From settings to a detector."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from wss.edges.detector import Detect, EdgeMap, Image, averaged
from wss.edges.gradient import gradient_edges
from wss.edges.network import network_detector
from wss.edges.structured import structured_forest
from wss.edges.suppression import suppress_non_maxima
from wss.errors import DataError
from wss.networks.hed import HED, Alignment
from wss.networks.hed_weights import load_hed
from wss.networks.small_edges import SmallEdgeNet, load_small
from wss.params import LOCAL, Params

EMBEDDED = Path(__file__).parent / "weights" / "embedded.pt"
"""Weights of the small network that come with the package; ``embedded.md`` beside it tells where they come from."""


class DetectorParams(Params):
    """Which detector, and how it is applied."""

    detector: Literal["embedded", "hed", "structured", "gradient"] = "embedded"
    """``embedded`` and ``hed`` are networks, ``structured`` OpenCV's forests, ``gradient`` needs no learning."""
    weights: str | None = Field(default=None, json_schema_extra=LOCAL)
    """File of weights: HED's, OpenCV's model of forests, or another small network's in place of the shipped one."""
    alignment: Alignment = "caffe"
    """HED's geometry: the published one, or that of the common PyTorch conversion."""
    scales: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5), min_length=1)
    """Factors on the image's sides whose edge maps are averaged. Where they are not given, other detectors than ``embedded`` see
    the image at its own size only."""
    flip: bool = False
    """Average with the mirrored image."""
    nms: bool = False
    """Keep ridges only, one pixel wide."""

    @model_validator(mode="before")
    @classmethod
    def _own_size(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("detector", "embedded") != "embedded":
            return {"scales": (1.0,)} | given
        return given

    @model_validator(mode="after")
    def _weights_fit(self) -> DetectorParams:
        if any(not 0 < scale <= 8 for scale in self.scales):
            raise ValueError("scales are factors above 0 and up to 8")
        if self.detector in ("hed", "structured") and self.weights is None:
            raise ValueError(
                f"detector {self.detector!r} comes without weights; give a file (`wss edges --weights FILE`, or --set "
                "edges.weights=FILE)"
            )
        if self.detector == "gradient" and self.weights is not None:
            raise ValueError("detector 'gradient' has no weights")
        if self.detector != "hed" and self.alignment != "caffe":
            raise ValueError("alignment is about the detector 'hed' only")
        return self

    @property
    def file(self) -> Path | None:
        """The file of weights, given or shipped."""
        if self.detector == "embedded" and self.weights is None:
            return EMBEDDED
        return None if self.weights is None else Path(self.weights)

    def digest(self) -> str | None:
        """SHA-256 of the weights.

        Raises:
            DataError: No such file.
        """
        if self.file is None:
            return None
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"weights {self.file}: cannot be read ({error})") from error


def build_detector(params: DetectorParams, device: torch.device | None = None) -> Detect:
    """The detector with scales, mirroring and suppression.

    Args:
        params: See ``DetectorParams``.
        device: Where a network runs; the CPU by default.

    Raises:
        DataError: The weights are missing, damaged or of another network.
        UsageError: OpenCV lacks structured forests.
    """
    detect = _single(params, device)

    def apply(image: Image) -> EdgeMap:
        edges = averaged(detect, image, scales=params.scales, flip=params.flip)
        return suppress_non_maxima(edges) if params.nms else edges

    return apply


def _single(params: DetectorParams, device: torch.device | None) -> Detect:
    if params.file is None:
        return gradient_edges
    if params.detector == "structured":
        return structured_forest(params.file)
    if params.detector == "hed":
        hed = HED(params.alignment)
        load_hed(hed, params.file)
        return network_detector(hed, device)
    small = SmallEdgeNet()
    load_small(small, params.file)
    return network_detector(small, device)
