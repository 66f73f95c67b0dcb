"""Draw scribbles in the browser, see masks at once, train, correct, export: the server behind ``wss draw``.

The package is also a function for notebooks: ``wss.draw("images/")`` starts the server and shows its page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wss.draw.notebook import Drawing


class _Function(ModuleType):
    """A module that can be called."""

    def __call__(self, images: str | Path | None = None, **options: Any) -> Drawing:
        """See ``wss.draw.notebook.show``."""
        from wss.draw.notebook import show

        return show(images, **options)


sys.modules[__name__].__class__ = _Function
