"""Structured forests, from OpenCV's contributed modules."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wss.edges.detector import Detect, EdgeMap, Image
from wss.errors import DataError, UsageError


def structured_forest(model: Path) -> Detect:
    """Make a detector from a structured forest in OpenCV's format (``model.yml.gz``).

    Raises:
        UsageError: OpenCV was built without its contributed modules.
        DataError: The file is missing or is not such a model.

    Source: Dollar and Zitnick 2015, arXiv:1406.5549, in ``cv2.ximgproc``.
    """
    if not hasattr(cv2, "ximgproc"):
        raise UsageError(
            f"the detector 'structured' needs cv2.ximgproc, which this OpenCV {cv2.__version__} lacks: "
            "pip uninstall opencv-python-headless, then pip install opencv-contrib-python-headless; or take --detector embedded"
        )
    if not model.is_file():
        raise DataError(f"weights {model}: no such file; give OpenCV's model.yml.gz of structured forests")
    try:
        forest = cv2.ximgproc.createStructuredEdgeDetection(str(model))
    except cv2.error as error:
        raise DataError(f"weights {model}: OpenCV cannot read a structured forest from it ({error.err})") from error

    def detect(image: Image) -> EdgeMap:
        edges: EdgeMap = forest.detectEdges(image.astype(np.float32) / 255)
        return np.clip(edges, 0, 1)

    return detect
