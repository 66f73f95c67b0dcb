"""Build an edge detector from its settings."""

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
"""Weights of the small network in the package; ``embedded.md`` in the same folder describes their origin."""


class DetectorParams(Params):
    """Edge detector and the way it is applied."""

    detector: Literal["embedded", "hed", "structured", "gradient"] = "embedded"
    """Detector. ``embedded``: the small network in the package. ``hed``: the network HED. ``structured``: OpenCV's
    structured forests. ``gradient``: colour gradients, without learning."""
    weights: str | None = Field(default=None, json_schema_extra=LOCAL)
    """File with weights: of HED, of OpenCV's structured forests, or of a small network that replaces the one in the
    package."""
    alignment: Alignment = "caffe"
    """Geometry of HED: the published one (``caffe``), or that of the common PyTorch conversion."""
    scales: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5), min_length=1)
    """Scales of the image whose edge maps are averaged. The default of detectors other than ``embedded`` is 1 only."""
    flip: bool = False
    """Average with the edge map of the mirrored image."""
    nms: bool = False
    """Non-maximum suppression: keep only ridges, one pixel wide."""

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
                f"detector {self.detector!r} has no weights in the package; give a file "
                "(`wss edges --weights FILE`, or --set edges.weights=FILE)"
            )
        if self.detector == "gradient" and self.weights is not None:
            raise ValueError("detector 'gradient' has no weights")
        if self.detector != "hed" and self.alignment != "caffe":
            raise ValueError("alignment is a setting of the detector 'hed' only")
        return self

    @property
    def file(self) -> Path | None:
        """The file with weights: the given file or the one in the package."""
        if self.detector == "embedded" and self.weights is None:
            return EMBEDDED
        return None if self.weights is None else Path(self.weights)

    def digest(self) -> str | None:
        """SHA-256 of the weights.

        Raises:
            DataError: The file cannot be read.
        """
        if self.file is None:
            return None
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"weights {self.file}: cannot be read ({error})") from error


def build_detector(params: DetectorParams, device: torch.device | None = None) -> Detect:
    """Build the detector with its scales, mirroring and non-maximum suppression.

    Args:
        params: See ``DetectorParams``.
        device: Device of a network; the CPU by default.

    Raises:
        DataError: The weights are missing, damaged or from another network.
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
