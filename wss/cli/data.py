"""``wss data``: inspect a data set, draw scribbles, convert them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wss.cli import options, tiles
from wss.cli.wording import counted

app = typer.Typer(
    no_args_is_help=True, help="Inspect a data set, check it for errors, draw or convert scribbles, cut tiles."
)
app.command()(tiles.tile)
app.command()(tiles.join)


@app.command()
@options.common("workspace", "jobs", "quiet", "as_json")
def check(
    *,
    common: options.Common,
) -> None:
    """Read every file and report each violation of a convention, with the remedy; exit code 1 if there are errors."""
    from wss.datasets.check import check as check_source

    with common.session() as session:
        source, count = _source(session)
        advance = session.context.progress.task("checking", count)
        findings = check_source(source, jobs=session.jobs, progress=advance)
        rows = [{**vars(finding), "file": finding.file and str(finding.file)} for finding in findings]
        worst = {finding.severity for finding in findings}

        def render() -> None:
            for f in findings:
                where = f.file or f.image_id
                session.terminal.line(f"{f.severity} [{f.code}] " + (f"{where}: " if where else "") + f.message)
                session.terminal.line(f"    -> {f.remedy}")
            session.terminal.line(
                f"{count} images checked, {counted(len(findings), 'finding')}" + ("" if findings else ": no problems")
            )

        session.terminal.result(rows, render)
    if "error" in worst:
        raise typer.Exit(1)


@app.command()
@options.common("workspace", "jobs", "quiet", "as_json")
def info(
    *,
    common: options.Common,
) -> None:
    """Count images, sizes, classes, labelled pixels, boxes and tags."""
    from wss.datasets.check import info as summarise
    from wss.datasets.tables import tag_counts

    with common.session() as session:
        source, count = _source(session)
        facts = summarise(source, jobs=session.jobs, progress=session.context.progress.task("reading", count))
        facts["tag_images"] = tags = tag_counts(source)

        def percent(share: float | None) -> str:
            return "-" if share is None else f"{100 * share:.2f}"

        def render() -> None:
            session.terminal.table(
                f"{facts['kind']} data set",
                ["split", "images", "with mask", "with scribble", "with boxes"],
                [
                    (n, s["images"], s["with_mask"], s["with_scribble"], s["with_boxes"])
                    for n, s in facts["splits"].items()
                ],
            )
            size = facts["sizes"]
            session.terminal.line(
                f"{counted(size['distinct'], 'size')}, {size['smallest']} to {size['largest']} (height, width); "
                f"{counted(facts['volumes'], 'volume')}; scribbles cover {percent(facts['scribble_coverage'])} % of the pixels"
            )
            shares = [facts[name] or {} for name in ("mask_share", "scribble_share")]
            boxes = facts["boxes"] or {}
            session.terminal.table(
                "",
                ["class", "% of masks", "% of scribbles", "boxes"],
                [(c, *(percent(s.get(c)) for s in shares), boxes.get(c, "-")) for c in facts["classes"]],
            )
            if tags is not None:
                session.terminal.table("", ["class", "images tagged"], list(tags.items()))

        session.terminal.result(facts, render)


@app.command()
@options.common("seed", "workspace", "jobs", "quiet", "as_json")
def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the scribbles.")],
    to: Annotated[str, typer.Option(help="png, xml, txt, labelme, cvat, coco or painted.")] = "png",
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    *,
    common: options.Common,
) -> None:
    """Draw human-like scribbles from the dense masks. The same seed and image give the same scribbles."""
    from dataclasses import replace

    from wss.errors import DataError
    from wss.scribbles import image_seed
    from wss.scribbles import simulate as draw

    class Simulated:
        """The data set with drawn strokes instead of its own scribbles."""

        def __init__(self, source: Any) -> None:
            self.catalogue = source.catalogue
            self.entries = getattr(source, "entries", {})
            self._source = source

        def read(self, image_id: str) -> Any:
            sample = self._source.read(image_id)
            if sample.mask is None:
                raise DataError(f"image {image_id!r} has no mask to draw scribbles from; name a --split that has masks")
            strokes = tuple(draw(sample.mask, image_seed(common.seed or 0, image_id)))
            return replace(sample, strokes=strokes, scribble=None)

    _convert(common, out, to, split, Simulated)


@app.command()
@options.common("workspace", "jobs", "quiet", "as_json")
def convert(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the scribbles.")],
    to: Annotated[str, typer.Option(help="png, xml, txt, labelme, cvat, coco or painted.")],
    drawings: Annotated[
        Path | None,
        typer.Argument(help="A drawing program's file or folder; default: the data set.", show_default=False),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            "--from", help="labelme, cvat, labelstudio, yolo, qupath, or painted (napari, ilastik: classes from 1)."
        ),
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="Class names, for drawings.", show_default=False)] = None,
    rest: Annotated[
        str | None, typer.Option(help="Class of pixels outside all shapes, for masks; default: unlabelled.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, for drawings without image sizes.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    *,
    common: options.Common,
) -> None:
    """Convert scribbles to another format: the data set's scribbles, or drawings of another program.

    Formats: ScribbleSup's XML, text polylines, PNG with 255 = unlabelled, Labelme's JSON, one XML for CVAT, one JSON for COCO,
    or TIFF with 0 = unlabelled (painted).

    Example: wss data convert annotations.xml --from cvat --classes classes.txt --to png --out cells/scribbles
    """
    from wss.errors import UsageError

    if drawings is None:
        if program or classes or rest or images:
            raise UsageError("--from, --classes, --rest and --images need a file or folder of drawings; name it")
        _convert(common, out, to, split, lambda source: source)
        return
    _convert_drawings(common, drawings, program, classes, rest, images, out, to)


def _convert_drawings(
    common: options.Common,
    drawings: Path,
    program: str | None,
    classes: Path | None,
    rest: str | None,
    images: Path | None,
    out: Path,
    to: str,
) -> None:
    from typing import get_args

    from wss.datasets.classlist import read_classes
    from wss.datasets.convert import convert as write
    from wss.datasets.drawn import Program, open_drawings
    from wss.errors import UsageError
    from wss.params import nearest

    if program not in get_args(Program):
        raise UsageError(f"--from {program}: which program wrote {drawings}?{nearest(program, get_args(Program))}")
    if classes is None:
        raise UsageError(
            "--classes FILE is missing: a file with one class name per line, in the order of their indices"
        )
    with common.terminal() as terminal:
        source = open_drawings(drawings, program, read_classes(classes), rest=rest, images=images)  # type: ignore[arg-type]
        for note in source.notes:
            terminal.say(f"{note.severity} [{note.code}] {note.file}: {note.message}; {note.remedy}")
        files = write(source, out, to)  # type: ignore[arg-type]
        terminal.result(
            [str(path) for path in files], lambda: terminal.line(f"{counted(len(files), 'file')} written to {out}")
        )


def _convert(common: options.Common, out: Path, to: str, split: str | None, wrap: Any) -> None:
    from wss.datasets.convert import convert as write
    from wss.errors import UsageError
    from wss.params import nearest

    with common.session() as session:
        source, _ = _source(session)
        splits = source.catalogue.splits
        if split is not None and split not in splits:
            raise UsageError(f"--split {split}: no such split{nearest(split, splits)}")
        chosen = splits.values() if split is None else [splits[split]]
        ids = list(dict.fromkeys(i for part in chosen for i in part))
        advance = session.context.progress.task("writing scribbles", len(ids))
        files = write(wrap(source), out, to, ids=ids, progress=advance)  # type: ignore[arg-type]
        session.terminal.result(
            [str(path) for path in files],
            lambda: session.terminal.line(f"{counted(len(files), 'file')} written to {out}"),
        )


def _source(session: Any) -> tuple[Any, int]:
    from wss.datasets import open_source

    source = open_source(session.dataset())
    return source, len({i for ids in source.catalogue.splits.values() for i in ids})
