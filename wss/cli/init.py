"""``wss init``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.datasets import DatasetSpec
    from wss.datasets.source import Catalogue
    from wss.pipeline.workspace import Workspace


@options.common("workspace", "as_json")
def init(
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            "-k",
            help="voc, context, coco, densepose, folder, nifti, dicom, stack, camvid, acdc or sample; default: what wss.yaml "
            "declares, to change its options.",
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", "-r", help="The data set's folder.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of this kind; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing wss.yaml.")] = False,
    *,
    common: options.Common,
) -> None:
    """Declare the data set of a workspace; writes wss.yaml and lists the files.

    If the data set was moved, give its new folder; finished results are kept. With --option alone, options of the declared data
    set are changed.

    Example: [bold]wss init --kind folder --root ~/cells --workspace cells[/bold]
    """
    from typing import get_args

    import yaml

    from wss.datasets import DatasetSpec, open_source
    from wss.datasets.drawn import Program
    from wss.errors import UsageError
    from wss.params import validate
    from wss.pipeline.workspace import Workspace, gone
    from wss.store.atomic import write_text

    place = Workspace(common.workspace)
    place.require_folder()
    declared = _declared(place) if kind is None else {}
    if kind is None and not (option and declared):
        raise UsageError(
            f"--kind is missing: {place.config_path} {'declares a data set; ' if declared else 'declares no data set yet; '}"
            "give --kind and --root of a data set; to change options of the declared data set, give only --option"
        )
    kind = str(declared.get("kind")) if kind is None else kind
    values: dict[str, object] = {**declared, "kind": kind}
    if root is not None:
        values["root"] = str(root.expanduser().resolve())
    for text in option or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--option {text}: expected NAME=VALUE")
        try:
            values[name.strip()] = _value(name.strip(), value)
        except yaml.YAMLError as error:
            raise UsageError(f"--option {text}: {value!r} is not a YAML value") from error
    if kind in get_args(Program):
        raise UsageError(
            f"--kind {kind}: convert annotations of this program first: `wss data convert FILE --from {kind} "
            "--classes classes.txt --to png --out ROOT/scribbles`, then `wss init --kind folder --root ROOT`"
        )
    known = place.configured and not force and (not declared or root is not None)
    before = place.dataset() if known else None
    kept = {} if before is None or option or before.kind != kind or not gone(before) else dict(before.options)
    values |= kept
    spec = validate(DatasetSpec, values, "wss init")
    if before is not None and not (gone(before) and (before.kind, before.options) == (spec.kind, spec.options)):
        raise UsageError(f"{place.config_path} exists; --force replaces it")
    if declared and root is None:
        spec = spec.model_copy(update={"root": place.dataset().root})  # wss.yaml may name it from its own folder
    source = open_source(spec)
    catalogue = source.catalogue
    terminal = common.terminal()
    if before is not None:
        _require_same(place, before, catalogue)
        terminal.say(f"the data set of {place.config_path} was moved from {before.root}; finished stages stay finished")
        if kept:
            terminal.say(f"its options are kept: {', '.join(f'{name}={value}' for name, value in kept.items())}")
    header = "# The data set of this workspace; `wss data check` looks for faults in it.\n"
    write_text(place.config_path, header + yaml.safe_dump({"dataset": values}, sort_keys=False, allow_unicode=True))
    splits = {name: len(ids) for name, ids in catalogue.splits.items()}
    counts = ", ".join(f"{name} {count}" for name, count in splits.items())
    for note in getattr(source, "notes", ()):
        if note.severity == "error":
            terminal.say(f"{note.file}: {note.message}; {note.remedy}")
    axis = next((note for note in getattr(source, "notes", ()) if note.code == "slice-axis"), None)
    if axis is not None:
        terminal.say(f"{axis.message} ({axis.file and axis.file.name}); {axis.remedy}: `wss init -o axis=...`")
    terminal.result(
        {"config": str(place.config_path), "classes": list(catalogue.classes), "splits": splits},
        lambda: terminal.line(f"{len(catalogue.classes)} classes, images: {counts}\nwritten: {place.config_path}"),
    )


def _declared(place: Workspace) -> dict[str, object]:
    """The data set entry of the workspace's ``wss.yaml``; empty if there is none."""
    from wss.yaml_text import parse

    if not place.configured:
        return {}
    place.dataset()  # raises if the file is malformed
    declared: dict[str, object] = parse(place.config_path.read_text(encoding="utf-8"))["dataset"]
    return declared


def _value(name: str, text: str) -> object:
    """Parse the value of an option.

    Braces in a name pattern, as in ``{name}_mask.png``, are text, not a mapping. A table of numbers may be written without
    blanks, as in ``{0:0,255:1}``, and without braces.
    """
    from wss.yaml_text import parse

    table = "".join(text.split()).strip("{}")
    if re.fullmatch(r"\d+:\d+(,\d+:\d+)*", table):
        return parse("{" + table.replace(":", ": ") + "}")
    return text if "{name}" in text else parse(text)


def _require_same(place: Workspace, before: DatasetSpec, catalogue: Catalogue) -> None:
    """Raise if the new folder holds another data set than the one that was read before. Compares only the lists of files."""
    from wss.errors import UsageError
    from wss.stages.samples import catalogue_meta

    store = place.read_before(before)
    if store is not None and catalogue_meta(catalogue) != {
        name: store.meta[name] for name in catalogue_meta(catalogue)
    }:
        raise UsageError(
            f"{place.config_path} names {before.root}, which does not exist, and the new folder holds other images, splits or "
            "classes; --force replaces it"
        )
