"""Annotation files whose names differ from those of their images."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from wss.datasets.files import orphans
from wss.datasets.finding import Finding
from wss.datasets.listing import is_hidden
from wss.errors import DataError, UsageError

_SLOT = "{name}"
_SHOWN = 5


def files_by_pattern(
    root: Path, folder: Path, pattern: str, images: Mapping[str, Path], suffixes: Sequence[str], what: str
) -> tuple[dict[str, Path], list[Finding]]:
    """Annotation files by image name.

    Args:
        root: The data set's folder, from which a pattern with folders is taken.
        folder: Folder from which a pattern without folders is taken, relative to ``root``.
        pattern: For example ``{name}_mask.png`` or ``truth/{name}/mask.png``; ``{name}`` stands for the image's name without
            ending. Without one of the ``suffixes`` at its end, each of them may follow.
        images: Images by name.
        suffixes: Wanted suffixes in order of preference.
        what: ``mask`` or ``scribble``, for messages.

    Returns:
        Files by image name, and findings for files without image.

    Raises:
        UsageError: The pattern has no ``{name}``, or leads out of ``root``.
        DataError: No image has such a file; the message shows what is there.
    """
    option = f"{what}_pattern {pattern!r}"
    parts = PurePosixPath(pattern.replace("\\", "/"))
    if _SLOT not in pattern:
        raise UsageError(f"option {option}: expected {_SLOT} in it, which stands for the image's name")
    if parts.is_absolute() or ".." in parts.parts:
        raise UsageError(f"option {option}: expected a path below the data set's root, without '..'")
    base = root if len(parts.parts) > 1 else root / folder
    text = str(parts)
    endings = [""] if parts.suffix.lower() in suffixes and _SLOT not in parts.suffix else list(suffixes)
    found: dict[str, Path] = {}
    for ending in endings:
        for name, path in _matches(base, text + ending).items():
            if path != images.get(name):
                found.setdefault(name, path)
    if not set(found) & set(images):
        raise DataError(
            f"option {option}: no image has such a file in {base}; an image is called {next(iter(images))!r}, and there "
            f"{_shown(base, parts, images)}"
        )
    return {name: path for name, path in found.items() if name in images}, orphans(images, found, what)


def _matches(base: Path, text: str) -> dict[str, Path]:
    """Files below ``base`` by what stands in the place of the name, which is the same wherever it comes."""
    pieces = text.split(_SLOT)
    wild = "*".join(glob.escape(piece) for piece in pieces)
    named = re.escape(pieces[0]) + r"(?P<name>[^/]+)" + r"(?P=name)".join(re.escape(piece) for piece in pieces[1:])
    matches = ((re.fullmatch(named, p.relative_to(base).as_posix()), p) for p in sorted(base.glob(wild)) if p.is_file())
    named_files = {match["name"]: path for match, path in matches if match and not is_hidden(match["name"])}
    return {unicodedata.normalize("NFC", name): path for name, path in named_files.items()}


def _shown(base: Path, parts: PurePosixPath, images: Mapping[str, Path]) -> str:
    """What is in the first folder of a pattern that is the same for all images, for people."""
    folder = base
    for part in parts.parts[:-1]:
        if _SLOT in part:
            break
        folder /= part
    if not folder.is_dir():
        return f"is no folder {folder}"
    images_there = set(images.values())
    names = sorted(path.name for path in folder.iterdir() if path not in images_there and not path.name.startswith("."))
    if not names:
        return f"is nothing else in {folder}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"is {', '.join(names[:_SHOWN])}{more} in {folder}"
