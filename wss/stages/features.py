"""Stage ``features``: feature maps of a frozen backbone, computed once for every image."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.datasets.source import Catalogue
from wss.distributed import map_over_processes
from wss.errors import DataError, UsageError
from wss.methods import Segmenter
from wss.networks import Backbone, NetworkSpec, check_pretrained, load_pretrained
from wss.params import LOCAL, Params
from wss.precision import Amp
from wss.stages.inference_precision import stage_precision
from wss.stages.splits import require_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import FEATURES, SAMPLES, Store, StoreWriter
from wss.training.views import LEVELS, View, grids, seen, views_of


class FeaturesParams(Params):
    """Parameters of the stage ``features``."""

    network: NetworkSpec = NetworkSpec(name="light-decoder", backbone="dinov2_vits14")
    """Network that will be trained on the features. Only the feature maps that its decoder reads are stored."""
    weights: str | None = Field(default=None, json_schema_extra=LOCAL)
    """Weights of the backbone: a state dict file, or ``dinov2``, ``imagenet`` or ``coco`` (downloaded)."""
    split: str = "train"
    """Split whose images are processed."""
    scales: tuple[Annotated[float, Field(ge=0.1, le=4)], ...] = Field(default=(1.0,), min_length=1)
    """Factors by which each image is resized before it goes through the backbone; features are stored for every scale."""
    flip: bool = True
    """Store the features of mirrored images too."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""


def run(params: FeaturesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Compute the feature maps of every view of every image.

    Raises:
        UsageError: The network has no backbone, or no weights are given.
        DataError: The weights are missing or for another network.
    """
    samples = inputs["samples"]
    ids = split_ids(samples, params.split)
    model = Segmenter(params.network, 1)
    initialisation = load_pretrained(model, params.weights)
    model = model.to(context.device).eval()
    backbone = backbone_of(model)
    views = views_of(params.scales, params.flip)
    precision = stage_precision(
        params.amp,
        output,
        context,
        "features",
        len(ids) * len(views),
        lambda: (_Finest(model), _tensor(samples.get("image", ids[0]), context.device)),
    )
    todo = pending(ids, output)
    advance = context.progress.task("features", len(ids), len(ids) - len(todo))
    levels = levels_read(model)
    for image_id, arrays in map_over_processes(
        _Extraction(params, samples, model, views, levels, precision.used), todo
    ):
        output.append(image_id, arrays)
        advance(1, image_id)
    output.put_tree("backbone", {name: value.cpu() for name, value in backbone.state_dict().items()})
    output.meta.update(
        network=params.network.model_dump(mode="json"),
        initialisation=initialisation.model_dump(mode="json"),
        split=params.split,
        views=[list(view) for view in views],
        strides={name: backbone.strides[LEVELS.index(name)] for name in levels},
        bfloat16=precision.used,
    )


def backbone_of(model: nn.Module) -> Backbone:
    """The first backbone of a model."""
    return next(module for module in model.modules() if isinstance(module, Backbone))


def levels_read(model: Segmenter) -> tuple[str, ...]:
    """Names of the feature maps that the network's decoder reads."""
    return tuple(LEVELS[number] for number in model.network.reads)


def stored_map(store: Store, image_id: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """The coarsest stored feature map of an image's first view, float32 (C,h,w).

    Args:
        store: Features.
        image_id: The image.
        size: Height and width of the image.
    """
    name = max(store.meta["strides"], key=lambda level: store.meta["strides"][level])
    views = [View(*view) for view in store.meta["views"]]
    rows, columns = grids(size, views, store.meta["strides"][name])[0]
    cells = store.get(name, image_id)[: rows * columns]
    return np.ascontiguousarray(cells.T.reshape(-1, rows, columns), np.float32)


def feature_bytes(params: FeaturesParams, pixels: float) -> float:
    """Bytes that the features of one image with ``pixels`` pixels take."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = Segmenter(params.network, 1)
    backbone = backbone_of(model)
    side = math.sqrt(pixels)
    return sum(
        2.0 * backbone.channels[number] * math.ceil(side * view.scale / backbone.strides[number]) ** 2
        for number in model.network.reads
        for view in views_of(params.scales, params.flip)
    )


class _Finest(nn.Module):
    """Normalisation and backbone, with the last feature map as output; used to measure time."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, rgb: Tensor) -> Tensor:
        maps: Tensor = backbone_of(self.model)(self.model.normalise(rgb))[-1]
        return maps


class _Extraction:
    """Computes the features of one image. Callable in every process of a run."""

    def __init__(
        self,
        params: FeaturesParams,
        samples: Store,
        model: Segmenter,
        views: tuple[View, ...],
        levels: tuple[str, ...],
        amp: bool,
    ) -> None:
        self._params, self._samples, self._model = params, samples, model
        self._views, self._levels, self._amp = views, levels, amp
        self._strides = [backbone_of(model).strides[LEVELS.index(name)] for name in levels]

    def __call__(self, image_id: str) -> dict[str, NDArray[Any]]:
        image = np.asarray(self._samples.get("image", image_id))
        device = next(self._model.parameters()).device
        by_level: dict[str, list[NDArray[Any]]] = {name: [] for name in self._levels}
        for view in self._views:
            rgb = _tensor(seen(image, {}, view)[0], device)
            height, width = rgb.shape[2:]
            rgb = whole_cells(rgb, max(self._strides))
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._amp):
                maps = backbone_of(self._model)(self._model.normalise(rgb))
            for name, stride in zip(self._levels, self._strides, strict=True):
                inside = maps[LEVELS.index(name)][0, :, : -(-height // stride), : -(-width // stride)]
                values = inside.flatten(1).T
                by_level[name].append(values.to(torch.float16).cpu().numpy())
        arrays = {name: np.concatenate(parts) for name, parts in by_level.items()}
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise DataError(
                f"image {image_id!r}: the backbone's features exceed the range of half precision and cannot be stored"
            )
        return arrays


def whole_cells(rgb: Tensor, stride: int) -> Tensor:
    """Pad images (B,3,H,W) at the right and at the bottom to multiples of the stride, by repeating the last pixels.

    Crops are cut along the cells of the features, so a cell must cover exactly ``stride`` pixels.
    """
    height, width = rgb.shape[2:]
    return functional.pad(rgb, (0, -width % stride, 0, -height % stride), mode="replicate")


def _tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()


def _digest(params: FeaturesParams, context: Context) -> str:
    """Digest of the weight file, so that a changed file with the same name gives new features."""
    if params.weights is None or not Path(params.weights).is_file():
        return str(params.weights)
    return hashlib.sha256(Path(params.weights).read_bytes()).hexdigest()


def _check(params: FeaturesParams, catalogue: Catalogue) -> None:
    require_split(catalogue.splits, params.split, catalogue.kind)
    if params.network.backbone is None:
        raise UsageError(
            f"features: network {params.network.name} has no backbone whose features could be stored; choose a network with a "
            "backbone, for example --set features.network.name=light-decoder --set features.network.backbone=dinov2_vits14"
        )
    if params.weights in (None, "none"):
        raise UsageError(
            "features: a backbone with random weights gives useless features; give weights with --set features.weights=FILE, or "
            "a name (dinov2, imagenet) that downloads them"
        )
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        check_pretrained(Segmenter(params.network, 1), params.weights)


STAGE = Stage("features", 1, FeaturesParams, {"samples": Input(SAMPLES)}, FEATURES, run, source=_digest, check=_check)
