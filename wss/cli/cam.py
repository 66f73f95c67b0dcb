"""``wss cam``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.store import Store

PIPELINE = "classifier"


@options.common("workspace", "seed", "device", "jobs", "verbose", "quiet", "as_json")
def cam(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for a picture of each image and class.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split whose images are mapped.")] = "train",
    preset: options.Preset = None,
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """Compute class activation maps, which show where a classifier sees the tagged classes of an image.

    If there is no classifier yet, it is trained first, with the pipeline `classifier`. If the last trained pipeline has class
    activation maps too, that pipeline is used.

    Example: [bold]wss cam --out maps[/bold]
    """
    from wss.pipeline.changes import merge, parse_overrides
    from wss.pipeline.spec import find_pipeline, load_pipeline

    with common.session(preset=preset) as session:
        session.guard(out)
        name, changes = PIPELINE, session.prepared(PIPELINE)
        trained = session.workspace.state().get("train")
        if trained and "cam" in load_pipeline(find_pipeline(trained["pipeline"])).nodes:
            name, changes = session.trained()
        pipeline = session.pipeline(name, merge(changes, {"cam": {"split": split}}), parse_overrides(settings or []))
        outcomes = session.run(pipeline.up_to("cam"))
        store = outcomes["cam"].store
        written = _write(outcomes["samples"].store, store, out) if out else []
        classes = store.meta["classes"]
        precision = {classes[int(k)]: value for k, value in store.meta["average_precision"].items()}
        known = [value for value in precision.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        summary = {"store": str(store.path), "key": store.key, "images": len(store), "files": [str(p) for p in written]}

        def render() -> None:
            rows = [(c, "-" if v is None else f"{100 * v:.1f}") for c, v in precision.items()]
            session.terminal.table(f"classification of {len(store)} images of {split!r}", ["class", "AP %"], rows)
            session.terminal.line(f"mean average precision {'-' if mean is None else f'{100 * mean:.1f}'} %")
            if out:
                session.terminal.line(f"{len(written)} pictures in {out}")

        session.terminal.result({**summary, "average_precision": precision, "mean_average_precision": mean}, render)


def _write(samples: Store, cam: Store, out: Path) -> list[Path]:
    """Write one picture per image and tagged class. Folders in image ids are kept."""
    import re

    from wss.store.atomic import write_bytes
    from wss.viz import encode_png, heat_map

    written = []
    for image_id in cam.ids:
        maps: Any = cam.get("cam", image_id)
        for k in maps.any((1, 2)).nonzero()[0]:
            name = re.sub(r"[^\w-]+", "-", cam.meta["classes"][k])
            path = out / f"{image_id}_{name}.png"
            write_bytes(path, encode_png(heat_map(samples.get("image", image_id), maps[k])))
            written.append(path)
    return written
