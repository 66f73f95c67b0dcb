"""Runs a command of the page on the papers on tiny data, with settings that only make it small.

The unchanged command says what it would do (``--dry-run``); the small one runs. Their plans are compared: nothing but sizes and
lengths may differ, so that what is true of the stages and tables of the small run is true of the command's.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cli.commands import Result, call
from wss.pipeline.document import read_pipeline
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline

CROP = 33
SMALL_BACKBONE = "resnet18"
LARGE_BACKBONES = ("resnet50", "resnet101")
SMALLER = (
    "batch_size",
    "weights",
    "phases.*.steps",
    "phases.*.epochs",
    "augment.crop",
    "augment.resize",
    "network.backbone",
)
"""Parameters of trainings that small runs may change."""


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes:
        stages: Rows of ``--dry-run --json``, by id of the stage.
    """

    stages: Mapping[str, Mapping[str, Any]]

    def of(self, stage: str) -> dict[str, Mapping[str, Any]]:
        """The rows of one kind of stage, by id."""
        return {name: row for name, row in self.stages.items() if row["stage"] == stage}


@dataclass(frozen=True)
class Finished:
    """What a small run left.

    Attributes:
        plan: Of the small command.
        outcomes: Rows of ``wss run --json``, by id of the stage.
        page: The report.
    """

    plan: Plan
    outcomes: Mapping[str, Mapping[str, Any]]
    page: str


def arguments(command: str, files: Mapping[str, Path]) -> list[str]:
    """The words of a command line behind ``wss``, with file names in the place of words like ``FILE``."""
    program, *words = shlex.split(command)
    assert program == "wss", command
    for name, path in files.items():
        words = [f"{word.removesuffix(name)}{path}" if word.endswith(f"={name}") else word for word in words]
    return words


def plan(words: Sequence[str]) -> Plan:
    """What ``wss run`` with these words would do, found without running anything."""
    found = _done(call(*words, "--dry-run", "--json")).json
    return Plan({row["id"]: row for row in found["stages"]})


def run_small(words: Sequence[str], whole: Plan, folder: Path, fewer: Mapping[str, Sequence[Any]]) -> Finished:
    """Run a command in miniature and check that nothing else differs.

    Of factors whose levels are numbers, such as the length of scribbles, the first and the last level are run.

    Args:
        words: The command's, see ``arguments``.
        whole: Its plan.
        folder: For files of this run.
        fewer: Levels by other factors that are run, as far as the command has them.
    """
    factors = _factors(words)
    levels = {name: chosen for name, known in factors.items() if (chosen := _levels(known, fewer.get(name, ())))}
    networks = dict(_networks(factors.get("network", {}), levels.pop("network", ()), folder))
    levels |= {"network": networks} if networks else {}
    less = [*words, *_settings(f"factors.{name}={json.dumps(chosen)}" for name, chosen in levels.items())]
    less += _settings(_smaller(plan(less) if levels else whole, bool(networks)))
    small = plan(less)
    differences = list(unlike(whole, small))
    assert not differences, differences
    assert levels or set(small.stages) == set(whole.stages)
    done = _done(call(*less, "--jobs", 1, "--json")).json
    workspace = Path(words[list(words).index("-w") + 1])
    return Finished(small, {row["id"]: row for row in done}, (workspace / "report.html").read_text())


def _factors(words: Sequence[str]) -> dict[str, Any]:
    """The factors of a command's pipeline with the levels of its preset."""
    factors = dict(read_pipeline(find_pipeline(words[1])).get("factors") or {})
    if "--preset" in words:
        preset = load_preset(words[list(words).index("--preset") + 1])
        factors |= {name: levels for name, levels in preset.factors.items() if name in factors}
    return factors


def _levels(known: Any, wanted: Sequence[Any]) -> list[Any]:
    """The levels to run, or none for all."""
    if len(known) > 1 and all(isinstance(level, int | float) for level in known):
        return [*known][:: len(known) - 1]
    return [level for level in known if level in wanted]


def _settings(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def unlike(whole: Plan, small: Plan) -> Iterator[str]:
    """Where stages of a small command differ from those of the whole one in more than their size."""
    for name, row in small.stages.items():
        if name not in whole.stages:
            yield f"{name}: no such stage in the whole command"
            continue
        wanted = whole.stages[name]
        for path, old, new in _changes(wanted["params"], row["params"], ()):
            plain = ".".join("*" if part.isdigit() else part for part in path)
            if row["stage"] != "train" or not any(plain == known for known in SMALLER):
                yield f"{name}: {'.'.join(path)} {old!r} -> {new!r}"


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _changes(old.get(name), new.get(name), (*path, str(name)))
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and len(old) == len(new)
        and any(isinstance(x, dict) for x in old)
    ):
        for position, pair in enumerate(zip(old, new, strict=True)):
            yield from _changes(*pair, (*path, str(position)))
    elif old != new:
        yield path, old, new


def _smaller(plan: Plan, has_networks: bool) -> Iterator[str]:
    """Settings that make every training small, apart from networks that a factor chooses."""
    for name, row in plan.of("train").items():
        params = row["params"]
        yield f"{name}.batch_size=2"
        yield f"{name}.weights=null"
        yield f"{name}.phases.*.steps=1"
        for size in ("crop", "resize"):
            if params["augment"][size] is not None:
                yield f"{name}.augment.{size}={CROP}"
        if params["network"]["backbone"] in LARGE_BACKBONES and not has_networks:
            yield f"{name}.network.backbone={SMALL_BACKBONE}"


def _networks(declared: Mapping[str, Any], wanted: Collection[str], folder: Path) -> Iterator[tuple[str, Any]]:
    """The levels of the factor ``network`` with small backbones, each with a preset that agrees."""
    for level in wanted or declared:
        values = declared[level]
        spec, preset = values["spec"], values.get("preset")
        if spec.get("backbone") in LARGE_BACKBONES:
            values = {**values, "spec": {**spec, "backbone": SMALL_BACKBONE}}
            if preset is not None:
                values["preset"] = str(_with_small_backbone(preset, folder))
        yield level, values


def _with_small_backbone(name: str, folder: Path) -> Path:
    """A preset that differs from the named one by its backbone."""
    recipes = {
        role: {**recipe, "network": {**recipe["network"], "backbone": SMALL_BACKBONE}}
        for role, recipe in load_preset(name).recipes.items()
        if "network" in recipe
    }
    path = folder / f"{name}-small.yaml"
    path.write_text(yaml.safe_dump({"extends": name, "recipes": recipes}))
    return path


def _done(result: Result) -> Result:
    assert result.code == 0, result.err
    return result
