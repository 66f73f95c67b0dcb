"""Location of the files in the package: data set cards and pipelines."""

from __future__ import annotations

from pathlib import Path

import wss


def shipped(folder: str) -> Path:
    """Path of the folder ``data`` or ``pipelines``, in an installed wheel or in a checkout of the repository.

    Args:
        folder: Name of a folder at the root of the repository. A wheel contains it as ``wss/_shipped/<folder>``.
    """
    package = Path(wss.__file__).parent
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder
