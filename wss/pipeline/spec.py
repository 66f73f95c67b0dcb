"""A pipeline as data: a YAML file that names stages, their parameters and their inputs, checked before anything runs.

``extends`` starts from another pipeline, and ``recipe`` inserts named parameters. ``each`` repeats an entry for every
combination of levels of the named ``factors``. A list input accepts patterns with ``*``. So a study of many trainings is one
short file.

The parameters of a stage come from several sources. Later sources win:

1. the stage's defaults
2. the pipeline's settings of methods
3. values for every stage (``seed``)
4. recipes (a preset's recipes replace the pipeline's)
5. the stage's entry
6. ``every``, ``methods`` and ``stages`` of the preset
7. the same entries of the presets of the stage's levels
8. other names of splits
9. ``methods`` of the command line
10. changes of the stage by the command line

A value that a factor sets cannot be changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from wss.errors import UsageError
from wss.params import Params, nearest, validate
from wss.pipeline.document import read_document, read_pipeline
from wss.pipeline.effects import differences, idle_changes, unmatched, unused, used_factors
from wss.pipeline.factors import Factors, Level, Reads, Single, check_read, expand, read_factors
from wss.pipeline.presets import Preset, check_methods, load_preset, split_names
from wss.pipeline.probabilities import decided
from wss.pipeline.recipes import check_changes
from wss.pipeline.values import NOT_STAGES, Settings
from wss.shipped import shipped
from wss.stages import STAGES
from wss.stages.stage import Stage

_ID = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Node:
    """One stage of a pipeline.

    Attributes:
        id: Unique name in the pipeline; by default the stage's name.
        stage: The stage to run.
        params: Parameters of the stage.
        inputs: Node ids by role.
    """

    id: str
    stage: Stage
    params: Params
    inputs: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Pipeline:
    """Stages in an order in which each stage comes after its inputs.

    Attributes:
        name: File name without ``.yaml``.
        title: One line for lists.
        description: Purpose of the pipeline and when to use it.
        nodes: Stages by id.
        notes: Messages for the user: differences of a preset from its paper, and settings that have no effect.
        levels: Levels of each factor, by name of the factor.
        choose: Returns the same pipeline with only these levels of factors; raises ``UsageError`` if they give no valid pipeline.
    """

    name: str
    title: str
    description: str
    nodes: Mapping[str, Node]
    notes: tuple[str, ...] = ()
    levels: Mapping[str, tuple[Level, ...]] = field(default_factory=dict)
    choose: Callable[[Mapping[str, Sequence[Level]]], Pipeline] | None = field(default=None, compare=False, repr=False)

    def up_to(self, *targets: str) -> Pipeline:
        """Keep only the given nodes and all nodes that they need.

        Raises:
            UsageError: A node does not exist.
        """
        wanted: set[str] = set()
        queue = list(targets)
        while queue:
            node_id = queue.pop()
            if node_id not in self.nodes:
                raise UsageError(f"pipeline {self.name!r} has no stage {node_id!r}{nearest(node_id, self.nodes)}")
            if node_id not in wanted:
                wanted.add(node_id)
                for sources in self.nodes[node_id].inputs.values():
                    queue.extend(sources)
        return replace(self, nodes={i: node for i, node in self.nodes.items() if i in wanted})


def shipped_pipelines() -> dict[str, Path]:
    """Files of the shipped pipelines, by name."""
    return {path.stem: path for path in sorted(shipped("pipelines").glob("*.yaml"))}


def find_pipeline(name_or_file: str) -> Path:
    """Path of a shipped pipeline, or of the given YAML file.

    Raises:
        UsageError: Neither exists.
    """
    known = shipped_pipelines()
    if name_or_file in known:
        return known[name_or_file]
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.exists():
        if path.is_file():
            return path
        raise UsageError(f"{path}: no such pipeline file")
    raise UsageError(f"no pipeline {name_or_file!r}{nearest(name_or_file, known)}")


def reference(name_or_file: str) -> str:
    """A name that identifies a pipeline from any folder: the name of a shipped pipeline, or the absolute path of a file."""
    return name_or_file if name_or_file in shipped_pipelines() else str(find_pipeline(name_or_file).resolve())


def load_pipeline(
    path: Path,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    everywhere: Mapping[str, Any] | None = None,
    preset: Preset | None = None,
) -> Pipeline:
    """Read a pipeline file.

    Args:
        path: The YAML file.
        overrides: Parameter changes by stage id, or by a pattern of ids with ``*``, nested like the parameters. Changes for an
            exact id win over patterns. Further entries: ``factors``, levels by factor; ``recipes`` and ``methods``, changes by
            name; ``split``, splits by the name that stages use. See ``parse_overrides``.
        everywhere: Values for every stage that has a parameter of this name (``seed``) and does not set it.
        preset: Further changes; ``overrides`` win over them.

    Raises:
        UsageError: The YAML is malformed; a stage, parameter, recipe, role or node is unknown; an input has the wrong kind or
            comes later in the file; or a change affects a value that a factor sets.
    """
    document = read_pipeline(path)
    changes = overrides or {}
    check_methods(document.get("methods") or {}, str(path))
    check_methods(changes.get("methods", {}), "--set")
    known_recipes = {**(document.get("recipes") or {}), **(preset.recipes if preset else {})}
    check_changes(changes.get("recipes", {}), known_recipes, "--set")
    built = _build(path, document, changes, everywhere or {}, preset)
    ids, nodes = list(built.nodes), _read_only(built.nodes)
    if changes.get("factors"):
        whole = {name: value for name, value in changes.items() if name != "factors"}
        nodes = _rows_only(nodes, built.named, lambda: _build(path, document, whole, everywhere or {}, preset).named)
    for name in changes:
        if name not in NOT_STAGES and not any(fnmatchcase(node_id, name) for node_id in ids):
            raise UsageError(f"pipeline {path.stem!r} has no stage {name!r}{nearest(name, ids)}")
    used = built.used | {f"factors.{name}" for name in used_factors(document)}
    presets = ([preset] if preset else []) + [level for level in built.levels if level != preset]
    notes = [
        *differences(presets),
        *unmatched(presets, path.stem, ids, used),
        *unused(read_document(path), str(path), path.stem, used, lambda: _build(path, document, {}, {}, None).used),
        *idle_changes(changes, built.nodes, lambda rest: _build(path, document, rest, everywhere or {}, preset).nodes),
    ]
    title = str(document.get("title", path.stem))
    description = str(document.get("description", "")).strip()

    def choose(levels: Mapping[str, Sequence[Level]]) -> Pipeline:
        fewer = {**changes, "factors": {**changes.get("factors", {}), **{n: list(some) for n, some in levels.items()}}}
        ids = _build(path, document, fewer, everywhere or {}, preset).nodes
        matching = {n: v for n, v in fewer.items() if n in NOT_STAGES or any(fnmatchcase(i, n) for i in ids)}
        return load_pipeline(path, matching, everywhere, preset)

    return Pipeline(path.stem, title, description, decided(nodes), tuple(notes), built.factors, choose)


@dataclass(frozen=True)
class _Built:
    """The stages of a pipeline file.

    Attributes:
        nodes: Stages by id.
        levels: Presets of their factor levels.
        used: Recipes, methods and splits that the stages use, see ``Settings.used``.
        named: For each stage id, the ids that it names as inputs. Ids matched by a pattern are not included.
        factors: Levels by factor.
    """

    nodes: dict[str, Node]
    levels: list[Preset]
    used: set[str]
    named: dict[str, set[str]]
    factors: dict[str, tuple[Level, ...]]


def _build(
    path: Path,
    document: Mapping[str, Any],
    changes: Mapping[str, Any],
    everywhere: Mapping[str, Any],
    preset: Preset | None,
) -> _Built:
    entries = document.get("stages")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path}: 'stages' must be a list of stages")
    settings = Settings(
        document.get("recipes") or {},
        document.get("methods") or {},
        split_names(document.get("split"), str(path)),
        everywhere,
        preset,
        changes,
    )
    factors = _factors(document.get("factors") or {}, changes.get("factors", {}), everywhere, preset, str(path))
    nodes: dict[str, Node] = {}
    levels: dict[str, Preset] = {}
    of_levels: dict[str, list[Preset]] = {}
    named: dict[str, set[str]] = {}
    read: Reads = set()
    for position, entry in enumerate(entries):
        where = f"{path}: stage {position + 1}"
        for single in expand(entry, factors, where, read):
            levels |= {name: load_preset(name) for name in single.presets if name not in levels}
            chosen = [levels[name] for name in single.presets]
            node = _node(path, where, single, settings, chosen, nodes)
            nodes[node.id], of_levels[node.id] = node, chosen
            named[node.id] = _named(single.entry.get("inputs") or {})
    check_read(factors, read, str(path))
    _check_levels(str(path), nodes, of_levels, settings)
    chosen_levels = {name: tuple(choice.level for choice in choices) for name, choices in factors.items()}
    return _Built(nodes, list(levels.values()), settings.used, named, chosen_levels)


def _check_levels(
    where: str, nodes: Mapping[str, Node], of_levels: Mapping[str, Sequence[Preset]], settings: Settings
) -> None:
    """Raise if presets of levels would change only a part of a study: its splits, or the training of some networks."""
    for level in dict.fromkeys(preset.source for presets in of_levels.values() for preset in presets):
        (preset,) = {p.source: p for presets in of_levels.values() for p in presets if p.source == level}.values()
        for name, split in preset.split.items():
            if settings.splits().get(name, name) != split and name not in settings.changes.get("split", {}):
                raise UsageError(
                    f"{where}: preset {level} of a level uses the split {split!r} instead of {name!r}, but the rest of the "
                    f"pipeline does not; write `split: {{{name}: {split}}}` in the pipeline or its preset"
                )
    if settings.preset is not None and settings.preset.recipes:
        return
    trainings = [name for name, node in nodes.items() if node.stage.name == "train"]
    without = [name for name in trainings if not any(preset.recipes for preset in of_levels[name])]
    if without and len(without) < len(trainings):
        raise UsageError(
            f"{where}: presets of levels set how networks are trained, but {', '.join(without)} "
            f"{'has' if len(without) == 1 else 'have'} no such level; use a preset for the whole pipeline"
        )


def _factors(
    declared: Any, chosen: Mapping[str, Any], everywhere: Mapping[str, Any], preset: Preset | None, where: str
) -> Factors:
    """The factors of a pipeline, with levels from a preset and from the command line.

    If a seed is given for every stage, it becomes the only level of a factor ``seed`` with plain levels.
    """
    if "seed" in everywhere and isinstance(declared, dict) and isinstance(declared.get("seed"), list):
        chosen = {"seed": [everywhere["seed"]], **chosen}
    if preset is not None and isinstance(declared, dict):
        known = {name: levels for name, levels in preset.factors.items() if name in declared}
        declared = {**declared, **{name: levels for name, levels in known.items() if isinstance(levels, dict)}}
        chosen = {**{name: levels for name, levels in known.items() if not isinstance(levels, dict)}, **chosen}
    return read_factors(declared, chosen, where)


def _read_only(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Remove inputs that stages do not read with their parameters, and nodes that no stage reads for this reason."""
    kept: dict[str, Node] = {}
    idle: set[str] = set()
    for node in nodes.values():
        unread = node.stage.unread(node.params) if node.stage.unread else frozenset()
        idle.update(source for role in unread for source in node.inputs[role])
        inputs = {role: () if role in unread else sources for role, sources in node.inputs.items()}
        kept[node.id] = replace(node, inputs=inputs)
    for node in reversed(list(nodes.values())):  # the consumers of a node come after it
        taken = {source for other in kept.values() for sources in other.inputs.values() for source in sources}
        if node.id in idle - taken:
            del kept[node.id]
    return kept


def _named(inputs: Mapping[str, Any]) -> set[str]:
    """The ids in an entry's inputs, without patterns."""
    sources = [s for given in inputs.values() for s in (given if isinstance(given, list) else [given])]
    return {source for source in sources if isinstance(source, str) and "*" not in source}


def _rows_only(
    nodes: Mapping[str, Node], named: Mapping[str, set[str]], whole: Callable[[], Mapping[str, set[str]]]
) -> dict[str, Node]:
    """Remove stages that are needed only for rows that were not chosen.

    These are stages that another stage names as an input when all levels are chosen, but that no stage names now. Stages that
    only they read are removed too.

    Args:
        nodes: The stages with the chosen levels.
        named: For each stage id, the ids that it names as inputs.
        whole: Returns the same as ``named`` for all levels.
    """
    try:
        before = {source for sources in whole().values() for source in sources}
    except UsageError:  # it needs the levels that were given
        return dict(nodes)
    kept = dict(nodes)
    while True:
        now = {source for name in kept for source in named[name]}
        idle = {name for name in kept if name in before and name not in now}
        if not idle:
            return kept
        kept = {
            name: replace(
                node, inputs={r: tuple(s for s in sources if s not in idle) for r, sources in node.inputs.items()}
            )
            for name, node in kept.items()
            if name not in idle
        }


def _node(
    path: Path,
    place: str,
    single: Single,
    settings: Settings,
    levels: Sequence[Preset],
    earlier: Mapping[str, Node],
) -> Node:
    entry = single.entry
    if not isinstance(entry, dict) or "stage" not in entry:
        raise UsageError(f"{place}: expected an entry with 'stage', got {entry!r}")
    known = {"id", "stage", "each", "params", "inputs"}
    for name in set(entry) - known:
        raise UsageError(f"{place}: unknown entry {name!r}{nearest(name, known)}")
    if not isinstance(entry["stage"], str) or entry["stage"] not in STAGES:
        raise UsageError(f"{path}: no stage {entry['stage']!r}{nearest(entry['stage'], STAGES)}")
    stage = STAGES[entry["stage"]]
    node_id = entry.get("id", stage.name)
    where = f"{path}: stage {node_id!r}"
    if not isinstance(node_id, str) or not _ID.fullmatch(node_id):
        raise UsageError(f"{where}: an id must consist of letters, digits, - and _")
    if node_id in earlier:
        raise UsageError(f"{where}: there are two stages with this name; give one an 'id'")
    values, presets = settings.values(stage, node_id, single, levels, where)
    source = where + (f" with preset {' and '.join(presets)}" if presets else "")
    params = validate(stage.params, values, source)
    return Node(node_id, stage, params, _inputs(where, stage, params, entry.get("inputs") or {}, earlier))


def _inputs(
    where: str, stage: Stage, params: Params, given: Any, earlier: Mapping[str, Node]
) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: 'inputs' must name a stage for each role, got {given!r}")
    for role in set(given) - set(stage.inputs):
        raise UsageError(f"{where}: unknown input {role!r}{nearest(role, stage.inputs)}")
    inputs: dict[str, tuple[str, ...]] = {}
    for role, wanted in stage.inputs.items():
        sources = given.get(role) or []
        sources = sources if isinstance(sources, list) else [sources]
        if wanted.many:
            sources = [matched for source in sources for matched in _matching(source, earlier)]
        if not sources and not wanted.optional:
            raise UsageError(f"{where}: input {role!r} ({wanted.schema.name}) is missing")
        if not sources and wanted.needed_with is not None:
            name, value = wanted.needed_with
            if getattr(params, name) == value:
                raise UsageError(
                    f"{where}: {name}: {value} needs the input {role!r} ({wanted.schema.name}); name the stage that makes it, or "
                    f"set {name} to another value"
                )
        if len(sources) > 1 and not wanted.many:
            raise UsageError(f"{where}: input {role!r} takes one stage, got {len(sources)}")
        for source in sources:
            if not isinstance(source, str) or source not in earlier:
                raise UsageError(f"{where}: input {role!r}: no stage {source!r} before it{nearest(source, earlier)}")
            if earlier[source].stage.output.name != wanted.schema.name:
                raise UsageError(
                    f"{where}: input {role!r} must be {wanted.schema.name}, but {source!r} makes "
                    f"{earlier[source].stage.output.name}"
                )
        inputs[role] = tuple(sources)
    return inputs


def _matching(source: Any, earlier: Mapping[str, Node]) -> list[Any]:
    """The ids that match a pattern with ``*``; anything else is returned unchanged."""
    if not isinstance(source, str) or "*" not in source:
        return [source]
    return [node_id for node_id in earlier if fnmatchcase(node_id, source)] or [source]
