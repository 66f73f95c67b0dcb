"""``wss train-edges``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wss.datasets.bsds import BoundaryImage
    from wss.training.edges import EdgeTrainingParams

RATES = {"small": 3e-3, "hed": 1e-4}
"""Learning rate of each network. VGG's convolutions have no normalisation and need a lower rate."""


@options.common("seed", "device", "jobs", "verbose", "quiet", "as_json")
def train_edges(
    root: Annotated[Path, typer.Option("--root", "-r", help="BSDS500: the folder with images/ and groundTruth/.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File for the weights; the settings are written next to it.")
    ],
    network: Annotated[str, typer.Option(help="small (the embedded detector's) or hed.")] = "small",
    split: Annotated[list[str] | None, typer.Option(help="Split to train on; repeatable. Default: train.")] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from; for hed also torchvision's VGG16.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images, with one crop of each image.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per step.")] = 8,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop in pixels.")] = 256,
    rotate: Annotated[
        float, typer.Option(min=0, max=180, help="Largest rotation of a crop in degrees, in both directions.")
    ] = 20,
    scale: Annotated[
        tuple[float, float],
        typer.Option(help="Smallest and largest scale factor of an image.", metavar="MIN MAX"),
    ] = (0.6, 1.4),
    lr: Annotated[float | None, typer.Option(help="Largest learning rate; default: 0.003, for hed 0.0001.")] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Autocast to bfloat16; default: only if it is faster.")
    ] = None,
    half: Annotated[bool, typer.Option("--half/--full", help="Write weights in half precision.")] = True,
    resume: Annotated[
        bool,
        typer.Option("--resume/--restart", help="Continue from the last checkpoint, or delete it and start again."),
    ] = True,
    *,
    common: options.Common,
) -> None:
    """Train an edge network on photographs with boundaries drawn by several people (BSDS500's layout).

    Use the weights with `wss edges --detector embedded --weights FILE` (or `--detector hed`). An interrupted training continues
    from its last checkpoint; on a CPU, the result is the same as without interruption.

    Example: [bold]wss train-edges --root BSDS500 --split train --split val --epochs 400 --out edges.pt[/bold]
    """
    import io
    import json
    import os

    import torch

    from wss.cli import interrupt
    from wss.cli.session import resolve_device
    from wss.datasets.bsds import list_bsds
    from wss.errors import UsageError
    from wss.params import validate
    from wss.store.atomic import write_bytes, write_text
    from wss.training.edges import EdgeHooks, EdgeTrainingParams, fit_edges

    if network not in RATES:
        raise UsageError(f"--network {network}: expected small or hed")
    augment = {**EdgeTrainingParams().augment.model_dump(), "crop": crop, "rotate_deg": rotate, "scale": scale}
    values = {
        "epochs": epochs,
        "batch_size": batch_size,
        "amp": "auto" if amp is None else amp,
        "seed": common.seed or 0,
        "lr": lr or RATES[network],
    }
    params = validate(EdgeTrainingParams, {**values, "augment": augment}, "train-edges")
    splits = split or ["train"]
    items = list_bsds(root, *splits)
    recipe = {
        "network": network,
        "splits": splits,
        "images": len(items),
        "init": init and init.name,
        **params.model_dump(mode="json"),
    }
    checkpoint = out.with_name(out.name + ".checkpoint.partial")
    with interrupt.work(), common.terminal() as terminal:
        place = resolve_device(common.device)
        state = _state(checkpoint, recipe, resume)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            model = _network(network, init).to(place)
        data = _data(items, params)
        steps = len(items) // min(batch_size, len(items)) * epochs
        advance = terminal.task(f"training {network}", steps, 0 if state is None else int(state["step"]))
        hooks = EdgeHooks(save=lambda values: _save(checkpoint, values, recipe), advance=advance, say=terminal.say)
        workers = min(8, (common.jobs or len(os.sched_getaffinity(0))) - 1)
        rows = fit_edges(model, data, params, place, hooks, state, workers)
        weights = {n: v.half() if half and v.is_floating_point() else v for n, v in model.cpu().state_dict().items()}
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_bytes(out, buffer.getvalue())
        numbers = {"parameters": sum(p.numel() for p in model.parameters()), "log": rows}
        write_text(out.with_name(out.name + ".json"), json.dumps({**recipe, **numbers}, indent=1) + "\n")
        checkpoint.unlink(missing_ok=True)
        terminal.result(
            {"weights": str(out), "images": len(items), **rows[-1]},
            lambda: terminal.line(
                f"{network}: {len(items)} images, {rows[-1]['step']:.0f} steps, loss {rows[-1]['loss']:.4f}\nweights: {out}"
            ),
        )


def _network(name: str, init: Path | None) -> Any:
    from wss.networks.hed import HED
    from wss.networks.hed_weights import load_hed, load_vgg16
    from wss.networks.small_edges import SmallEdgeNet, load_small
    from wss.networks.weights import read_state_dict

    if name == "small":
        small = SmallEdgeNet()
        if init is not None:
            load_small(small, init)
        return small
    hed = HED()
    if init is not None:
        vgg = init.suffix != ".caffemodel" and any(n.startswith("features.") for n in read_state_dict(init))
        (load_vgg16 if vgg else load_hed)(hed, init)
    return hed


class _Samples:
    """Reads images with their labels. Each image is read once and cached."""

    def __init__(self, items: list[BoundaryImage], agreement: float, tolerance_px: int) -> None:
        self._items = {f"{n}": item for n, item in enumerate(items)}
        self._agreement, self._tolerance = agreement, tolerance_px
        self._read: dict[str, tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]] = {}

    def __call__(self, name: str) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        from wss.training.edges import edge_labels

        if name not in self._read:
            image, boundaries, _ = self._items[name].read()
            self._read[name] = image, {"labels": edge_labels(boundaries, self._agreement, self._tolerance)}
        return self._read[name]


def _data(items: list[BoundaryImage], params: EdgeTrainingParams) -> Any:
    from wss.training.batches import TrainingSet

    read = _Samples(items, params.agreement, params.tolerance_px)
    return TrainingSet([str(n) for n in range(len(items))], read, params.augment, params.seed)


def _state(checkpoint: Path, recipe: dict[str, Any], resume: bool) -> Any:
    from wss.errors import UsageError
    from wss.store.checkpoint import read_checkpoint

    if not resume:
        checkpoint.unlink(missing_ok=True)
    if not checkpoint.exists():
        return None
    state = read_checkpoint(checkpoint)
    if state["recipe"] != recipe:
        changed = sorted(name for name in recipe if state["recipe"].get(name) != recipe[name])
        raise UsageError(
            f"{checkpoint}: an interrupted training with other settings ({', '.join(changed)}); use the same settings to "
            "continue, or give --restart to delete it"
        )
    return state


def _save(checkpoint: Path, state: dict[str, Any], recipe: dict[str, Any]) -> None:
    from wss.store.checkpoint import write_checkpoint

    write_checkpoint(checkpoint, {**state, "recipe": recipe})
