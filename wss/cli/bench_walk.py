"""``wss bench walk``: cost of the parts of RW-SS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wss.cli import options


@options.common("device", "quiet", "as_json")
def walk(
    network: Annotated[str, typer.Option(help="Architecture, as in `wss train`.")] = "deeplab-v2",
    backbone: Annotated[
        str | None, typer.Option(help="Backbone; default for deeplab-v2: resnet50.", show_default=False)
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="Stride of the backbone; default for deeplab-v2: 16.")
    ] = None,
    embed: Annotated[str, typer.Option(help="qkv (Table 5 counts its parameters), none or cosine.")] = "qkv",
    classes: Annotated[int, typer.Option(min=2, max=254, help="Number of classes.")] = 21,
    crop: Annotated[int, typer.Option(min=16, help="Side of the images in pixels; the paper's is 465.")] = 465,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per training step; the paper's is 8.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed steps.")] = 3,
    amp: Annotated[bool, typer.Option("--amp", help="Autocast to bfloat16.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the costs as JSON to this file.")] = None,
    *,
    common: options.Common,
) -> None:
    """Measure parameters, memory and speed of a network, with a random walk, and with self-supervision (RW-SS, Table 5).

    Each row is measured in its own process. Times are the shortest of several repeats.

    Example: [bold]wss bench walk --crop 465 --batch-size 8 --device cuda[/bold]
    """
    import json
    from dataclasses import asdict

    from wss.cli.session import resolve_device
    from wss.methods.rw_ss import RwSs
    from wss.networks import NetworkSpec
    from wss.params import validate
    from wss.store.atomic import write_text
    from wss.training.cost import Trial, cost

    if network == "deeplab-v2":  # the paper's settings; other networks have their own defaults
        backbone, output_stride = backbone or "resnet50", output_stride or 16
    spec = validate(
        NetworkSpec, {"name": network, "backbone": backbone, "output_stride": output_stride}, "wss bench walk"
    )
    trial = Trial(spec, classes, crop, batch_size, str(resolve_device(common.device)), amp, repeats)
    walking = validate(RwSs, {"embed": embed}, "wss bench walk")
    variants = {
        "baseline": (RwSs(walk=False), ["pce"]),
        "+ random walk": (walking, ["pce"]),
        "+ self-supervision": (walking, ["pce", "consistency"]),
    }
    rows = []
    with common.terminal() as terminal:
        advance = terminal.task("measuring", len(variants))
        for name, (method, terms) in variants.items():
            rows.append({"variant": name, **asdict(cost(method, terms, trial))})
            advance(1, name)
        if out is not None:
            write_text(out, json.dumps({"network": spec.model_dump(mode="json"), "rows": rows}, indent=1) + "\n")
        terminal.result(
            rows,
            lambda: terminal.table(
                "",
                ["", "parameters (2^20)", "memory of a step MiB", "training steps/s", "images/s"],
                [
                    (
                        r["variant"],
                        f"{r['parameters'] / 2**20:.2f}",
                        f"{r['step_mib']:.0f}",
                        f"{1 / r['step_s']:.2f}",
                        f"{1 / r['image_s']:.2f}",
                    )
                    for r in rows
                ],
            ),
        )
