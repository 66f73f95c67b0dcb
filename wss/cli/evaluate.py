"""``wss evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.pipeline.spec import Pipeline


@options.common("workspace", "device", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def evaluate(
    crf: Annotated[bool, typer.Option("--crf", help="Refine predictions with the dense CRF first.")] = False,
    crf_preset: Annotated[
        str | None, typer.Option(help="CRF settings: auto, largefov, msc, vgg16, resnet101 or sec.")
    ] = None,
    crf_backend: Annotated[str | None, typer.Option(help="CRF engine: auto, native, torch or pydensecrf.")] = None,
    scales: Annotated[str | None, typer.Option(help="Test scales to average, for example 0.5,0.75,1,1.25.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    walk: Annotated[
        bool,
        typer.Option("--walk", help="Mix the features of similar positions by a random walk before classification."),
    ] = False,
    split: Annotated[str, typer.Option(help="Split whose images are scored.")] = "val",
    trimap: Annotated[
        str | None, typer.Option(help="Also score bands of these widths in pixels along boundaries, for example 2,4,8.")
    ] = None,
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """Score the last trained network at full resolution; writes metrics.json.

    Example: [bold]wss evaluate --crf --scales 0.5,0.75,1,1.25 --flip[/bold]
    """
    from wss.errors import UsageError
    from wss.pipeline.catalogues import require_scores
    from wss.pipeline.changes import merge, parse_overrides

    test_time: dict[str, Any] = {}
    if scales is not None:
        test_time["scales"] = parse_scales(scales)
    if flip:
        test_time["flip"] = True
    if walk:
        test_time["walk"] = True
    scored = {} if trimap is None else {"trimap": parse_widths(trimap)}
    kernels = {name: value for name, value in (("preset", crf_preset), ("backend", crf_backend)) if value is not None}
    if kernels and not crf:
        raise UsageError("--crf-preset and --crf-backend are settings of the dense CRF; give --crf as well")
    with common.session() as session:
        name, changes = session.trained()
        changes = merge(changes, {"predict": {"split": split, "test_time": test_time}})
        changes = merge(changes, {"crf": kernels}) if kernels else changes
        given = parse_overrides(settings or [])
        pipeline = session.pipeline(name, changes, given)
        target = "evaluate-crf" if crf else _scoring(pipeline)
        changes = merge(changes, {target: scored}) if scored else changes
        node = pipeline.nodes.get("crf") if crf else None
        if node is not None and getattr(node.params, "preset", None) == "auto":  # asked for, so it is not left out
            changes = merge(changes, {"crf": {"may_leave_out": False}})
        pipeline = session.pipeline(name, changes, given).up_to(target)
        require_scores(pipeline, session.catalogues(pipeline))
        outcome = session.run(pipeline)[target]
        record = outcome.store.meta["record"]
        session.terminal.result(record, lambda: render(session.terminal, record, outcome.published))


def _scoring(pipeline: Pipeline) -> str:
    """Id of the stage that scores the masks that `wss predict` writes: those of largest regions, where the pipeline has them."""
    from wss.cli.region_choice import deciding

    node = deciding(pipeline)
    stages = pipeline.nodes.values()
    scoring = [n.id for n in stages if n.stage.name == "evaluate" and node and n.inputs["predictions"] == (node.id,)]
    return scoring[0] if scoring else "evaluate"


def parse_scales(text: str) -> list[float]:
    """Parse a comma-separated list of scales.

    Raises:
        UsageError: An entry is not a number between 0.05 and 8.
    """
    from wss.errors import UsageError

    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = []
    if not scales or not all(0.05 <= scale <= 8 for scale in scales):
        raise UsageError(f"--scales {text}: expected numbers between 0.05 and 8, for example 0.5,0.75,1,1.25")
    return scales


def parse_widths(text: str) -> list[int]:
    """Parse a comma-separated list of band widths in pixels.

    Raises:
        UsageError: An entry is not a positive integer, or appears twice.
    """
    from wss.errors import UsageError

    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1 or len(set(widths)) < len(widths):
        raise UsageError(f"--trimap {text}: expected different whole numbers of pixels from 1, for example 2,4,8")
    return widths


def render(terminal: Any, record: dict[str, Any], published: tuple[Path, ...]) -> None:
    """Print the table of ``wss evaluate``."""
    columns, rows = ["class", "IoU %"], []
    dice, distance = record.get("dice_per_class", {}), record.get("hd95_per_class", {})
    columns += ["Dice %"] * bool(dice) + ["HD95"] * bool(distance)
    for name, iou in record["iou_per_class"].items():
        row = [name, _percent(iou)]
        row += [_percent(dice.get(name))] * bool(dice) + [_number(distance.get(name))] * bool(distance)
        rows.append(row)
    after = (" + walk" if "walk" in record else "") + (" + CRF" if record["crf"] else "")
    after += " + largest region" if record.get("largest_region", {}).get("applied") else ""
    terminal.table(f"{record['method']}{after} on {record['num_images']} images of '{record['split']}'", columns, rows)
    terminal.line(
        f"mIoU {_percent(record['miou'])} %   pixel accuracy {_percent(record['pixel_accuracy'])} %   "
        f"mean accuracy {_percent(record['mean_accuracy'])} %   FWIoU {_percent(record['frequency_weighted_iou'])} %"
    )
    for width, score in record.get("trimap_miou", {}).items():
        accuracy = _percent(record["trimap_accuracy"][width])
        terminal.line(f"within {width} px of a boundary: mIoU {_percent(score)} %   pixel accuracy {accuracy} %")
    walk = ", ".join(f"{name} {value:g}" for name, value in record.get("walk", {}).items())
    terminal.line(
        f"scales {record['scales']}, flip {record['flip']}, {f'walk ({walk}), ' if walk else ''}{record['backbone']}, "
        f"initialised: {record['initialisation']}"
    )
    if "crf_choice" in record:
        terminal.line(_choice(record["crf_choice"]))
    for path in published:
        terminal.line(f"written: {path}")


def _choice(choice: dict[str, Any]) -> str:
    if not choice["images"]:
        return (
            f"CRF settings: {choice['chosen']}; the labels of training images name fewer than two classes, so no choice was "
            "possible"
        )
    scores = choice["miou_on_training_labels"]
    told = f"mIoU on labelled pixels of {choice['images']} training images"
    before, after = scores["none"], scores[choice["chosen"]]
    verdict = "raised" if after > before else "did not raise"
    return f"CRF settings: {choice['chosen']}, which {verdict} the {told}: {before:.3f} without, {after:.3f} with it"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
