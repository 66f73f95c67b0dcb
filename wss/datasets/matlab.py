"""Label images in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem


def read_mat(path: Path, variable: str, field: str | None = None) -> NDArray[np.int64]:
    """Read a label image from a MATLAB file (version 7 or older).

    Args:
        path: The file.
        variable: Name of the variable.
        field: Field, when the variable is a structure.

    Returns:
        int64 (H, W), not negative.

    Raises:
        DataError: Missing, damaged, or without such a label image.
    """
    from scipy.io import loadmat

    name = variable if field is None else f"{variable}.{field}"
    try:
        content: Any = loadmat(path, variable_names=[variable], squeeze_me=True, struct_as_record=False)[variable]
        labels = np.asarray(content if field is None else getattr(content, field))
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such file", "restore it or take it out of the list") from None
    except Exception as error:  # scipy raises many kinds of exceptions for damaged files
        raise FileProblem(
            "unreadable-label", path, f"expected a MATLAB file with {name} ({error})", "download it again"
        ) from error
    whole = labels.ndim == 2 and labels.dtype.kind in "iuf" and labels.size > 0
    if not whole or labels.min() < 0 or not (labels == np.floor(labels)).all():
        raise FileProblem(
            "unreadable-label", path, f"{name} is {labels.dtype} {labels.shape}, no label image", "download it again"
        )
    return labels.astype(np.int64)
