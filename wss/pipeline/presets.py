"""Presets: settings for many pipelines in one YAML file, those of a paper on a data set, say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.errors import UsageError
from wss.params import nearest
from wss.pipeline.document import read_document
from wss.shipped import shipped


@dataclass(frozen=True)
class Preset:
    """Settings for many pipelines: those of a paper on a data set, say.

    Attributes:
        source: Its name, or its file, as errors quote it.
        title: One line for lists.
        stages: Parameter changes by pattern of node ids.
        methods: Changes of a method's settings by its name, wherever it is trained.
        factors: Levels, with their values, by factor.
    """

    source: str
    title: str
    stages: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    factors: Mapping[str, Any]


def shipped_presets() -> dict[str, Path]:
    """The presets that come with wss, by name."""
    return {path.stem: path for path in sorted((shipped("pipelines") / "presets").glob("*.yaml"))}


def load_preset(name_or_file: str) -> Preset:
    """Read a shipped preset, or a YAML file with ``stages``, ``methods`` and ``factors``.

    Raises:
        UsageError: No such preset, or not of that form.
    """
    known = shipped_presets()
    path = known.get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise UsageError(f"no preset {name_or_file!r}{nearest(name_or_file, known)}")
    document = read_document(path)
    parts = {name: document.get(name) or {} for name in ("stages", "methods", "factors")}
    for name in set(document) - {"title", "description", *parts}:
        raise UsageError(f"{path}: unknown entry {name!r}{nearest(name, ['title', 'description', *parts])}")
    for name, part in parts.items():
        if not isinstance(part, dict) or (name != "factors" and not all(isinstance(v, dict) for v in part.values())):
            raise UsageError(
                f"{path}: {name!r} must hold names, and for each its settings with their values; got {part!r}"
            )
    return Preset(name_or_file, str(document.get("title", path.stem)), **parts)
