"""The Berkeley segmentation data set (BSDS500): photographs with boundaries drawn by several people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.images import IMAGE_SUFFIXES, read_image
from wss.datasets.listing import is_hidden
from wss.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class BoundaryImage:
    """One photograph and its annotations, as files.

    Attributes:
        image_id: File name without ending.
        image: The photograph.
        truth: MATLAB file with its annotations.
    """

    image_id: str
    image: Path
    truth: Path

    def read(self) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]], list[NDArray[np.int64]]]:
        """The image uint8 (H,W,3); per annotator the boundaries, bool (H,W), and the segments, int64 (H,W) from 0.

        Raises:
            DataError: A file is missing or damaged, or image and annotations differ in size.
        """
        image = read_image(self.image)
        boundaries, segments = read_ground_truth(self.truth)
        if any(b.shape != image.shape[:2] for b in boundaries):
            raise FileProblem(
                "size-mismatch",
                self.truth,
                f"annotations {boundaries[0].shape} differ from the image's size {image.shape[:2]}",
                "download the data set again",
            )
        return image, boundaries, segments


def list_bsds(root: Path, *splits: str) -> list[BoundaryImage]:
    """The photographs of the given splits, sorted by file name within each split.

    Args:
        root: Folder with ``images/<split>/*.jpg`` and ``groundTruth/<split>/*.mat``; the published archive's
            ``BSDS500/data`` is found below it too.
        splits: ``train``, ``val``, ``test``.

    Raises:
        DataError: No such folder, or an image without annotations.
    """
    base = _base(root)
    photographs = []
    for split in splits:
        folder = base / "images" / split
        images = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(p.name)]
        if not images:
            known = sorted(p.name for p in (base / "images").glob("*") if p.is_dir())
            raise DataError(f"{folder}: no images of split {split!r}; splits here: {', '.join(known) or 'none'}")
        for path in images:
            truth = base / "groundTruth" / split / f"{path.stem}.mat"
            if not truth.is_file():
                raise FileProblem("missing-file", truth, f"no annotations of {path.name}", "download the set again")
            photographs.append(BoundaryImage(path.stem, path, truth))
    return photographs


def list_ground_truth(root: Path, split: str) -> dict[str, Path]:
    """Annotations of a split by image id, sorted; photographs are not needed.

    Args:
        root: See ``list_bsds``.
        split: ``train``, ``val`` or ``test``.

    Raises:
        DataError: No such folder, or no annotations in it.
    """
    folder = _base(root) / "groundTruth" / split
    files = {path.stem: path for path in sorted(folder.glob("*.mat")) if not is_hidden(path.name)}
    if not files:
        known = sorted({path.parent.name for path in folder.parent.glob("*/*.mat")})
        raise DataError(f"{folder}: no annotations of split {split!r}; splits here: {', '.join(known) or 'none'}")
    return files


def _base(root: Path) -> Path:
    places = [root, root / "data", root / "BSDS500" / "data"]
    base = next((place for place in places if (place / "groundTruth").is_dir()), None)
    if base is None:
        raise DataError(f"{root}: expected the folders images/ and groundTruth/ of BSDS500 in it; give its root")
    return base


def read_ground_truth(path: Path) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.int64]]]:
    """Read the boundaries, bool (H,W), and segments, int64 (H,W) with ids from 0, of all annotators from one MATLAB file.

    Raises:
        DataError: Missing, damaged, or without annotations of one size.
    """
    from scipy.io import loadmat

    try:
        content: Any = loadmat(path, variable_names=["groundTruth"])["groundTruth"]
        records = [cell[0, 0] for cell in content.ravel()]
        boundaries: list[NDArray[np.bool_]] = [np.asarray(record["Boundaries"]) > 0 for record in records]
        segments = [np.asarray(record["Segmentation"]).astype(np.int64) for record in records]
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such file", "download the data set again") from None
    except Exception as error:  # scipy raises many kinds of exceptions for damaged files
        raise FileProblem(
            "unreadable-label", path, f"expected groundTruth with Boundaries ({error})", "download it again"
        ) from error
    shapes = {a.shape for a in (*boundaries, *segments)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise FileProblem("unreadable-label", path, f"annotations of shapes {sorted(shapes)}", "download it again")
    return boundaries, [s - s.min() for s in segments]
