"""``wss propagate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options
from wss.labels import UNLABELLED

if TYPE_CHECKING:
    from wss.cli.console import Terminal
    from wss.cli.session import Session
    from wss.propagation import Propagation
    from wss.store import Store


@options.common("workspace", "jobs", "backend", "address", "verbose", "quiet", "as_json")
def propagate(
    image: Annotated[Path | None, typer.Argument(help="One image file; without it, a split of the data set.")] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help="grabcut, graph-cut, densecrf, superpixel or random-walk.")
    ] = "graph-cut",
    scribbles: Annotated[
        Path | None, typer.Option("--scribbles", "-s", help="The image's scribbles: class indices, 255 = unlabelled.")
    ] = None,
    edges: Annotated[
        str | None,
        typer.Option(help="For random-walk: edge detector, embedded or gradient; default: the colour gradient."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File of the mask (default: IMAGE_mask.png here), or folder for the masks of a split."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the data set, if no image is named.")] = "train",
    settings: options.Settings = None,
    *,
    common: options.Common,
) -> None:
    """Turn scribbles into dense masks, without training.

    One image with its scribbles needs no workspace. Without an image, the data set's scribbles are propagated, as `wss prepare`
    made them, and compared with its masks if there are any.

    Example: [bold]wss propagate photo.jpg --scribbles scribbles.png --out mask.png[/bold]
    """
    from wss.datasets.guard import keep_apart
    from wss.errors import UsageError
    from wss.params import nearest
    from wss.pipeline.workspace import Workspace
    from wss.propagation import PROPAGATIONS

    known = {m.model_fields["name"].default: m for m in PROPAGATIONS}
    if method not in known:
        raise UsageError(f"--method {method}: no such propagation{nearest(method, known)}")
    if (image is None) != (scribbles is None):
        raise UsageError("give both an image and its --scribbles; without both, the workspace's data set is used")
    if "features" in known[method].needs:
        raise UsageError(
            f"--method {method}: needs stored features, which `wss propagate` does not compute; write a pipeline whose stage "
            "`propagate` has the input `features` (`wss pipelines pce-features` shows that stage), and `wss run` it"
        )
    if edges is not None and "edges" not in known[method].accepts:
        raise UsageError(f"--edges {edges}: method {method!r} does not use edges; leave it out, or choose random-walk")
    terminal = common.terminal()
    if image is not None and scribbles is not None:
        with terminal:
            target = out or Path(f"{image.stem}_mask.png")
            place = Workspace(common.workspace)
            if place.configured:
                keep_apart(place.dataset(), target.parent, [target.stem])
            _one(terminal, image, scribbles, target, method, edges, settings or [])
    else:
        with common.session(terminal) as session:
            _split(session, split, out, known[method], edges, settings or [])


def _one(
    terminal: Terminal, image: Path, scribbles: Path, out: Path, method: str, edges: str | None, settings: list[str]
) -> None:
    import numpy as np
    import torch

    from wss.datasets.images import PixelOptions, read_label, read_picture
    from wss.edges import DetectorParams, build_detector
    from wss.errors import DataError, UsageError
    from wss.params import nearest, validate
    from wss.pipeline.changes import merge, parse_overrides
    from wss.stages.propagate import PropagateParams
    from wss.stages.superpixels import SuperpixelsParams
    from wss.store.atomic import write_bytes
    from wss.viz import distinct_palette, indexed_png

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a mask is written as PNG; give it a name that ends with .png")
    if out.resolve() in (image.resolve(), scribbles.resolve()):
        raise UsageError(f"--out {out}: is one of the files to read and would be overwritten; give another name")
    named: dict[str, Any] = {
        "propagate": {"method": {"name": method}},
        "superpixels": {"method": {"name": "felzenszwalb"}},
        "edges": {} if edges is None else {"detector": edges},
        "read": {},
    }
    changes = merge(named, parse_overrides(settings))
    for name in set(changes) - set(named):
        raise UsageError(f"--set {name}: no such step{nearest(name, named)}")
    reading = validate(PixelOptions, changes["read"], "read")
    propagation = validate(PropagateParams, changes["propagate"], "propagate").method
    detector = validate(DetectorParams, changes["edges"], "--edges")
    cutting = validate(SuperpixelsParams, changes["superpixels"], "superpixels").method
    reads_edges = "edges" in propagation.accepts and bool(changes["edges"])
    cuts_along = "superpixels" in propagation.needs and cutting.needs_edges
    if changes["edges"] and not (reads_edges or cuts_along):
        raise UsageError(f"--set edges: method {method!r} does not use edges here; leave it out")
    (pixels, valid), labels = read_picture(image, reading), read_label(scribbles, page=reading.page)
    if labels.shape != pixels.shape[:2]:
        raise DataError(
            f"{scribbles}: scribbles are {labels.shape[1]}x{labels.shape[0]}, but {image} is "
            f"{pixels.shape[1]}x{pixels.shape[0]}; both must have the same size"
        )
    if valid is not None:
        labels = np.where(valid, labels, np.uint8(UNLABELLED))
    labelled = labels != UNLABELLED
    if not labelled.any():
        raise DataError(
            f"{scribbles}: no pixel is labelled, all are 255; draw class indices from 0 on pixels of known class"
        )
    if labelled.all():
        terminal.say(f"{scribbles}: every pixel is labelled; unlabelled pixels should be 255")
    num_classes = int(labels[labelled].max()) + 1
    found_edges = build_detector(detector, torch.device("cpu"))(pixels) if reads_edges or cuts_along else None
    extras: dict[str, Any] = {"edges": found_edges} if reads_edges else {}
    if "superpixels" in propagation.needs:
        extras["superpixels"] = cutting.segment(pixels, found_edges)
    proposed = propagation.propagate(pixels, labels, num_classes, **extras).labels
    if valid is not None:
        proposed = np.where(valid, proposed, np.uint8(UNLABELLED))
    write_bytes(out, indexed_png(proposed, distinct_palette(num_classes)))
    classes = [int(label) for label in np.unique(labels[labelled])]
    coverage = float((proposed != UNLABELLED).mean())
    terminal.result(
        {"file": str(out), "classes": classes, "scribbled": float(labelled.mean()), "coverage": coverage},
        lambda: terminal.line(
            f"{out}: {100 * labelled.mean():.2f} % scribbled -> {100 * coverage:.2f} % labelled by {propagation.name}, "
            f"classes {', '.join(map(str, classes))}"
        ),
    )


def _split(
    session: Session,
    split: str,
    out: Path | None,
    method: type[Propagation],
    edges: str | None,
    settings: list[str],
) -> None:
    from wss.pipeline.changes import merge, parse_overrides
    from wss.stages.propagate import proposal_scores

    name = method.model_fields["name"].default
    # each of these begins with a stage `propagate` and what it needs
    pipeline = "scribblesup" if "superpixels" in method.needs else "grabcut" if edges is None else "random-walk"
    session.guard(out)
    changes = merge(session.prepared(pipeline), {"propagate": {"method": {"name": name}, "split": split}})
    if edges is not None:
        changes["edges"] = {"detector": edges}  # replaces the choice of `wss edges`
    chosen = session.pipeline(pipeline, merge(changes, parse_overrides(settings))).up_to("propagate")
    outcomes = session.run(chosen)
    samples, store = outcomes["samples"].store, outcomes["propagate"].store
    scores = proposal_scores(samples, store)
    written = [] if out is None else _write(session.context.progress, samples, store, out)

    def render() -> None:
        session.terminal.line(
            f"{scores['images']} images of split {split!r}, {100 * scores['coverage']:.2f} % of their pixels labelled by "
            f"{name}" + (f"; {len(written)} files in {out}" if written else "")
        )
        if "miou" in scores:
            session.terminal.line(f"mIoU {100 * scores['miou']:.1f} % against the masks of {scores['scored']} images")

    session.terminal.result(
        {"store": str(store.path), "key": store.key, **scores, "files": list(map(str, written))}, render
    )


def _write(progress: Any, samples: Store, store: Store, out: Path) -> list[Path]:
    import numpy as np

    from wss.store.atomic import write_bytes
    from wss.viz import encode_png, indexed_png, overlay

    palette = np.array(samples.meta["palette"], np.uint8)
    advance = progress.task("writing", len(store))
    written = []
    for image_id in store.ids:
        labels = store.get("labels", image_id)
        painted = overlay(samples.get("image", image_id), labels, palette, unpainted=samples.meta["background"])
        for ending, data in ((".png", indexed_png(labels, palette)), ("_overlay.png", encode_png(painted))):
            written.append(out / f"{image_id}{ending}")
            write_bytes(written[-1], data)
        advance(1, image_id)
    return written
