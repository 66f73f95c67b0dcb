"""Listing of images: files by name, lists of names, and splits for data sets without lists."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from wss.datasets.finding import FileProblem, Finding, Severity
from wss.datasets.images import IMAGE_SUFFIXES
from wss.names import name_bytes, name_of, without_odd

OTHER_PICTURES = frozenset(
    [".webp", ".ppm", ".pam", ".pfm", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".avif", ".exr", ".hdr", ".psd", ".svg"]
    + [".tga", ".dng", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".nii", ".gz", ".nrrd", ".mha", ".dcm", ".zip", ".pdf"]
)
"""Endings of files with pictures, labels or arrays that are not read in folders of single files."""


def files_by_stem(folder: Path, suffixes: Sequence[str], ending: str = "") -> tuple[dict[str, Path], list[Finding]]:
    """The files of a folder by name without suffix. Lists the folder without reading the files. A missing folder is empty.

    Names are converted to the composed Unicode form (NFC), so that names match in files and lists that were made on different
    systems.

    Args:
        folder: The folder. It is not searched recursively; hidden files are skipped.
        suffixes: Accepted suffixes, lower case, with dot. Case is ignored in file names. If two files differ only in suffix, the
            earlier suffix wins.
        ending: Ending that is removed from the name, for example ``_scribble``.

    Returns:
        Files by name, sorted, and one finding per name that several files have.
    """
    candidates: dict[str, list[tuple[int, str]]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = split_suffix(entry.name)
                if suffix.lower() in suffixes and not is_hidden(entry.name):
                    name = unicodedata.normalize("NFC", stem.removesuffix(ending) if ending else stem)
                    candidates.setdefault(name, []).append((suffixes.index(suffix.lower()), entry.name))
    except FileNotFoundError:
        return {}, []
    except (NotADirectoryError, PermissionError) as error:
        raise FileProblem(
            "missing-file", folder, f"not a readable folder ({error.strerror})", "check its rights"
        ) from None
    files = {name: folder / min(candidates[name])[1] for name in sorted(candidates)}
    doubtful = [
        Finding(
            "warning",
            "ambiguous-name",
            name,
            files[name],
            f"{', '.join(sorted(file for _, file in claims))} differ only in suffix or Unicode form; {files[name].name} is read",
            "keep one of them",
        )
        for name, claims in sorted(candidates.items())
        if len(claims) > 1
    ]
    return files, doubtful


def is_hidden(*parts: str) -> bool:
    """True if a file, or a folder in its path, is hidden: macOS's ``._x.png``, ``.ipynb_checkpoints`` and similar names.

    Args:
        parts: Names of the folders and the file, relative to the given folder.
    """
    return any(part.startswith(".") for part in parts)


def composed(name: str) -> bool:
    """True if a name is in the composed Unicode form (NFC), where a letter with its accent is one character."""
    return unicodedata.is_normalized("NFC", name)


def hidden_names(folder: Path) -> list[str]:
    """Names of hidden files and folders in a folder, sorted; empty if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_hidden(entry.name))
    except OSError:
        return []


def unread_files(folder: Path, suffixes: Sequence[str]) -> list[Finding]:
    """Findings for unread files in a folder, apart from hidden ones: pictures and arrays, other files, and folders.

    Args:
        folder: The folder. A missing folder counts as empty.
        suffixes: Suffixes of files that are read, lower case.
    """
    others: dict[Severity, list[str]] = {"warning": [], "note": []}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                suffix = split_suffix(entry.name)[1].lower()
                if not is_hidden(entry.name) and suffix not in suffixes:
                    severity: Severity = "warning" if suffix in OTHER_PICTURES and entry.is_file() else "note"
                    others[severity].append(entry.name)
    except OSError:
        return []
    findings = []
    for severity, names in others.items():
        if names:
            message = f"{len(names)} files or folders in it are not read, such as {min(names)}"
            remedy = f"if they belong to the data set, save them in this folder with one of the endings {', '.join(suffixes)}"
            findings.append(Finding(severity, "unread-files", None, folder, message, remedy, len(names)))
    return findings


def read_list(path: Path) -> tuple[tuple[str, ...], list[Finding]]:
    """Read image names from a text file, one per line, with or without suffix. Duplicates are dropped and reported.

    The text is UTF-8. Other bytes are accepted, because file names may not be UTF-8 either.

    Raises:
        DataError: Not a text file, or a line is a path: names may not lead out of the data set's folders.
    """
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise FileProblem("unreadable-list", path, f"cannot be read ({error})", "check its rights") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileProblem("unreadable-list", path, "is UTF-16 text", "save it as UTF-8 text")
    lines = name_of(data).splitlines()
    names: dict[str, int] = {}
    repeated = []
    for number, line in enumerate(lines, 1):
        entry = unicodedata.normalize("NFC", line.strip())
        if not entry:
            continue
        if not is_plain_name(entry):
            raise FileProblem(
                "unsafe-name",
                path,
                f"line {number}: {entry[:80]!r} is not the plain name of an image",
                "write one image name a line, without folders",
            )
        stem, suffix = split_suffix(entry)
        name = stem if suffix.lower() in IMAGE_SUFFIXES else entry
        if name in names:
            repeated.append(name)
        names.setdefault(name, number)
    doubtful = [
        Finding("warning", "duplicate-in-list", name, path, f"{name} is listed more than once", "list every image once")
        for name in dict.fromkeys(repeated)
    ]
    return tuple(names), doubtful


def split_suffix(file_name: str) -> tuple[str, str]:
    """Name and suffix (with its dot, or empty) of a file. A leading dot does not start a suffix."""
    stem, dot, suffix = file_name.rpartition(".")
    return (stem, dot + suffix) if stem else (file_name, "")


def is_plain_name(name: str) -> bool:
    """True if ``name`` is the plain name of a file inside a folder: no separators, no ``..``, no control characters."""
    return name not in (".", "..", "") and without_odd(name).isprintable() and not any(c in name for c in "/\\:\0")


def split_by_hash(ids: Sequence[str], fraction: float, groups: Mapping[str, str] | None = None) -> frozenset[str]:
    """Choose validation images without a list. The choice is the same on every machine and in every run.

    Groups (by default single ids) are ordered by their SHA-256. The first ``fraction`` of the groups is chosen with all images,
    rounded, and at least one group if there are two or more.

    Args:
        ids: Image ids.
        fraction: Fraction of the groups, 0..1.
        groups: Group by id, for example the patient. Ids without a group are their own group.

    Returns:
        The chosen ids.
    """
    group_of = {image_id: (groups or {}).get(image_id, image_id) for image_id in ids}
    ordered = sorted(set(group_of.values()), key=lambda group: hashlib.sha256(name_bytes(group)).digest())
    count = round(fraction * len(ordered))
    if fraction > 0 and count == 0 and len(ordered) > 1:
        count = 1
    chosen = set(ordered[:count])
    return frozenset(image_id for image_id, group in group_of.items() if group in chosen)
