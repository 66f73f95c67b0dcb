"""Masks while one draws: quick answers first, nothing computed for questions that nobody asks any more."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from wss.draw import limits, png
from wss.draw.annotations import Annotations
from wss.draw.labels import Labels
from wss.draw.painting import Window
from wss.draw.prepared import WALK, Part, Prepared
from wss.draw.project import Project
from wss.draw.refusals import Refused
from wss.draw.stored import StoredFeatures
from wss.errors import WssError
from wss.labels import UNLABELLED
from wss.propagation import DenseCRF, FeatureHead, GrabCut, GraphCut, Propagation, Proposal, Superpixel
from wss.propagation.reduced import propagate_reduced, reduction

METHODS: dict[str, tuple[str, Propagation]] = {
    "random-walk": ("Random walk around edges", WALK),
    "graph-cut": ("Graph cut on superpixels", GraphCut()),
    "superpixel": ("Superpixels", Superpixel()),
    "densecrf": ("Dense CRF", DenseCRF()),
    "grabcut": ("GrabCut", GrabCut()),
    "features": ("Classifier on stored features", FeatureHead()),
}
"""What the page can choose, with the settings of the command line."""
_SLOW = 60_000
"""Pixels from which the CRF and GrabCut show a reduced copy first."""
_QUICK = 150_000
"""Pixels of the copy that the walk shows while edges are computed."""
_NO_FEATURES = "no features are stored of the image; train with the pipeline pce-features first"
_TOO_LARGE = f"this method takes images of up to {limits.WHOLE // 10**6} million pixels; choose another method"
_KEPT = 16
_TABS = 256


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        name: The image.
        method: How.
        window: Which part, as the page wishes; None leaves it to the server.
        tab: Who asks.
        ticket: Number of the question; a higher one of the same tab makes it stale.
        coarse: Whether a quick answer is wanted first.
    """

    name: str
    method: str
    window: Window | None
    tab: str
    ticket: int
    coarse: bool = True


@dataclass(frozen=True)
class Found:
    """An answer, kept for those who accept it."""

    revision: int
    window: Window
    proposal: Proposal


class Propagator:
    """Answers questions.

    Args:
        project: Classes.
        annotations: What is drawn.
        labels: The same as label images.
        prepared: What was computed of the images.
    """

    def __init__(self, project: Project, annotations: Annotations, labels: Labels, prepared: Prepared) -> None:
        self._project, self._annotations, self._labels, self._prepared = project, annotations, labels, prepared
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._found: OrderedDict[tuple[str, str], Found] = OrderedDict()
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(2)
        self._features = StoredFeatures(project)

    def methods(self) -> list[dict[str, Any]]:
        """Propagation methods that the page offers."""
        why_not = None if self._features.any() else _NO_FEATURES
        return [
            {
                "name": name,
                "title": title,
                "ready": name != "features" or why_not is None,
                "why_not": why_not if name == "features" else None,
                "default": name == "random-walk",
            }
            for name, (title, _) in METHODS.items()
        ]

    def ask(self, name: str, body: dict[str, Any]) -> Asked:
        """Check a question and make older ones of its tab stale.

        Raises:
            Refused: It is malformed.
        """
        method, tab, ticket = body.get("method", "random-walk"), body.get("tab"), body.get("ticket")
        if not isinstance(method, str) or method not in METHODS:
            raise Refused(400, "there is no such method; reload the page")
        if not isinstance(tab, str) or not 0 < len(tab) <= 64 or type(ticket) is not int or not 0 <= ticket < 2**53:
            raise Refused(400, "expected tab as a short text and ticket as a number")
        asked = Asked(name, method, window_of(body.get("region")), tab, ticket, body.get("coarse", True) is not False)
        with self._lock:
            self._newest[tab] = max(ticket, self._newest.get(tab, 0))
            self._newest.move_to_end(tab)
            while len(self._newest) > _TABS:
                self._newest.popitem(last=False)
        return asked

    def stale(self, asked: Asked) -> bool:
        """True if the same tab has sent a newer request."""
        return self._newest.get(asked.tab, 0) > asked.ticket

    async def answers(self, asked: Asked) -> AsyncIterator[bytes]:
        """Lines of JSON, see PROTOCOL.md."""
        begun = time.perf_counter()
        try:
            steps = self._steps(asked)
            while True:
                if self.stale(asked):
                    yield _line({"kind": "stale"})
                    return
                answer = await run_in_threadpool(self._next, steps)
                if answer is None:
                    return
                if "future" in answer:  # superpixels or edges are still being computed
                    future = asyncio.wrap_future(answer["future"])
                    while not future.done() and not self.stale(asked):
                        await asyncio.wait([future], timeout=0.1)
                    continue
                yield _line({**answer, "ms": round(1000 * (time.perf_counter() - begun), 1)})
        except WssError as error:
            yield _line({"kind": "error", "error": str(error)})
        except MemoryError:
            yield _line({"kind": "error", "error": "not enough memory; close other programs"})

    def result(self, name: str, method: str, window: Window | None = None) -> Found:
        """The full answer to the newest annotation, computed if nobody asked for it yet.

        Raises:
            Refused: There is nothing to spread.
        """
        if not isinstance(method, str) or method not in METHODS:
            raise Refused(400, "there is no such method; reload the page")
        revision = self._annotations.document(name)["revision"]
        part, labels = self._worked_on(name, window)
        kept = self._found.get((name, method))
        if kept is not None and kept.revision == revision and kept.window == part.window:
            return kept
        if len(_present(labels)) < 2:
            raise Refused(400, "draw in two classes at least, so that there is something to decide")
        needs = METHODS[method][1]
        edges = self._prepared.request(part, "edges").result() if method == "random-walk" else None
        cells = self._prepared.request(part, "superpixels").result() if "superpixels" in needs.needs else None
        return self._keep(name, method, Found(revision, part.window, self._full(part, method, labels, edges, cells)))

    def part(self, name: str, window: Window | None) -> Part:
        """The part of an image that is worked on: all of it, or, of a large one, what was asked for or a reduced copy."""
        height, width = self._labels.shape(name)
        if height * width <= limits.WHOLE:
            return Part(name, Window(0, 0, width, height))
        if window is None:
            level = next(n for n in count(1) if -(-height // 2**n) * -(-width // 2**n) <= limits.WHOLE)
            return Part(name, Window(0, 0, width, height), level)
        x, y, wide, high = window
        left, wide = _section(x + wide / 2, width)
        top, high = _section(y + high / 2, height)
        return Part(name, Window(left, top, wide, high))

    def _worked_on(self, name: str, window: Window | None) -> tuple[Part, NDArray[np.uint8]]:
        """The part to work on and what is drawn in it: where one class or none is drawn in it, a reduced copy of the whole."""
        part = self.part(name, window)
        labels = self._drawn(part)
        if window is None or len(_present(labels)) >= 2 or part == (whole := self.part(name, None)):
            return part, labels
        return whole, self._drawn(whole)

    def _drawn(self, part: Part) -> NDArray[np.uint8]:
        """Annotation of a part of the image, at the resolution of the propagation."""
        return self._labels.reduced(part.name, part.scale) if part.level else self._labels.drawn(part.name, part.window)

    def _next(self, steps: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        with self._places:
            return next(steps, None)

    def _steps(self, asked: Asked) -> Iterator[dict[str, Any]]:
        """Answers one after the other, or what has to be waited for."""
        revision = self._annotations.document(asked.name)["revision"]
        part, labels = self._worked_on(asked.name, asked.window)
        if len(_present(labels)) < 2:
            yield {"kind": "nothing", "why": "draw in two classes at least; then the mask appears"}
            return
        method = METHODS[asked.method][1]
        cells = edges = None
        if asked.method == "random-walk":
            edges = self._prepared.ready(part, "edges")
            if edges is None:
                future = self._prepared.request(part, "edges")
                if asked.coarse:  # around the gradient of a reduced copy
                    yield self._answer("coarse", asked, revision, part, self._reduced(part, WALK, labels, _QUICK))
                while not future.done():
                    yield {"future": future}
                edges = future.result()
        elif "superpixels" in method.needs:
            cells = self._prepared.ready(part, "superpixels")
            if cells is None:
                future = self._prepared.request(part, "superpixels")
                while not future.done():
                    yield {"future": future}
                cells = future.result()
        elif "features" in method.needs:
            if self._features.map(part) is None:
                yield {"kind": "nothing", "why": self._no_features(part)}
                return
        elif asked.coarse and labels.size > _SLOW:
            yield self._answer("coarse", asked, revision, part, self._reduced(part, method, labels, _SLOW // 2))
        proposal = self._full(part, asked.method, labels, edges, cells)
        self._keep(asked.name, asked.method, Found(revision, part.window, proposal))
        yield self._answer("full", asked, revision, part, proposal)

    def _full(
        self,
        part: Part,
        method: str,
        labels: NDArray[np.uint8],
        edges: NDArray[Any] | None,
        cells: NDArray[Any] | None,
    ) -> Proposal:
        if edges is not None:
            return WALK.walked(self._prepared.walk(part, edges), labels, _present(labels))
        extras: dict[str, NDArray[Any]] = {} if cells is None else {"superpixels": cells}
        if "features" in METHODS[method][1].needs:
            features = self._features.map(part)
            if features is None:
                raise Refused(409, self._no_features(part))
            extras["features"] = features
        return METHODS[method][1].propagate(self._prepared.image(part), labels, len(self._project.classes), **extras)

    def _no_features(self, part: Part) -> str:
        height, width = self._labels.shape(part.name)
        return _NO_FEATURES if height * width <= limits.WHOLE else _TOO_LARGE

    def _reduced(self, part: Part, method: Propagation, labels: NDArray[np.uint8], pixels: int) -> Proposal:
        scale = reduction((labels.shape[0], labels.shape[1]), pixels)
        return propagate_reduced(method, self._prepared.image(part), labels, len(self._project.classes), scale)

    def _keep(self, name: str, method: str, result: Found) -> Found:
        with self._lock:
            self._found[name, method] = result
            self._found.move_to_end((name, method))
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return result

    def _answer(self, kind: str, asked: Asked, revision: int, part: Part, proposal: Proposal) -> dict[str, Any]:
        margin = proposal.margin
        if margin is None and proposal.doubt is not None:
            margin = (1 - proposal.doubt).astype(np.float32)
        certainty = None if margin is None else np.rint(255 * np.clip(margin, 0, 1)).astype(np.uint8)
        return {
            "kind": kind,
            "revision": revision,
            "method": asked.method,
            "scale": proposal.scale * part.scale,
            **part.window._asdict(),
            "mask": png.text(png.indexed(proposal.labels, self._project.classes.palette())),
            "certainty": None if certainty is None else png.text(png.grey(certainty)),
        }


def _present(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes that are drawn, ascending."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return np.flatnonzero(counts[:UNLABELLED]).astype(np.uint8)


def _section(centre: float, length: int) -> tuple[int, int]:
    """Start and length of the part of an axis around a place. Parts begin at few places, so that their edges are found again."""
    part, step = min(limits.REGION, length), max(1, limits.REGION // 4)
    start = round((centre - part / 2) / step) * step
    return min(max(0, start), length - part), part


def window_of(region: Any) -> Window | None:
    """The part of an image that a client names, or None.

    Raises:
        Refused: It is malformed.
    """
    if region is None:
        return None
    names = ("x", "y", "width", "height")
    if not isinstance(region, dict) or any(type(region.get(name)) not in (int, float) for name in names):
        raise Refused(400, "expected region as {x, y, width, height}")
    values = [float(region[name]) for name in names]
    if not all(abs(value) < 1e7 for value in values):
        raise Refused(400, "expected region as {x, y, width, height} in pixels")
    return Window(*(int(value) for value in values))


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
