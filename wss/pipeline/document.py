"""Reading of the YAML files of pipelines and presets, and merging of a pipeline with the pipeline that it extends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wss.errors import UsageError
from wss.params import nearest
from wss.pipeline.changes import merge
from wss.pipeline.recipes import joined as join_recipes
from wss.shipped import shipped
from wss.yaml_text import parse

ENTRIES = ("title", "description", "extends", "without", "split", "recipes", "methods", "factors", "stages")
"""The entries of a pipeline file."""


def read_document(path: Path) -> dict[str, Any]:
    """Read the entries of a YAML file.

    Entries whose names begin with ``x-`` are skipped. They only hold anchors (``&name``) for other entries.

    Raises:
        UsageError: The file cannot be read, is not YAML with named entries, or holds a value that contains itself.
    """
    try:
        document = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected named entries such as 'title' and 'stages', got {type(document).__name__}")
    _refuse_loops(path, document, (), set())
    entries = {name: value for name, value in document.items() if not str(name).startswith("x-")}
    for part in ("recipes", "methods", "every", "stages"):
        for name in entries[part] if isinstance(entries.get(part), dict) else ():
            if not isinstance(name, str):
                raise UsageError(f"{path}: {part}: names must be text, got {name!r}; put it in quotes if it is a name")
    return entries


def _refuse_loops(path: Path, value: Any, above: tuple[int, ...], seen: set[int]) -> None:
    """Raise if an alias (``*name``) is inside the value of its own anchor. ``seen`` holds ids of values already checked."""
    if not isinstance(value, dict | list) or (id(value) in seen and id(value) not in above):
        return
    if id(value) in above:
        raise UsageError(f"{path}: a value contains itself: an alias (*name) is inside the value of its anchor (&name)")
    seen.add(id(value))
    for item in value.values() if isinstance(value, dict) else value:
        _refuse_loops(path, item, (*above, id(value)), seen)


def read_pipeline(path: Path, above: Sequence[Path] = ()) -> dict[str, Any]:
    """Read a pipeline file and merge it with the pipeline that it extends.

    Stages with the same id are merged: parameters one by one (a list replaces a list), inputs role by role (null removes an
    input). A new stage is placed after the previous entry of the file, or after the stage that ``after`` names. Stages named by
    ``without`` are removed. A factor replaces the factor of the same name. Recipes are joined (``wss.pipeline.recipes``), and
    settings of methods are merged.

    Args:
        path: The file.
        above: The files that extend this one.

    Raises:
        UsageError: The file is not a pipeline; it extends itself or a pipeline that does not exist; or it removes or places
            after a stage that the extended pipeline does not have.
    """
    document = read_document(path)
    for name in set(document) - set(ENTRIES):
        raise UsageError(f"{path}: unknown entry {name!r}{nearest(name, ENTRIES)}")
    for name in ("recipes", "methods", "factors"):
        if not isinstance(document.get(name) or {}, dict):
            raise UsageError(f"{path}: {name!r} must be names with their values, got {document[name]!r}")
    if "extends" not in document:
        if "without" in document:
            raise UsageError(f"{path}: 'without' removes stages of an extended pipeline, but there is no 'extends'")
        return document
    base_path = _base(path, document["extends"])
    if base_path.resolve() in {other.resolve() for other in (*above, path)}:
        raise UsageError(f"{path}: extends itself, through {base_path}")
    base = read_pipeline(base_path, (*above, path))
    joined = {**base, **{name: value for name, value in document.items() if name not in ("extends", "without")}}
    joined["factors"] = {**(base.get("factors") or {}), **(document.get("factors") or {})}
    joined["recipes"] = join_recipes(base.get("recipes") or {}, document.get("recipes") or {})
    joined["methods"] = merge(base.get("methods") or {}, document.get("methods") or {})
    joined["stages"] = _stages(
        path, base.get("stages") or [], document.get("stages") or [], document.get("without") or []
    )
    return joined


def _base(path: Path, name: Any) -> Path:
    """Find the pipeline that ``extends`` names: a file beside ``path``, or a shipped pipeline."""
    folders = (path.parent, shipped("pipelines"))
    for folder in folders:
        for candidate in (folder / str(name), folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = [
        file.relative_to(folder).with_suffix("").as_posix() for folder in folders for file in folder.rglob("*.yaml")
    ]
    raise UsageError(f"{path}: extends: no pipeline {name!r}{nearest(name, known)}")


def _id(entry: Mapping[str, Any]) -> Any:
    return entry.get("id", entry.get("stage"))


def _stages(path: Path, base: Any, own: Any, without: Any) -> list[Any]:
    """Merge the stages of both files, see ``read_pipeline``."""
    for entries in (base, own):
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError(f"{path}: 'stages' must be a list of stages, here and in the extended pipeline")
    own_ids = [_id(entry) for entry in own]
    for name in own_ids:
        if own_ids.count(name) > 1:
            raise UsageError(f"{path}: stage {name!r}: there are two stages with this name; give one an 'id'")
    stages = list(base)
    for name in without if isinstance(without, list) else [without]:
        ids = [_id(entry) for entry in stages]
        if name not in ids:
            raise UsageError(f"{path}: without: no stage {name!r}{nearest(name, map(str, ids))}")
        del stages[ids.index(name)]
    place = 0
    for entry in own:
        ids = [_id(other) for other in stages]
        if _id(entry) in ids:
            place = ids.index(_id(entry))
            stages[place] = _merged(path, stages[place], entry)
        else:
            if "after" in entry:
                if entry["after"] not in ids:
                    raise UsageError(
                        f"{path}: after: no stage {entry['after']!r}{nearest(entry['after'], map(str, ids))}"
                    )
                place = ids.index(entry["after"]) + 1
            stages.insert(place, {name: value for name, value in entry.items() if name != "after"})
        place += 1
    return stages


def _merged(path: Path, base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{path}: stage {_id(own)!r}"
    if own.get("stage", base.get("stage")) != base.get("stage"):
        raise UsageError(f"{where}: the extended pipeline has another stage with this id, {base.get('stage')!r}")
    if "after" in own:
        raise UsageError(f"{where}: 'after' places a new stage, but the extended pipeline already has this stage")
    joined = {**base, **own}
    if "params" in base and "params" in own:
        if not isinstance(own["params"], dict):
            raise UsageError(f"{where}: 'params' must be names with values, got {own['params']!r}")
        joined["params"] = merge(base["params"], own["params"])
    if "inputs" in base and "inputs" in own:
        if not isinstance(own["inputs"], dict):
            raise UsageError(f"{where}: 'inputs' must name a stage for each role, got {own['inputs']!r}")
        inputs = {**base["inputs"], **own["inputs"]}
        joined["inputs"] = {role: sources for role, sources in inputs.items() if sources is not None}
    return joined
