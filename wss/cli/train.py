"""``wss train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wss.cli import options


@options.common("workspace", "seed", "device", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def train(
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method or pipeline; `wss methods` lists them.")
    ] = "pce",
    network: Annotated[
        str | None,
        typer.Option(
            help="unet, deeplab-v2, deeplab-v3plus, pspnet, segformer; with VGG16: deeplab-largefov, deeplab-msc-largefov, "
            "deeplab-vgg16."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="resnet18/34/50/101 or mobilenet_v2; for segformer: mit_b0/1/2.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Backbone weights: a state dict file, or 'imagenet' or 'coco' to download.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs of every phase.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of optimiser steps of every phase.")] = None,
    budget: options.Budget = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of every phase.")] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Autocast to bfloat16; default: only if it is faster.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--restart", help="Continue from the last checkpoint, or delete it and start again."),
    ] = True,
    preset: options.Preset = None,
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """Train a network on the prepared labels.

    Missing earlier stages run first. An interrupted training continues from its last checkpoint. After the training is finished,
    the same command does nothing.

    Example: [bold]wss train --method pce --network deeplab-v3plus --backbone mobilenet_v2 --epochs 20[/bold]
    """
    from wss.cli.budget import within
    from wss.errors import UsageError
    from wss.networks.weights import PUBLISHED
    from wss.pipeline.changes import merge, parse_overrides

    network_changes = {name: value for name, value in (("name", network), ("backbone", backbone)) if value is not None}
    if budget is not None and (epochs is not None or steps is not None):
        raise UsageError("--budget sets the length of every phase, as --epochs and --steps do; give only one of them")
    if epochs is not None and steps is not None:
        raise UsageError("--epochs and --steps both set the length of every phase; give only one of them")
    phase_changes: dict[str, Any] = {} if lr is None else {"lr": lr}
    if epochs is not None or steps is not None:
        phase_changes |= {"epochs": epochs, "steps": steps}  # the other one becomes None, also if the pipeline sets it
    changes: dict[str, Any] = {
        name: value for name, value in (("batch_size", batch_size), ("amp", amp)) if value is not None
    }
    if network_changes:
        changes["network"] = network_changes
    if phase_changes:
        changes["phases"] = {"*": phase_changes}
    if weights is not None:
        changes["weights"] = weights if weights in (*PUBLISHED, "none") else str(Path(weights).resolve())
    with common.session(preset=preset) as session:
        method = session.named(method)
        overrides = merge(session.prepared(method), parse_overrides(settings or []))
        if changes:
            overrides = merge(overrides, dict.fromkeys(session.trainings(method), changes))
        pipeline = session.pipeline(method, overrides).up_to("train")
        if budget is not None:
            overrides = merge(overrides, within(session, pipeline, budget))
            pipeline = session.pipeline(method, overrides).up_to("train")
        if not resume:
            session.discard(pipeline, "train")
        outcome = session.run(pipeline)["train"]
        session.remember_training(method, overrides)
        store = outcome.store
        last = store.log["epochs"][-1]
        session.terminal.result(
            {"store": str(store.path), "key": store.key, "images": store.meta["num_images"], **last},
            lambda: session.terminal.line(
                f"{method}: trained on {store.meta['num_images']} images, {last['step']} steps, loss {last['loss']:.3f}"
                + (f", validation mIoU {100 * last['val_miou']:.1f} %" if "val_miou" in last else "")
                + f"\nnetwork: {store.path}"
            ),
        )
