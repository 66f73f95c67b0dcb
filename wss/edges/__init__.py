"""Edge detectors: from images to edge maps in [0,1]."""

from wss.edges.build import DetectorParams, build_detector
from wss.edges.detector import Detect, EdgeMap, Image, averaged
from wss.edges.gradient import gradient_edges
from wss.edges.levels import edge_levels, edge_strengths
from wss.edges.network import network_detector
from wss.edges.structured import structured_forest
from wss.edges.suppression import suppress_non_maxima

__all__ = [
    "Detect",
    "DetectorParams",
    "EdgeMap",
    "Image",
    "averaged",
    "build_detector",
    "edge_levels",
    "edge_strengths",
    "gradient_edges",
    "network_detector",
    "structured_forest",
    "suppress_non_maxima",
]
