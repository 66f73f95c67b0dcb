"""Proposal of the next image to annotate: the network is uncertain about it, and it differs from annotated images."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.draw.pictures import Pictures
from wss.draw.project import Project, image_id
from wss.errors import WssError
from wss.stages.splits import evenly
from wss.store.atomic import write_text

LOOKED_AT = 300
"""Most images that are compared."""


class Proposer:
    """Proposes images.

    Args:
        project: Whose images.
        pictures: What they look like.
        annotated: Tells whether an image needs no annotation.
        doubts: Mean uncertainty of the last network by image, 0..1; empty without one.
    """

    def __init__(
        self,
        project: Project,
        pictures: Pictures,
        annotated: Callable[[str], bool],
        doubts: Callable[[], Mapping[str, float]],
    ) -> None:
        self._project, self._pictures, self._annotated, self._doubts = project, pictures, annotated, doubts
        self._path = project.cache / "looks.json"
        self._looks: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def next(self, after: str | None) -> dict[str, Any]:
        """The image to annotate, and one sentence that says why.

        Args:
            after: The image that is open; it is not proposed.
        """
        readable = [name for name in self._project.names if self._pictures.problem(name) is None]
        todo = [name for name in readable if name != after and not self._annotated(name)]
        done = [name for name in readable if self._annotated(name)]
        todo = self._looked_at(list(evenly(todo, LOOKED_AT)) if todo else [])
        done = self._looked_at(list(evenly(done, LOOKED_AT)) if done else [])
        if not todo:
            reason = "Every image that can be read has an annotation; correct predictions, or train longer."
            return {"image": None, "reason": reason}
        doubts = self._doubts()
        distances = novelty(self._described(todo), self._described(done))
        known = [name for name in todo if name in doubts]
        if known:
            values = np.array([doubts.get(name, 0.0) for name in todo])
            best = int((values * (0.5 + distances / max(float(distances.max()), 1e-9))).argmax())
            rank = int((values > values[best]).sum()) + 1
            reason = (
                f"The network is unsure about {100 * values[best]:.0f} % of it on average (place {rank} of {len(todo)} images), "
                f"and it looks {_how(distances, best)} the annotated ones."
            )
        elif done:
            best = int(distances.argmax())
            reason = (
                f"Its colours and edges differ most from the {len(done)} annotated images; no network is trained yet."
            )
        else:
            best = 0
            reason = "Nothing is annotated yet: begin with the first image."
        return {"image": image_id(todo[best]), "reason": reason}

    def _described(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Colour and edges of images that were looked at, float64 (N,D)."""
        return np.array([self._looks[image_id(name)] for name in names], np.float64)

    def _looked_at(self, names: Sequence[str]) -> list[str]:
        """Look at images, and give those that can be read. Looks are kept on disk: every image has to be opened once."""
        with self._lock:
            if not self._looks:
                try:
                    self._looks = json.loads(self._path.read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    self._looks = {}
            missing = [name for name in names if image_id(name) not in self._looks]
            for name in missing:
                with contextlib.suppress(WssError):  # the page tells why, beside the image
                    self._looks[image_id(name)] = look(np.asarray(self._pictures.pyramid(name).levels[-1])).tolist()
            if missing:
                with contextlib.suppress(WssError):  # a full disk, say: they are looked at again after the next start
                    write_text(self._path, json.dumps(self._looks), flush=False)
            return [name for name in names if image_id(name) in self._looks]


def look(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histograms of the CIELAB channels and of gradient strengths in four quarters, float64 (D,).

    Args:
        image: uint8 (H,W,3), small.
    """
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    grey = lab[..., 0].astype(np.float32)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    parts = [np.histogram(lab[..., channel], 16, (0, 256))[0] / lab[..., 0].size for channel in range(3)]
    rows, columns = np.array_split(np.arange(grey.shape[0]), 2), np.array_split(np.arange(grey.shape[1]), 2)
    for r in rows:
        for c in columns:
            quarter = strength[np.ix_(r, c)]
            parts.append(np.histogram(quarter, 8, (0, 512))[0] / max(1, quarter.size))
    return np.sqrt(np.concatenate(parts))  # Hellinger's distance between histograms


def novelty(candidates: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each candidate (N,D) to the nearest of the known ones (M,D); 1 where nothing is known."""
    if not len(known):
        return np.ones(len(candidates))
    squares = (candidates**2).sum(1)[:, None] + (known**2).sum(1) - 2 * candidates @ known.T
    nearest: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0)).min(1)
    return nearest


def _how(distances: NDArray[np.float64], index: int) -> str:
    share = float((distances <= distances[index]).mean())
    return "very different from" if share > 0.75 else "different from" if share > 0.4 else "much like"
