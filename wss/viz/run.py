"""Description of a run for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Level = str | float
"""Level of a factor in a study."""


@dataclass(frozen=True)
class Run:
    """One trained network and its scores.

    Attributes:
        name: Short and unique in the report.
        method: Name of the training method.
        supervision: Kind of training labels, for example ``scribbles`` or ``dense masks``.
        metrics: Record as in ``metrics.json``; missing entries are shown as undefined.
        is_upper_bound: True if trained on dense masks. Other runs are compared with it.
        confusion: Integers (K, K), truth in rows, or None.
        curves: (step, value) pairs by name; names with ``miou`` hold fractions. Values that are None are skipped.
        details: Other information, for example the training parameters; may be nested.
        factors: Factor levels of this run in a study, by factor name.
        last_epoch: Numbers of the last epoch in the training log, by name.
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
        """Mean IoU as a fraction; None if undefined."""
        return self.metrics.get("miou")

    @property
    def crf(self) -> bool:
        """True if a CRF refined the predictions."""
        return bool(self.metrics.get("crf", False))

    @property
    def crf_left_out(self) -> bool:
        """True if a CRF was tried on training images and left out, because no setting improved the result there."""
        return (self.metrics.get("crf_choice") or {}).get("chosen") == "none"

    @property
    def walk(self) -> bool:
        """True if the random walk on features was used only at test time."""
        return bool(self.metrics.get("walk"))
