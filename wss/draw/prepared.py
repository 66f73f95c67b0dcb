"""Data of an image that propagation needs and strokes do not change: edges, superpixels, the walk's grid. Kept on disk."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wss.blocks import BLOCK, blocks
from wss.draw.painting import Window
from wss.draw.pictures import Pictures
from wss.draw.project import Project
from wss.edges import edge_levels, edge_strengths
from wss.edges.build import DetectorParams, build_detector
from wss.ops.hitting_coarse import CoarseHitting
from wss.propagation import RandomWalk
from wss.store.atomic import replace_file
from wss.superpixels import Felzenszwalb

What = Literal["edges", "superpixels"]

NODES = 45_000
"""Nodes of the walk's grid: about 40 ms of one core."""
WALK = RandomWalk(nodes=NODES)
"""As ``wss propagate --method random-walk --edges embedded --set propagate.method.nodes=45000``."""
_KEPT = 8
_VERSION = 1


@dataclass(frozen=True)
class Part:
    """An image, or the part of a large one that is worked on.

    Attributes:
        name: The image.
        window: The part.
        level: Level of the image's pyramid that is worked on; 0 unless it is the whole of a large image.
    """

    name: str
    window: Window
    level: int = 0

    @property
    def scale(self) -> int:
        """Pixels of the image along a side of a pixel that is worked on."""
        return int(2**self.level)


class Prepared:
    """Computes in one thread in the background, the newest request first.

    Args:
        project: Whose images.
        pictures: Their pixels.
    """

    def __init__(self, project: Project, pictures: Pictures) -> None:
        self._project, self._pictures = project, pictures
        self._pool = ThreadPoolExecutor(1, "prepare")
        self._futures: dict[tuple[Part, What], Future[NDArray[Any]]] = {}
        self._walks: OrderedDict[Part, CoarseHitting] = OrderedDict()
        self._lock = threading.Lock()
        self._computing: tuple[str, What] | None = None

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def computing(self) -> list[dict[str, str]]:
        """The image that is computed now, and the images that wait."""
        with self._lock:
            waiting = [(part.name, what) for (part, what), future in self._futures.items() if not future.done()]
        return [{"name": name, "what": what} for name, what in waiting]

    def image(self, part: Part) -> NDArray[np.uint8]:
        """The pixels of a part, or of the reduced copy of the whole, uint8 (H,W,3)."""
        if part.level:
            return np.ascontiguousarray(self._pictures.pyramid(part.name).levels[part.level])
        x, y, width, height = part.window
        return np.ascontiguousarray(self._pictures.rgb(part.name)[y : y + height, x : x + width])

    def request(self, part: Part, what: What) -> Future[NDArray[Any]]:
        """Compute in the background: edges float32 (H,W) in 0..1, or superpixels int32 (H,W)."""
        key = (part, what)
        with self._lock:
            future = self._futures.get(key)
            if future is None or (future.done() and future.exception() is not None):
                future = self._futures[key] = self._pool.submit(self._made, part, what)
                done = [k for k, f in self._futures.items() if f.done() and k != key]
                for old in done[: max(0, len(self._futures) - 2 * _KEPT)]:
                    del self._futures[old]
            return future

    def ready(self, part: Part, what: What) -> NDArray[Any] | None:
        """The result if it is there, or on disk."""
        with self._lock:
            future = self._futures.get((part, what))
        if future is not None and future.done() and future.exception() is None:
            return future.result()
        if future is None and self._path(part, what).exists():
            return self.request(part, what).result()
        return None

    def walk(self, part: Part, edges: NDArray[Any]) -> CoarseHitting:
        """The grid of the walk around edges."""
        with self._lock:
            if part in self._walks:
                self._walks.move_to_end(part)
                return self._walks[part]
        made = WALK.prepared(self.image(part), edges)
        with self._lock:
            self._walks[part] = made
            while len(self._walks) > _KEPT:
                self._walks.popitem(last=False)
        return made

    def _edges(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Edges in 0..255; of large parts block by block, so that memory stays small."""
        if image.shape[0] * image.shape[1] <= BLOCK**2:
            return self._edges_of_block(image)
        edges = np.empty(image.shape[:2], np.uint8)
        for block in blocks(*image.shape[:2]):
            edges[block.inside] = self._edges_of_block(np.ascontiguousarray(image[block.seen]))[block.kept]
        return edges

    def _edges_of_block(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return edge_levels(self._detector(image).clip(0, 1))

    @cached_property
    def _detector(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        return build_detector(DetectorParams(), torch.device("cpu"))

    def _made(self, part: Part, what: What) -> NDArray[Any]:
        path = self._path(part, what)
        try:
            stored: NDArray[Any] = np.load(path, allow_pickle=False)["values"]
        except (OSError, ValueError, KeyError, EOFError):
            if what == "edges":
                stored = self._edges(self.image(part))
            else:
                stored = np.asarray(Felzenszwalb().segment(self.image(part)), np.int32)
            with replace_file(path, flush=False) as temporary, temporary.open("wb") as out:
                np.savez_compressed(out, values=stored)
        return edge_strengths(stored) if what == "edges" else stored

    def _path(self, part: Part, what: What) -> Path:
        file = self._project.file(part.name)
        state = None if file is None else file.stat()
        stamp = f"{part.name!a} {part.window} {_VERSION} {part.level or ''} " + (
            f"{state.st_size} {state.st_mtime_ns}" if state is not None else ""
        )
        return self._project.cache / what / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.npz"
