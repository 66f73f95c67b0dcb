"""Annotation files whose names differ from the names of their images."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from wss.datasets.files import orphans
from wss.datasets.finding import Finding
from wss.datasets.listing import is_hidden, split_suffix
from wss.errors import DataError, UsageError

_MASK_NAME = re.compile(r"(.+)[-_. ](?:mask|masks|label|labels|gt|seg|segmentation|annotation|truth)", re.IGNORECASE)
_SLOT = "{name}"
_SHOWN = 5
_TRIED = 20


def files_by_pattern(
    root: Path, folder: Path, pattern: str, images: Mapping[str, Path], suffixes: Sequence[str], what: str
) -> tuple[dict[str, Path], list[Finding]]:
    """Annotation files by image name.

    Args:
        root: The data set's folder. Patterns with folders are relative to it.
        folder: Folder for patterns without folders, relative to ``root``.
        pattern: For example ``{name}_mask.png`` or ``truth/{name}/mask.png``. ``{name}`` is replaced by the image's name without
            ending. If the pattern does not end with one of the ``suffixes``, any of them may follow.
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
    files: dict[str, Path] = {}
    for ending in endings:
        for name, path in _matches(base, text + ending).items():
            if path != images.get(name):
                files.setdefault(name, path)
    if not set(files) & set(images):
        raise DataError(
            f"option {option}: no image has such a file in {base}; an image is called {next(iter(images))!r}, and there "
            f"{_shown(base, parts, images)}"
        )
    return {name: path for name, path in files.items() if name in images}, orphans(images, files, what)


def fitting_pattern(images: Collection[str], files: Collection[str]) -> str | None:
    """The pattern that matches most annotation files to images.

    Args:
        images: Names of images.
        files: Annotation files with their ending, relative to their folder, with ``/``.

    Returns:
        The pattern, including the ending if all matching files have the same one. None if the best pattern matches less than half
        of the files (or of the images, if there are fewer).
    """
    endings: dict[str, str] = {}
    for file in files:
        stem, ending = split_suffix(unicodedata.normalize("NFC", file))
        endings[stem] = ending
    candidates: dict[str, None] = {}
    for stem in list(endings)[:_TRIED]:
        inside = sorted((name for name in images if name in stem and name != stem), key=len, reverse=True)
        for name in inside[:_SHOWN]:
            parts = stem.split(name)
            candidates[_SLOT.join(parts)] = None
            for place in range(1, len(parts)) if len(parts) > 2 else ():
                candidates[name.join(parts[:place]) + _SLOT + name.join(parts[place:])] = None
    best: list[str] = []
    pattern = ""
    for candidate in candidates:
        matched = [stem for name in images if (stem := candidate.replace(_SLOT, name)) in endings]
        if len(matched) > len(best):
            best, pattern = matched, candidate
    if not best or 2 * len(best) < min(len(images), len(endings)):
        return None
    suffixes = {endings[stem] for stem in best}
    return pattern + (suffixes.pop() if len(suffixes) == 1 else "")


def without_match(
    root: Path, folder: Path, images: Mapping[str, Path], files: Mapping[str, Path], suffixes: Sequence[str], what: str
) -> list[Finding]:
    """Finding for a folder with annotations of which none has the name of an image.

    Args:
        root: The data set's folder.
        folder: The folder of annotations, relative to it.
        images: Images by name.
        files: Annotations by name, in ``folder`` itself.
        suffixes: Endings of annotations.
        what: ``mask`` or ``scribble``.
    """
    if set(files) & set(images):
        return []
    base = root / folder
    file_names = [path.name for path in files.values()]
    if not file_names and base.is_dir():
        below = (path.relative_to(base) for path in sorted(base.glob("*/*")) if path.suffix.lower() in suffixes)
        file_names = [path.as_posix() for path in below if not is_hidden(*path.parts)]
    lower = {name.lower() for name in images}
    if not file_names or any(name.lower() in lower for name in files):
        return []
    pattern = fitting_pattern(images, file_names)
    message = (
        f"none of the {len(file_names)} {what}s has the name of an image: {file_names[0]} is there, and the image "
    )
    message += next(iter(images.values())).name
    if pattern is None:
        remedy = f"give every {what} the name of its image, or name both so that the option {what}_pattern fits: "
        return [
            Finding(
                "warning", f"no-{what}-matches", None, base, message, f"{remedy}the image's name with more around it"
            )
        ]
    pattern = f"{folder.as_posix()}/{pattern}" if "/" in pattern else pattern
    remedy = f"set {what}_pattern: '{pattern}' below dataset in wss.yaml (`wss init -o '{what}_pattern={pattern}'`)"
    return [Finding("error", f"no-{what}-matches", None, base, message, remedy)]


def masks_among_images(folder: Path, images: Mapping[str, Path]) -> list[Finding]:
    """Finding for images that seem to be masks: their names are names of other images plus a word such as ``_mask``.

    Args:
        folder: The folder of images, relative to the data set's.
        images: Images by name.
    """
    seem = [name for name in images if (match := _MASK_NAME.fullmatch(name)) and match[1] in images]
    if len(seem) < min(2, len(images) // 2) or not seem:
        return []
    file_names = [images[name].name for name in seem]
    pattern = fitting_pattern([name for name in images if name not in seem], file_names)
    if pattern is None:
        return []
    pattern = (folder / pattern).as_posix()
    message = f"{len(seem)} images have names like masks of others, such as {seem[0]}, and are read as images"
    remedy = f"if they are masks, set mask_pattern: '{pattern}' below dataset in wss.yaml (`wss init -o "
    remedy += f"'mask_pattern={pattern}'`); if not, ignore this"
    return [Finding("warning", "mask-among-images", seem[0], images[seem[0]], message, remedy, len(seem))]


def _matches(base: Path, text: str) -> dict[str, Path]:
    """Files below ``base`` by the text in the place of ``{name}``. If the slot occurs several times, the texts must be equal."""
    pieces = text.split(_SLOT)
    wild = "*".join(glob.escape(piece) for piece in pieces)
    named = re.escape(pieces[0]) + r"(?P<name>[^/]+)" + r"(?P=name)".join(re.escape(piece) for piece in pieces[1:])
    matches = ((re.fullmatch(named, p.relative_to(base).as_posix()), p) for p in sorted(base.glob(wild)) if p.is_file())
    named_files = {match["name"]: path for match, path in matches if match and not is_hidden(match["name"])}
    return {unicodedata.normalize("NFC", name): path for name, path in named_files.items()}


def _shown(base: Path, parts: PurePosixPath, images: Mapping[str, Path]) -> str:
    """Text that lists the content of the last folder of a pattern before the image's name."""
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
