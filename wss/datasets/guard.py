"""Protection of the files of a data set against being overwritten by results."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from wss.datasets import DatasetSpec, open_source
from wss.errors import DataError, UsageError


def keep_apart(dataset: DatasetSpec, out: Path, names: Iterable[str] | None = None) -> None:
    """Refuse to write results into the folders of images, masks or scribbles of a data set.

    Results often have the names and endings of masks or scribbles. They would replace these files, or later be read as such.

    Args:
        dataset: The data set. If it cannot be listed, nothing is refused; reading it will report the problem.
        out: Folder for the results.
        names: Names of the results below ``out`` without ending; None if they have the names of the images.

    Raises:
        UsageError: A result would be in the same folder as a file of the data set.
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
