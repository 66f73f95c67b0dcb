"""Where the files that come with the package are: data set cards and pipelines."""

from __future__ import annotations

from pathlib import Path

import wss


def shipped(folder: str) -> Path:
    """The folder ``data`` or ``pipelines``, in an installed wheel or in a checkout of the repository.

    Args:
        folder: Name of a folder at the root of the repository; a wheel carries it as ``wss/_shipped/<folder>``.
    """
    package = Path(wss.__file__).parent
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder
