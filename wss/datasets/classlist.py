"""The class names of a user's own data set, from a text, YAML or JSON file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from wss.datasets.cards import colour_map
from wss.datasets.finding import FileProblem
from wss.labels import UNLABELLED
from wss.yaml_text import parse

_LABEL_MAP = re.compile(r"(.+):(\d+),(\d+),(\d+):[^:]*:[^:]*")
_LABEL_MAP_HEAD = "label:color_rgb:parts:actions"
_IGNORED = "__ignore__"
_NUMBERED = re.compile(r"(\d+)[\s:,;=]+(\S.*)")
_BACKGROUND = ("background", "bg", "null")


class ClassList(NamedTuple):
    """The classes of a data set.

    Attributes:
        names: Class names by index.
        palette: uint8 (K, 3), RGB colour per class.
        background: Index of the background class, or None.
        ignored: Names of pixels that are ignored; they become 255.
    """

    names: tuple[str, ...]
    palette: NDArray[np.uint8]
    background: int | None
    ignored: tuple[str, ...] = ()

    def labels(self) -> dict[str, int]:
        """Label by name; ignored names have 255."""
        return dict.fromkeys(self.ignored, UNLABELLED) | {name: i for i, name in enumerate(self.names)}


def is_background(name: str) -> bool:
    """True for ``background``, ``bg`` and ``null``, in upper or lower case, with or without underscores around them."""
    return name.strip("_").lower() in _BACKGROUND


def read_classes(path: Path) -> ClassList:
    """Read class names.

    Text files have one class per line: either ``index name``, or only the name, in the order of the indices. If there is an
    index, text after a colon in the name is a comment. Blank lines and lines that begin with ``#`` are skipped, and the name at
    index 255 is ignored. The first line of Labelme's ``labels.txt`` may be ``__ignore__``: this name is 255, and the next line
    has index 0. Lines of CVAT's ``labelmap.txt`` are ``label:red,green,blue:parts:actions``; parts and actions are skipped.
    YAML and JSON files hold a list of names, a mapping from index to name, or a mapping with ``classes`` (YOLO: ``names``) and,
    optionally, ``palette`` (one ``[r, g, b]`` per class) and ``background`` (an index). A class called background, bg or null
    is the background unless the file says otherwise.

    Raises:
        DataError: The file is missing or unreadable, indices have gaps, names repeat, ``__ignore__`` is not the first line, or
            two labels of CVAT have the same colour.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        remedy = "write one class a line as `index name`, from 0"
        if path.parent.name in ("images", "masks", "scribbles"):
            remedy += f", or give the folder above as --root, {path.parent.parent}"
        raise FileProblem("missing-file", path, "no list of class names", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem("class-list", path, f"cannot be read ({error})", "save it as UTF-8 text") from error
    values: Any = _text(path, text) if path.suffix.lower() == ".txt" else _yaml(path, text)
    palette: NDArray[np.uint8] | None = None
    declared: Any = _UNSET
    key = next((key for key in ("classes", "names") if isinstance(values, dict) and key in values), None)
    if key is not None:
        palette = _colours(path, values.get("palette"))
        declared = values.get("background", _UNSET)
        values = values[key]
    names, ignored = _names(path, values)
    if palette is None:
        palette = colour_map(len(names))
    if len(palette) != len(names):
        raise _problem(path, f"{len(names)} classes, but {len(palette)} colours")
    background = next((i for i, name in enumerate(names) if is_background(name)), None)
    if declared is not _UNSET:
        if declared is not None and declared not in range(len(names)):
            raise _problem(path, f"background {declared!r} is no class index")
        background = declared
    return ClassList(names, palette, background, ignored)


_UNSET = object()


def _text(path: Path, text: str) -> Any:
    lines = [line.strip() for line in text.splitlines()]
    mapped = any(line.lstrip("# ").startswith(_LABEL_MAP_HEAD) for line in lines)
    lines = [line for line in lines if line and not line.startswith("#")]
    colours = [_LABEL_MAP.fullmatch(line) for line in lines]
    if lines and (mapped or all(colours)):
        return _label_map(path, list(zip(lines, colours, strict=True)))
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if not all(numbered):
        indices = sorted(int(match[1]) for match in numbered if match)
        if (lines and numbered[0] and indices[0] == 0) or (len(indices) > 1 and indices == list(range(len(indices)))):
            bare = lines[numbered.index(None)]
            raise _problem(path, f"the line {bare[:80]!r} has no index, and others have")
        if len(lines) == 1 and re.search(r"[,;\t]", lines[0]):
            raise _problem(path, f"all class names seem to be on one line, {lines[0][:80]!r}")
        return lines
    pairs = [(int(match[1]), match[2].split(":")[0].strip()) for match in numbered if match]
    return dict(pairs) if len({index for index, _ in pairs}) == len(pairs) else pairs


def _label_map(path: Path, lines: list[tuple[str, re.Match[str] | None]]) -> dict[str, Any]:
    names: list[str] = []
    colours: list[list[int]] = []
    for line, match in lines:
        if match is None:
            message = f"the line {line[:80]!r} is not of the form label:red,green,blue:parts:actions"
            raise FileProblem("class-list", path, message, "export it from CVAT again, with a colour for every label")
        colour = [int(match[channel]) for channel in (2, 3, 4)]
        if colour in colours:
            message = f"{names[colours.index(colour)]!r} and {match[1]!r} have the same colour {tuple(colour)}"
            raise FileProblem("class-list", path, message, "give every label its own colour in CVAT and export again")
        names.append(match[1])
        colours.append(colour)
    return {"classes": names, "palette": colours}


def _yaml(path: Path, text: str) -> Any:
    try:
        return parse(text)  # JSON is YAML
    except yaml.YAMLError as error:
        raise _problem(path, f"not valid YAML or JSON ({error})") from error


def _names(path: Path, values: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names by index, and ignored names."""
    ignored: tuple[str, ...] = ()
    numbered = isinstance(values, dict)
    if isinstance(values, dict):
        ignored = tuple(
            unicodedata.normalize("NFC", v.strip())
            for k, v in values.items()
            if str(k) == str(UNLABELLED) and isinstance(v, str)
        )
        by_index = {int(k): v for k, v in values.items() if str(k).isdigit() and int(k) != UNLABELLED}
        if sorted(by_index) != list(range(len(by_index))):
            raise _problem(path, f"class indices must be 0, 1, 2, ... without gaps, got {sorted(map(str, values))}")
        values = [by_index[index] for index in range(len(by_index))]
    odd = next((v for v in values if isinstance(v, int | float)), None) if isinstance(values, list) else None
    if odd is not None:
        message = f"{odd!r} is no text, as no, yes, on, off and numbers are none"
        raise FileProblem("class-list", path, message, "put the name in quotes")
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise _problem(path, "expected class names, one for every index from 0")
    names = tuple(unicodedata.normalize("NFC", value.strip()) for value in values)
    if names[0] == _IGNORED and not numbered and len(names) > 1:
        names, ignored = names[1:], (_IGNORED,)
    if _IGNORED in names:
        message = f"{_IGNORED!r} is class {names.index(_IGNORED)}, and in Labelme it is no class"
        raise FileProblem("class-list", path, message, "make it the first line, or give it the index 255")
    if len(set(names)) != len(names):
        raise _problem(path, f"class {next(n for n in names if names.count(n) > 1)!r} is named twice")
    if len(names) > UNLABELLED:
        raise _problem(path, f"{len(names)} classes, at most {UNLABELLED} are possible")
    return names, ignored


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
