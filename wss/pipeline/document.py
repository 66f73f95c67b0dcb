"""Reading the YAML files that describe pipelines and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from wss.errors import UsageError


def read_document(path: Path) -> dict[str, Any]:
    """The entries of a file, without those whose names begin with ``x-``, which hold what others refer to.

    Raises:
        UsageError: It cannot be read, or is not YAML with named entries.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected named entries such as 'title' and 'stages', got {type(document).__name__}")
    return {name: value for name, value in document.items() if not str(name).startswith("x-")}
