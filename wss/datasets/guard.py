"""A guard against writing results over the files of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from wss.datasets import DatasetSpec, open_source
from wss.errors import DataError, UsageError


def keep_apart(dataset: DatasetSpec, out: Path, names: Iterable[str] | None = None) -> None:
    """Refuse results that would lie among the images, masks or scribbles of a data set.

    Results often have the names and ending of masks or scribbles: they would replace them, or be taken for them.

    Args:
        dataset: The data set. One that cannot be listed has no known files, and whatever reads it says what is wrong.
        out: Folder for the results.
        names: Their names below ``out`` without ending; None where they are called like the images.

    Raises:
        UsageError: A result's folder is that of a file which the data set is read from.
    """
    try:
        source = open_source(dataset)
    except DataError:
        return
    ids = dict.fromkeys(i for split in source.catalogue.splits.values() for i in split)
    resolved = cache(Path.resolve)
    folders = {resolved((out / name).parent) for name in (ids if names is None else names)}
    for image_id in ids:
        for file in source.files(image_id):
            if resolved(file.parent) in folders and file.exists():
                raise UsageError(
                    f"--out {out}: {file.parent} holds files of the data set ({file.name}), and results among them could "
                    "replace them or be taken for them; give --out another folder"
                )
