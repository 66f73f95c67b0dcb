"""A run as the report knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Level = str | float
"""What a study sets a factor to."""


@dataclass(frozen=True)
class Run:
    """One trained network and its scores.

    Attributes:
        name: Short and unique in the report.
        method: Name of the training method.
        supervision: What it was trained on, for example ``scribbles`` or ``dense masks``.
        metrics: As in ``metrics.json``; missing entries are shown as undefined.
        is_upper_bound: Trained on dense masks: what other runs are compared with.
        confusion: Integers (K, K), truth in rows, or None.
        curves: (step, value) pairs by name; names with ``miou`` hold fractions. Values that are None are skipped.
        details: Anything else worth keeping, for example the training parameters; may be nested.
        factors: What a study set for this run, by name.
        last_epoch: The training log's numbers of the last epoch, by name.
    """

    name: str
    method: str
    supervision: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    is_upper_bound: bool = False
    confusion: NDArray[Any] | None = None
    curves: Mapping[str, Sequence[tuple[float, float | None]]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, Level] = field(default_factory=dict)
    last_epoch: Mapping[str, float] = field(default_factory=dict)

    @property
    def miou(self) -> float | None:
        """Mean IoU as a fraction; None when undefined."""
        return self.metrics.get("miou")

    @property
    def crf(self) -> bool:
        """Whether a CRF refined the predictions."""
        return bool(self.metrics.get("crf", False))

    @property
    def crf_left_out(self) -> bool:
        """Whether a CRF was tried on training images and left out, because no setting gained there."""
        return (self.metrics.get("crf_choice") or {}).get("chosen") == "none"

    @property
    def walk(self) -> bool:
        """Whether features walked when the predictions were made, and only then."""
        return bool(self.metrics.get("walk"))
