"""Everything that a running server holds, put together."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from wss.draw import limits, png
from wss.draw.annotations import Annotations
from wss.draw.dataset import DrawnDataset
from wss.draw.exporting import Exporter
from wss.draw.labels import Labels
from wss.draw.masks import Masks
from wss.draw.pictures import TILE, Pictures, level_count
from wss.draw.prepared import Prepared
from wss.draw.project import Project, image_id
from wss.draw.propagating import Propagator
from wss.draw.proposing import Proposer
from wss.draw.refusals import Refused, unknown
from wss.draw.training import PIPELINES, Trainer
from wss.errors import WssError
from wss.names import readable


class Studio:
    """The parts of a server.

    Args:
        project: Images and classes.

    Attributes:
        project: Images and classes.
        pictures: Pixels.
        annotations: What is drawn.
        labels: The same as label images.
        dataset: The same as files that wss reads.
        prepared: Edges and superpixels.
        propagator: Masks while one draws.
        trainer: Trainings and predictions.
        masks: Accepted masks.
        exporter: Downloads.
        proposer: What to annotate next.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.pictures = Pictures(project)
        self.annotations = Annotations(project.root / "strokes", self._changed)
        self.annotations.load(project.names)
        self.labels = Labels(project, self.pictures, self.annotations)
        self.dataset = DrawnDataset(project, self.pictures, self.annotations, self.labels)
        self.prepared = Prepared(project, self.pictures)
        self.propagator = Propagator(project, self.annotations, self.labels, self.prepared)
        self.trainer = Trainer(project, self._complete)
        self.masks = Masks(project, self.annotations, self.labels, self.propagator, self.trainer)
        self.exporter = Exporter(project, self.annotations, self.labels, self.trainer)
        self.proposer = Proposer(project, self.pictures, self.needs_nothing, self.trainer.doubts)
        self._volumes = project.volumes()
        self._splits = {name: split for split, names in project.source.catalogue.splits.items() for name in names}
        self._dirty = threading.Event()
        self._ends = threading.Event()
        self._writer = threading.Thread(target=self._write_files, name="write", daemon=True)
        self._dirty.set()  # files of a killed server may be behind
        self._writer.start()

    def close(self) -> None:
        """Write what is behind, and stop what runs in the background. Trainings go on."""
        self._ends.set()
        self._dirty.set()
        self._writer.join(timeout=30)
        self.prepared.close()

    def overview(self) -> dict[str, Any]:
        """Data that the page asks for first."""
        predicted = self.trainer.doubts()
        return {
            "name": readable(self.project.title),
            "root_name": readable(self.project.root.name),
            "classes_revision": self.project.classes.revision,
            "classes_fixed": self.project.classes.fixed,
            "classes": self.project.classes.items,
            "images": [self.image(name, predicted=predicted) for name in self.project.names],
            "methods": self.propagator.methods(),
            "pipelines": [{"name": name, "title": title} for name, title in PIPELINES.items()],
            "training": self.trainer.state(),
            "splits_fixed": self.project.splits_fixed,
            "tile_size": TILE,
            "limits": limits.as_json(),
        }

    def image(self, name: str, opened: bool = False, predicted: dict[str, float] | None = None) -> dict[str, Any]:
        """Data of one image for the page.

        Args:
            name: The image.
            opened: Open it where that is needed to tell its size; its edges are then computed in the background.
            predicted: Images with predictions; None asks for them.
        """
        pyramid = self.pictures.pyramid(name) if opened else None
        size = pyramid.shape if pyramid is not None else self.pictures.size(name)
        if opened:
            part = self.propagator.part(name, None)
            if self.prepared.ready(part, "edges") is None:
                self.prepared.request(part, "edges")
        document = self.annotations.document(name)
        volume = self._volumes.get(name)
        own_truth = self.labels.has_own_truth(name)
        return {
            "id": image_id(name),
            "name": readable(name),
            "width": size[1] if size else None,
            "height": size[0] if size else None,
            "levels": level_count(*size) if size else None,
            "bits": 16 if pyramid is not None and pyramid.limits else self.pictures.bits(name),
            "range": list(pyramid.limits) if pyramid is not None and pyramid.limits else None,
            "volume": None
            if volume is None
            else {
                "id": image_id(f"volume {volume[0]}"),
                "name": readable(volume[0]),
                "slice": volume[1],
                "of": volume[2],
            },
            "split": document["split"] or self._splits.get(name),
            "objects": len(document["objects"]),
            "revision": document["revision"],
            "has_base": self.labels.has_base(name),
            "has_truth": document["truth"] or own_truth,
            "own_truth": own_truth,
            "error": self.pictures.problem(name),
            "has_prediction": name in (self.trainer.doubts() if predicted is None else predicted),
        }

    def status(self) -> dict[str, Any]:
        """State that changes by itself; the page asks for it once a second."""
        predictions = self.trainer.predictions()
        return {
            "computing": [
                {"image": image_id(item["name"]), "what": item["what"]} for item in self.prepared.computing()
            ],
            "training": self.trainer.state(),
            "revisions": {image_id(n): self.annotations.document(n)["revision"] for n in self.project.names},
            "classes_revision": self.project.classes.revision,
            "predictions": None if predictions is None else predictions.name,
        }

    def annotation(self, name: str) -> dict[str, Any]:
        """Annotation of an image."""
        answer = self.annotations.answer(name)
        answer["truth"] = answer["truth"] or self.labels.has_own_truth(name)
        answer["split"] = answer["split"] or self._splits.get(name)
        return answer

    def change_classes(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace the classes; see PROTOCOL.md."""
        classes = self.project.classes
        classes.change(body.get("revision", -1), body.get("classes"), self.blocked)
        return {"classes_revision": classes.revision, "classes": classes.items}

    def blocked(self, from_class: int) -> str | None:
        """Tell why the classes from an index on cannot be removed."""
        used = self.annotations.uses(from_class)
        if used is not None:
            return f"{readable(used)} has something drawn in the class; erase it there first, or give the class another name"
        if any(self.annotations.document(name)["truth"] for name in self.project.names):
            return "dense truth was kept, and its pixels name classes by number; give the class another name instead"
        self.annotations.forget_history(from_class)
        return None

    def change(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out a change of an annotation; see PROTOCOL.md."""
        base, change = body.get("base"), body.get("change")
        if type(base) is not int or not isinstance(change, dict):
            raise Refused(400, "expected {base: revision, change: {op: ...}}")
        document = self.annotations.change(name, base, change, len(self.project.classes), self.labels.shape(name))
        return {
            "revision": document["revision"],
            "can_undo": bool(document["done"]),
            "can_redo": bool(document["undone"]),
            "annotation": None if body.get("brief") else self.annotation(name),
        }

    def accept(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Accept a region of a mask as a label."""
        return self.change(name, self.masks.region(name, body))

    def prediction(self, name: str) -> dict[str, Any]:
        """The network's mask of an image."""
        prediction = self.trainer.prediction(name)
        if prediction is None:
            raise unknown("prediction yet")
        labels, doubt, training = prediction
        return {
            "mask": png.text(png.indexed(labels, self.project.classes.palette())),
            "uncertainty": png.text(png.grey(doubt)),
            "of": training,
        }

    def next(self, after: str | None) -> dict[str, Any]:
        """The image to annotate next."""
        return self.proposer.next(self.project.ids.get(after or ""))

    def needs_nothing(self, name: str) -> bool:
        """True if an image has an annotation or truth."""
        return (
            self.dataset.annotated(name) or self.annotations.document(name)["truth"] or self.labels.has_own_truth(name)
        )

    def _complete(self) -> list[str]:
        self.dataset.complete()
        return self.dataset.left_out

    def _changed(self, name: str) -> None:
        self._dirty.set()

    def _write_files(self) -> None:
        """Write the files that are behind, a moment after the last change."""
        while True:
            self._dirty.wait()
            ends = self._ends.wait(timeout=0.5)
            self._dirty.clear()
            with contextlib.suppress(
                WssError
            ):  # a full disk, say: documents are what counts, and the next change tries again
                self.dataset.write()
            if ends:
                return
