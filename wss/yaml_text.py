"""YAML parser that refuses duplicate names in a mapping; the YAML library would silently take the last one."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the names of a mapping once, before ``<<`` merges other mappings, whose names it may override."""
        seen: set[str] = set()
        for key, _ in () if id(node) in self._checked else node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is named twice", key.start_mark)
                seen.add(key.value)
        self._checked.add(id(node))
        super().flatten_mapping(node)


def parse(text: str) -> Any:
    """Read the plain values of a YAML text. JSON is YAML too.

    Recent texts are cached, because one command reads the same pipelines several times.

    Raises:
        yaml.YAMLError: The text is not YAML, or a name occurs twice in a mapping.
    """
    return copy.deepcopy(_parsed(text))


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
