"""Stage ``samples``: a data set's images and annotations, read once into one store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets import DatasetSpec, open_source
from wss.datasets.files import Entry, FileSource
from wss.datasets.images import PixelOptions
from wss.datasets.label_values import (
    StoredLabels,
    declared_values,
    label_pairs,
    mask_values,
    scribble_values,
    stores_values,
)
from wss.datasets.source import UNEVEN_REMEDY, Catalogue, Sample, Source, Volume, uneven, uneven_message
from wss.datasets.volume_source import VolumeSource
from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.params import Params
from wss.scribbles import pack_strokes
from wss.stages.parallel import each
from wss.stages.stage import Context, Inputs, Stage, pending
from wss.store import SAMPLES, Store, StoreWriter
from wss.store.codec import Payload, encode_image
from wss.store.pictures import picture_file

_NO_PIXELS: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)


class SamplesParams(Params):
    """Parameters of the stage ``samples``. The workspace's ``wss.yaml`` provides them."""

    dataset: DatasetSpec = DatasetSpec(kind="sample")


def run(params: SamplesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Read every image of every split, with its mask, strokes, scribble raster, boxes and tags.

    Raises:
        DataError: A file is missing, unreadable or breaks a convention; a label is not a class; sizes of files or of a volume's
            slices differ; or the label files together show that their values are not class indices (see ``require_meaning``).
    """
    source = open_source(params.dataset)
    _require_matches(source)
    catalogue = source.catalogue
    ids = list(dict.fromkeys(i for split in catalogue.splits.values() for i in split))
    if not ids:
        raise DataError(f"{params.dataset.root or params.dataset.kind}: no images in any split; see `wss data check`")
    todo = pending(ids, output)
    advance = context.progress.task("reading images", len(ids), len(ids) - len(todo))
    masks: list[StoredLabels] = []
    scribbles: list[StoredLabels] = []
    for image_id in [i for i in ids if i in output]:
        arrays = output.read(image_id)
        _collect(image_id, arrays, source, masks, scribbles)
    empty = 0
    encoded = params.dataset.keep == "encoded"
    calls = ((source, i, encoded) for i in todo)
    for sample, image in each(_kept, calls, context.jobs, 4 if len(todo) > 100 else 1):
        arrays = _arrays(sample, len(catalogue.classes))
        _collect(sample.id, arrays, source, masks, scribbles)
        output.append(sample.id, {"image": image, **arrays})
        empty += sample.valid is not None
        advance(1, sample.id)
    require_meaning(masks, scribbles, source)
    if empty:
        context.progress.say(f"{empty} images have pixels without data; these pixels are unlabelled and never counted")
    for name, volume in catalogue.volumes.items():
        sizes = {i: output.shape("image", i)[:2] for i in volume.ids if i in output}
        require_even(name, volume, sizes)
    output.meta.update(catalogue_meta(catalogue))
    if isinstance(source, FileSource):
        fields = PixelOptions.model_fields
        output.meta["pixels"] = {n: v for n, v in source.options.model_dump(mode="json").items() if n in fields}
    if isinstance(source, VolumeSource):
        output.meta["slices"] = {"kind": source.kind, "axis": source.axis, "channel": source.options.channel}


def require_meaning(masks: Sequence[StoredLabels], scribbles: Sequence[StoredLabels], source: Source) -> None:
    """Check that the values in label files are class indices.

    Two examples of other meanings: masks of 0 and 255, where 255 would be read as unlabelled; scribbles whose unlabelled pixels
    are painted as a class. Each such file is valid alone; only all files together show the problem.

    Raises:
        DataError: The values have another meaning. The message names the data-set option with which they can be read.
    """
    for_masks, for_scribbles = declared_values(source)
    catalogue = source.catalogue
    findings = mask_values(masks, catalogue, for_masks) + scribble_values(scribbles, catalogue, for_scribbles)
    for finding in findings:
        if finding.severity == "error":
            raise DataError(f"{finding.file or source.catalogue.kind}: {finding.message}; {finding.remedy}")


def _require_matches(source: Source) -> None:
    """Check that a folder of masks or scribbles with files matches at least one image.

    Otherwise other annotations would silently take the place of these files.

    Raises:
        DataError: No file of such a folder matches an image. The message names the option that matches the names.
    """
    for note in source.notes if isinstance(source, FileSource) else ():
        if note.code in ("no-mask-matches", "no-scribble-matches"):
            raise DataError(f"{note.file}: {note.message}; {note.remedy}")


def _collect(
    image_id: str,
    arrays: Mapping[str, NDArray[Any]],
    source: Source,
    masks: list[StoredLabels],
    scribbles: list[StoredLabels],
) -> None:
    """Add the value counts of one image's label files to ``masks`` and ``scribbles``. Pixels without data do not count."""
    entry = source.entry(image_id) if isinstance(source, FileSource) else Entry(Path(image_id))
    mask, scribble, valid = (arrays.get(name) for name in ("mask", "scribble", "valid"))
    if valid is not None:
        mask, scribble = (None if labels is None else labels[valid > 0] for labels in (mask, scribble))
    if mask is not None and stores_values(entry.mask):
        masks.append(StoredLabels(image_id, entry.mask, np.bincount(mask.ravel(), minlength=256)))
    if scribble is not None and stores_values(entry.scribble):
        counts = np.bincount(scribble.ravel(), minlength=256)
        scribbles.append(StoredLabels(image_id, entry.scribble, counts, label_pairs(scribble, mask)))


def require_even(name: str, volume: Volume, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that all slices of a volume have one size. Other volumes could not be evaluated after training.

    Raises:
        DataError: Two slices differ in size.
    """
    pair = uneven(volume, sizes)
    if pair is not None:
        raise DataError(f"{uneven_message(name, pair, sizes)}; {UNEVEN_REMEDY}")


def catalogue_meta(catalogue: Catalogue) -> dict[str, Any]:
    """The catalogue as plain values, for the metadata of a samples store."""
    return {
        "kind": catalogue.kind,
        "classes": list(catalogue.classes),
        "palette": catalogue.palette.tolist(),
        "splits": {name: list(ids) for name, ids in catalogue.splits.items()},
        "volumes": {
            name: {"ids": list(volume.ids), "spacing_mm": volume.spacing_mm and list(volume.spacing_mm)}
            for name, volume in catalogue.volumes.items()
        },
        "background": catalogue.background,
    }


def stored_catalogue(samples: Store) -> Catalogue:
    """The catalogue of the data set from which a samples store was read."""
    meta = samples.meta
    scribbled = ("scribble", "strokes")
    return Catalogue(
        kind=meta["kind"],
        classes=tuple(meta["classes"]),
        palette=np.array(meta["palette"], np.uint8),
        splits={name: tuple(ids) for name, ids in meta["splits"].items()},
        volumes={
            name: Volume(tuple(volume["ids"]), volume["spacing_mm"] and tuple(volume["spacing_mm"]))
            for name, volume in meta["volumes"].items()
        },
        background=meta["background"],
        unmasked=frozenset(i for i in samples.ids if not samples.has("mask", i)),
        unscribbled=frozenset(i for i in samples.ids if not any(samples.has(item, i) for item in scribbled)),
    )


def _read(source: Source, image_id: str) -> Sample:
    return source.read(image_id)


def _kept(source: Source, image_id: str, encoded: bool) -> tuple[Sample, Payload]:
    """Read and check one image. The pixels are returned as the encoded bytes that the store keeps."""
    sample = _read(source, image_id)
    _check(sample, len(source.catalogue.classes))
    file = picture_file(sample.image, _original(source, sample)) if encoded else None
    return replace(sample, image=_NO_PIXELS), encode_image(sample.image, file)


def _original(source: Source, sample: Sample) -> bytes | None:
    """Bytes of the image's file, if the file holds only this image and is smaller than its pixels; else None."""
    if not isinstance(source, FileSource) or not source.one_image_per_file:
        return None
    path = source.entry(sample.id).image
    return path.read_bytes() if path.is_file() and path.stat().st_size < sample.image.nbytes else None


def _check(sample: Sample, num_classes: int) -> None:
    for name in ("mask", "scribble"):
        labels = getattr(sample, name)
        if labels is None:
            continue
        if labels.shape != sample.image.shape[:2]:
            raise DataError(
                f"image {sample.id!r}: {name} is {labels.shape[1]}x{labels.shape[0]}, the image "
                f"{sample.image.shape[1]}x{sample.image.shape[0]}; run `wss data check` for all such files"
            )
        wrong = labels[(labels >= num_classes) & (labels != UNLABELLED)]
        if wrong.size:
            raise DataError(
                f"image {sample.id!r}: {name} holds label {int(wrong[0])}, but the {num_classes} classes are 0 to "
                f"{num_classes - 1} and 255 is unlabelled; run `wss data check` for all such files"
            )
    for stroke in sample.strokes or ():
        if not 0 <= stroke.label < num_classes:
            raise DataError(
                f"image {sample.id!r}: a stroke has class {stroke.label}, but the classes are 0 to {num_classes - 1}"
            )
    for label, x0, y0, x1, y1 in () if sample.boxes is None else sample.boxes.tolist():
        if not 0 <= label < num_classes or x1 < x0 or y1 < y0:
            raise DataError(
                f"image {sample.id!r}: a box has class {label} and corners ({x0}, {y0}) and ({x1}, {y1}); expected are a class "
                f"from 0 to {num_classes - 1}, and the upper left corner first; run `wss data check` for all such files"
            )


def _arrays(sample: Sample, num_classes: int) -> dict[str, NDArray[Any]]:
    """The annotations of an image as arrays of the store."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("mask", "scribble", "boxes"):
        value = getattr(sample, name)
        if value is not None:
            arrays[name] = value
    if sample.valid is not None:
        arrays["valid"] = sample.valid.astype(np.uint8)
    if sample.strokes is not None:
        arrays["strokes"] = pack_strokes(sample.strokes)
    if sample.tags is not None and not _told_by(sample.mask, sample.tags):
        arrays["tags"] = np.isin(np.arange(num_classes), sample.tags).astype(np.uint8)
    return arrays


def _told_by(mask: NDArray[np.uint8] | None, tags: Sequence[int]) -> bool:
    """True if a mask has exactly these classes, so that tags add nothing."""
    return mask is not None and set(tags) == set(
        np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:UNLABELLED]).tolist()
    )


def _fingerprint(params: SamplesParams, context: Context) -> str:
    cache: Path | None = context.cache and context.cache / "fingerprints.json"
    return open_source(params.dataset).fingerprint(cache)


STAGE = Stage("samples", 1, SamplesParams, {}, SAMPLES, run, source=_fingerprint)
