"""Estimate of the disk space for the stores of a pipeline, compared with the free space before any stage runs.

Image sizes are estimated from the headers of some images. Label maps and probabilities are assumed to compress like those of
photographs and trained networks.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wss.datasets import open_source
from wss.datasets.files import FileSource
from wss.datasets.raster import Header, read_header
from wss.datasets.source import Catalogue, Source
from wss.errors import StoreError, WssError
from wss.pipeline.spec import Node, Pipeline
from wss.stages.features import FeaturesParams, feature_bytes
from wss.stages.samples import SamplesParams
from wss.stages.splits import evenly
from wss.stages.train_params import TrainParams
from wss.store import Store
from wss.store.pictures import CODED

_HEADERS = 100
"""Number of images whose headers are read."""
_WHOLE = 3
"""Number of images that are read completely if headers cannot be read."""
_DATASET = 800
"""Bytes that HDF5 needs for one compressed array in addition to its values."""
_STORE = 20_000
"""Bytes of an empty store."""
_LABELS = 0.04
"""Bytes of a label map per pixel."""
_PNG = 0.6
"""Bytes of a PNG per byte of its pixels, as for photographs."""
_MAPS = {"edges": 0.4, "superpixels": 0.15, "cam": 2.0, "prototypes": 0.1}
"""Bytes per pixel in other stores."""
_PROBS = 2.0
"""Bytes of probabilities per pixel, for all classes together. At most pixels, one class has nearly all probability."""
_PROBS_OF_CLASS = 0.5
"""Additional bytes per pixel and class."""
_REPORT = 1_500_000
_CHECKPOINTS = 6
"""Disk for checkpoints in sizes of the weights: a checkpoint holds the weights and two moments, and the new checkpoint is
written beside the old one."""


@dataclass(frozen=True)
class Images:
    """Facts about the images of a data set.

    Attributes:
        pixels: Mean number of pixels of an image.
        stored: Mean number of bytes of an image in the store.
    """

    pixels: float
    stored: float


@dataclass(frozen=True)
class Need:
    """Disk space of one stage, in bytes.

    Attributes:
        store: Size of its finished store.
        besides: Additional space while it runs.
    """

    store: int
    besides: int


def needs(pipeline: Pipeline, known: Mapping[str, Catalogue], done: Mapping[str, Store]) -> dict[str, Need]:
    """Estimate the disk space of each unfinished stage.

    Args:
        pipeline: The stages.
        known: Catalogues by stage id, see ``catalogues``.
        done: Finished stores by stage id.

    Returns:
        Disk space by stage id. Finished stages are left out, and also stages whose data set cannot be read.
    """
    images: dict[str, Images | None] = {}
    by_stage: dict[str, Need] = {}
    for node in pipeline.nodes.values():
        source = node.id if isinstance(node.params, SamplesParams) else next(iter(node.inputs.get("samples", ())), None)
        if source is not None and source not in images:
            images[source] = _look(pipeline.nodes[source], done.get(source))
        if node.id in done:
            continue
        seen = images.get(source) if source is not None else None
        estimate = _need(node, pipeline, known.get(node.id), seen)
        if estimate is not None:
            by_stage[node.id] = estimate
    return by_stage


def total(wanted: Mapping[str, Need]) -> int:
    """Bytes that stages need together: all stores, plus the largest additional space of one stage while it runs."""
    return sum(need.store for need in wanted.values()) + max((need.besides for need in wanted.values()), default=0)


def free_bytes(folder: Path) -> int:
    """Free disk space for a folder in bytes. The folder may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(wanted: Mapping[str, Need], pipeline: Pipeline, folder: Path, begun: int = 0) -> None:
    """Check that the stages fit on the disk.

    Args:
        wanted: Disk space of the stages, by id.
        pipeline: The pipeline that runs.
        folder: The workspace.
        begun: Bytes that interrupted stages have already written.

    Raises:
        StoreError: The disk is too small. The message gives the folder, the needed and the free space, and remedies.
    """
    needed, free = total(wanted) - begun, free_bytes(folder)
    if needed <= free:
        return
    largest = sorted(wanted, key=lambda name: -wanted[name].store)[:3]
    parts = ", ".join(f"{name} {gigabytes(wanted[name].store)}" for name in largest)
    raise StoreError(
        f"{folder.resolve()}: this run needs about {gigabytes(needed)} of disk ({parts}), but {gigabytes(free)} are free; "
        f"{' or '.join(_remedies(wanted, pipeline))}"
    )


def gigabytes(count: float) -> str:
    """Format a number of bytes in GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e9:.3f} GB"


def _remedies(wanted: Mapping[str, Need], pipeline: Pipeline) -> list[str]:
    remedies = []
    for name in wanted:
        params = pipeline.nodes[name].params
        if isinstance(params, SamplesParams) and params.dataset.keep == "pixels" and params.dataset.kind != "sample":
            remedies.append("keep images as files (`keep: encoded` below `dataset` in wss.yaml)")
        read = any(name in sources for node in pipeline.nodes.values() for sources in _probs_inputs(node))
        if getattr(params, "probs", None) and not read:
            remedies.append(f"keep no probabilities (`--set {name}.probs=false`)")
    return [
        *remedies,
        "free some space (`wss gc --all` removes unused artifacts)",
        "choose another folder with --workspace",
    ]


def _probs_inputs(node: Node) -> list[tuple[str, ...]]:
    return [node.inputs.get(role, ()) for role, wanted in node.stage.inputs.items() if wanted.probs]


def _look(node: Node, store: Store | None) -> Images | None:
    """Facts about the images of a data set, from its store or from some of its files."""
    if store is not None and len(store):
        pixels = [float(np.prod(store.shape("image", i)[:2])) for i in evenly(store.ids, _HEADERS)]
        return Images(float(np.mean(pixels)), 0.0)
    if not isinstance(node.params, SamplesParams):
        return None
    encoded = node.params.dataset.keep == "encoded"
    try:
        source = open_source(node.params.dataset)
        ids = list(dict.fromkeys(i for split in source.catalogue.splits.values() for i in split))
        if isinstance(source, FileSource) and source.one_image_per_file:
            try:
                rows = [_of_header(source.entry(i).image, source.options, encoded) for i in evenly(ids, _HEADERS)]
            except WssError:  # files that are not images, such as HDF5
                rows = _of_samples(source, ids, encoded)
        else:
            rows = _of_samples(source, ids, encoded)
    except WssError:  # the stage itself will report what is wrong
        return None
    means = np.mean(rows, axis=0) if rows else np.zeros(2)
    return Images(float(means[0]), float(means[1]))


def _of_header(path: Path, options: Any, encoded: bool) -> tuple[float, float]:
    """Number of pixels of an image file, and its number of bytes in the store."""
    header = read_header(path)
    pixels = float(np.prod(header.shape))
    raw = pixels * (1 if header.colours == "grey" else 3)
    if not encoded:
        return pixels, raw
    if _kept_as_it_is(path, header, options):
        return pixels, min(float(path.stat().st_size), raw)
    return pixels, pixels if header.colours == "palette" else raw * _PNG


def _kept_as_it_is(path: Path, header: Header, options: Any) -> bool:
    """Return True if the store keeps the bytes of the file. This is so if the file holds exactly the pixels that are read.

    Otherwise, the pixels are stored as a PNG.
    """
    with path.open("rb") as file:
        coded = file.read(8).startswith(CODED)
    changed = header.orientation != 1 or header.bits > 8 or header.colours == "cmyk"
    stretched = (
        getattr(options, "stretch", "auto") not in ("auto", "full") or getattr(options, "bands", None) is not None
    )
    return coded and not changed and not stretched


def _of_samples(source: Source, ids: Sequence[str], encoded: bool) -> list[tuple[float, float]]:
    rows = []
    for image_id in evenly(ids, _WHOLE):
        image = source.read(image_id).image
        raw = image.size / (3 if (image == image[..., :1]).all() else 1)
        rows.append((image.size / 3, raw * (_PNG if encoded else 1)))
    return rows


def _need(node: Node, pipeline: Pipeline, catalogue: Catalogue | None, images: Images | None) -> Need | None:
    kind = node.stage.output.name
    if kind == "report":
        return Need(_REPORT, _REPORT)
    if catalogue is None:
        return None
    if isinstance(node.params, TrainParams):
        state = _state_bytes(node.params, len(catalogue.classes))
        return Need(state + _STORE, state * _CHECKPOINTS)
    if images is None:
        return None
    count, classes, pixels = _count(node, pipeline, catalogue), len(catalogue.classes), images.pixels
    label_map = _LABELS * pixels + _DATASET
    if kind == "samples":
        labelled = sum(count - len(without) for without in (catalogue.unmasked, catalogue.unscribbled))
        size = count * images.stored + labelled * label_map
    elif kind == "predictions":
        probs = (_PROBS + _PROBS_OF_CLASS * classes) * pixels + _DATASET if getattr(node.params, "probs", None) else 0
        size = count * (label_map + probs)
    elif kind == "pictures":
        size = count * 10.0 * pixels
    elif isinstance(node.params, FeaturesParams):
        size = count * feature_bytes(node.params, pixels)
    elif kind in _MAPS:
        size = count * (_MAPS[kind] * pixels + _DATASET)
    elif kind in ("metrics", "quality"):
        size = count * (_DATASET + 0.3 * classes**2)
    else:  # labels
        size = count * label_map
    return Need(round(size) + _STORE, round(size))  # the journal stays until the store is complete


def _count(node: Node, pipeline: Pipeline, catalogue: Catalogue) -> int:
    """Number of images in the store of a stage."""
    every = len({i for split in catalogue.splits.values() for i in split})
    params: Any = node.params
    if node.stage.output.name == "pictures" and hasattr(params, "images"):
        return int(params.images)
    while not hasattr(params, "split") and node.inputs.get("predictions"):
        node = pipeline.nodes[node.inputs["predictions"][0]]
        params = node.params
    if node.stage.name == "prepare" or not hasattr(params, "split"):
        return every
    return len(catalogue.splits.get(params.split, ())[: getattr(params, "limit", None)])


def _state_bytes(params: TrainParams, classes: int) -> int:
    """Bytes of the weights of a network."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        state = params.method.build(params.network, classes).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())
