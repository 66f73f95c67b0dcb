"""The class names of a user's own data set, from a text, YAML or JSON file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from wss.datasets.cards import colour_map
from wss.datasets.finding import FileProblem
from wss.datasets.source import IGNORE_INDEX
from wss.yaml_text import parse

_NUMBERED = re.compile(r"(\d+)[\s:,;=]+(\S.*)")
_BACKGROUND = ("background", "bg", "null")


class ClassList(NamedTuple):
    """Class names by index, their colours, and which one is the background (None: none of them)."""

    names: tuple[str, ...]
    palette: NDArray[np.uint8]
    background: int | None


def read_classes(path: Path) -> ClassList:
    """Read class names.

    Text files have one class a line: either ``index name`` or just the name, in the order of the indices. After an index,
    what follows a colon in the name is a remark. Blank lines, lines that begin with ``#`` and the index 255 are skipped.
    YAML and JSON files hold a list of names, a mapping from index to name, or a mapping with ``classes`` and, optionally,
    ``palette`` (one ``[r, g, b]`` per class) and ``background`` (an index). A class called background, bg or null is the
    background unless the file says otherwise.

    Raises:
        DataError: The file is missing or unreadable, indices have gaps, or names repeat.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileProblem(
            "missing-file", path, "no list of class names", "write one class a line as `index name`, from 0"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem("class-list", path, f"cannot be read ({error})", "save it as UTF-8 text") from error
    values: Any = _text(text) if path.suffix.lower() == ".txt" else _yaml(path, text)
    palette: NDArray[np.uint8] | None = None
    declared: Any = _UNSET
    if isinstance(values, dict) and "classes" in values:
        palette = _colours(path, values.get("palette"))
        declared = values.get("background", _UNSET)
        values = values["classes"]
    names = _names(path, values)
    if palette is None:
        palette = colour_map(len(names))
    if len(palette) != len(names):
        raise _problem(path, f"{len(names)} classes, but {len(palette)} colours")
    background = next((i for i, name in enumerate(names) if name.strip("_").lower() in _BACKGROUND), None)
    if declared is not _UNSET:
        if declared is not None and declared not in range(len(names)):
            raise _problem(path, f"background {declared!r} is no class index")
        background = declared
    return ClassList(names, palette, background)


_UNSET = object()


def _text(text: str) -> Any:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if not all(numbered):
        return lines
    pairs = [(int(match[1]), match[2].split(":")[0].strip()) for match in numbered if match]
    return dict(pairs) if len({index for index, _ in pairs}) == len(pairs) else pairs


def _yaml(path: Path, text: str) -> Any:
    try:
        return parse(text)  # JSON is YAML
    except yaml.YAMLError as error:
        raise _problem(path, f"not valid YAML or JSON ({error})") from error


def _names(path: Path, values: Any) -> tuple[str, ...]:
    if isinstance(values, dict):
        by_index = {int(k): v for k, v in values.items() if str(k).isdigit() and int(k) != IGNORE_INDEX}
        if sorted(by_index) != list(range(len(by_index))):
            raise _problem(path, f"class indices must be 0, 1, 2, ... without gaps, got {sorted(map(str, values))}")
        values = [by_index[index] for index in range(len(by_index))]
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise _problem(path, "expected class names, one for every index from 0")
    names = tuple(value.strip() for value in values)
    if len(set(names)) != len(names):
        raise _problem(path, f"class {next(n for n in names if names.count(n) > 1)!r} is named twice")
    if len(names) > IGNORE_INDEX:
        raise _problem(path, f"{len(names)} classes, at most {IGNORE_INDEX} are possible")
    return names


def _colours(path: Path, values: Any) -> NDArray[np.uint8] | None:
    if values is None:
        return None
    try:
        colours = np.array(values, np.uint8)
    except (TypeError, ValueError, OverflowError):
        colours = np.zeros(0, np.uint8)
    if colours.ndim != 2 or colours.shape[1] != 3:
        raise _problem(path, "palette must be a list of [red, green, blue] from 0 to 255")
    return colours


def _problem(path: Path, message: str) -> FileProblem:
    return FileProblem("class-list", path, message, "write one class a line as `index name`, from 0")
