"""Files to take away: annotations and masks through the code of ``wss data convert``, the network, the report."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.datasets.cards import colour_map
from wss.datasets.convert import Format, convert
from wss.datasets.source import Catalogue, Sample
from wss.datasets.volume_masks import mask_ending, write_volume_mask
from wss.datasets.volume_source import VolumeSource
from wss.draw.annotations import Annotations, flat_name
from wss.draw.labels import Labels
from wss.draw.painting import strokes_of
from wss.draw.project import Project
from wss.draw.refusals import Refused
from wss.draw.training import Trainer
from wss.errors import WssError
from wss.labels import UNLABELLED
from wss.names import readable

_FORMATS: dict[str, Format] = {
    "png": "png",
    "scribblesup": "xml",
    "cvat": "cvat",
    "labelme": "labelme",
    "coco": "coco",
}
_OF_STROKES = ("scribblesup", "cvat", "labelme")


class Download(NamedTuple):
    """A file for the client.

    Attributes:
        name: Its name.
        kind: Its media type.
        data: Its bytes.
    """

    name: str
    kind: str
    data: bytes


class _Drawn:
    """Drawings behind the interface that ``wss data convert`` reads: strokes where there is nothing else, else label images."""

    def __init__(self, project: Project, labels_of: Callable[[str], NDArray[np.uint8] | None], strokes_of: Any) -> None:
        self.entries = {
            name: entry for name, entry in (getattr(project.source, "entries", {}) or {}).items() if project.file(name)
        }
        classes = project.classes.names
        catalogue = project.source.catalogue
        self.catalogue = Catalogue(
            "drawn", classes, colour_map(len(classes)), {"all": project.names}, background=catalogue.background
        )
        self._labels_of, self._strokes_of = labels_of, strokes_of

    def read(self, image_id: str) -> Sample:
        """One drawing. The image is black, for its pixels are not asked for."""
        labels = self._labels_of(image_id)
        if labels is None:
            return Sample(image_id, np.zeros((1, 1, 3), np.uint8))
        black = np.broadcast_to(np.uint8(0), (*labels.shape, 3))
        strokes = self._strokes_of(image_id)
        if strokes is not None:
            return Sample(image_id, black, strokes=tuple(strokes))
        return Sample(image_id, black, scribble=labels)


class Exporter:
    """Makes downloads.

    Args:
        project: Whose drawings.
        annotations: Objects.
        labels: The same as label images.
        trainer: Networks and predictions.
    """

    def __init__(self, project: Project, annotations: Annotations, labels: Labels, trainer: Trainer) -> None:
        self._project, self._annotations, self._labels, self._trainer = project, annotations, labels, trainer

    def export(self, body: dict[str, Any]) -> Download:
        """Make what a client asks for.

        Raises:
            Refused: The request makes no sense, or there is nothing to export.
        """
        form, what = body.get("format"), body.get("what", "scribbles")
        if form == "network":
            return self._network()
        if form == "report":
            return self._report()
        if what not in ("masks", "scribbles") or form not in (*_FORMATS, "nifti"):
            raise Refused(400, "there is no such format; reload the page")
        if what == "masks" and form in _OF_STROKES:
            raise Refused(400, f"{form} holds strokes; export masks as PNG, COCO or NIfTI, or the scribbles as {form}")
        with tempfile.TemporaryDirectory(prefix="wss-draw-") as name:
            folder = Path(name)
            if form == "nifti":
                self._volumes(folder, what)
            else:
                self._converted(folder, _FORMATS[form], what)
            return Download(f"{self._title()}-{what}-{form}.zip", "application/zip", _zipped(folder))

    def _converted(self, folder: Path, form: Format, what: str) -> None:
        masks = what == "masks"
        drawn = _Drawn(
            self._project, self._mask if masks else self._scribble, lambda n: None if masks else self._strokes(n)
        )
        plain = {name: flat_name(name) for name in self._project.names if flat_name(name) != name}
        if plain:
            raise Refused(400, "names of images with folders in them cannot be exported; use `wss data convert -w`")
        names = [name for name in self._project.names if self._has(name, masks)]
        if not names:
            raise Refused(
                409, "there is nothing to export yet; " + ("keep truth or train first" if masks else "draw first")
            )
        try:
            convert(drawn, folder, form, ids=names)
        except UnicodeEncodeError as error:
            name = next((name for name in names if readable(name) != name), "of an image")
            raise Refused(
                400, f"the name {readable(name)} is not UTF-8, which this format needs; rename the file, or choose png"
            ) from error
        if form == "png":
            (folder / "classes.txt").write_text(
                "".join(f"{i} {name}\n" for i, name in enumerate(self._project.classes.names)), encoding="utf-8"
            )

    def _volumes(self, folder: Path, what: str) -> None:
        source = self._project.source
        if not isinstance(source, VolumeSource):
            raise Refused(400, "these images are no volumes of NIfTI, DICOM or TIFF stacks; export PNG")
        labels_of = self._mask if what == "masks" else self._scribble
        for volume, entry in source.catalogue.volumes.items():
            slices = [labels_of(name) for name in entry.ids]
            if all(labels is None or (labels == UNLABELLED).all() for labels in slices):
                continue
            full = [
                np.full(self._labels.shape(name), UNLABELLED, np.uint8) if labels is None else labels
                for name, labels in zip(entry.ids, slices, strict=True)
            ]
            file = source.volume(volume)
            path = folder / f"{volume}{mask_ending(file)}"
            write_volume_mask(path, file, source.axis, full, colour_map(len(self._project.classes)))
        if not any(folder.iterdir()):
            raise Refused(409, "there is nothing to export yet; draw, or train, first")

    def _has(self, name: str, masks: bool) -> bool:
        if masks:
            document = self._annotations.document(name)
            return document["truth"] or self._labels.has_own_truth(name) or self._trainer.prediction(name) is not None
        return bool(self._annotations.document(name)["objects"]) or self._labels.has_base(name)

    def _mask(self, name: str) -> NDArray[np.uint8] | None:
        """Dense truth where there is some, else the prediction."""
        truth = self._labels.truth(name)
        if truth is not None:
            return truth
        prediction = self._trainer.prediction(name)
        return None if prediction is None else prediction[0]

    def _scribble(self, name: str) -> NDArray[np.uint8] | None:
        return self._labels.drawn(name) if self._has(name, False) else None

    def _strokes(self, name: str) -> Sequence[Any] | None:
        """The strokes as they were drawn, where nothing else says what a pixel is."""
        objects = self._annotations.document(name)["objects"]
        if self._labels.has_base(name) or any(item["kind"] in ("erase", "region") for item in objects):
            return None
        return [replace(stroke, points=stroke.points) for stroke in strokes_of(objects)]

    def _network(self) -> Download:
        network = self._trainer.network()
        if network is None:
            raise Refused(409, "there is no network yet; train first")
        with tempfile.TemporaryDirectory(prefix="wss-draw-") as name:
            path = Path(name) / "network.torchscript.pt"
            self._wss("export", "--format", "torchscript", "--checkpoint", str(network), "--out", str(path))
            return Download(f"{self._title()}-{path.name}", "application/octet-stream", path.read_bytes())

    def _report(self) -> Download:
        """The page that the last complete training wrote. A new one of changed drawings would need a training of its own."""
        path = self._project.workspace.root / "report.html"
        if not path.exists():
            raise Refused(409, "there is no report yet: a training writes it at its end; train first")
        return Download(f"{self._title()}-report.html", "text/html", path.read_bytes())

    def _wss(self, *arguments: str) -> None:
        """Run a command of wss in the workspace of the trainings."""
        line = [sys.executable, "-m", "wss", *arguments, "--workspace", str(self._project.workspace.root), "--quiet"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            message = done.stderr.strip().splitlines()
            raise WssError(message[-1].removeprefix("error: ") if message else f"`wss {arguments[0]}` failed")

    def _title(self) -> str:
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in self._project.title)
        return plain or "drawn"


def _in_utf8(name: str) -> str:
    """A name for an archive, which holds UTF-8 only: other bytes become ``%FF``."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in name)


def _zipped(folder: Path) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, _in_utf8(path.relative_to(folder).as_posix()))
    return data.getvalue()
