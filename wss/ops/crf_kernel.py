"""The five numbers of the two kernels of a dense CRF, as parameters that methods and propagations share."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wss.params import Params


class CrfKernel(Params):
    """Weights and standard deviations of the position kernel and the bilateral kernel. The defaults are those of SEC."""

    pos_weight: float = Field(default=3.0, ge=0)
    """Weight of the CRF's position kernel. A larger value smooths more. Published: 3, as in SEC."""
    pos_xy_std: float = Field(default=3.0, gt=0)
    """Standard deviation of the position kernel in pixels. Published: 3, for images of 321x321."""
    bi_weight: float = Field(default=10.0, ge=0)
    """Weight of the CRF's bilateral kernel. A larger value pulls masks more towards colour edges. Published: 10."""
    bi_xy_std: float = Field(default=80.0, gt=0)
    """Spatial standard deviation of the bilateral kernel in pixels. Published: 80, for images of 321x321."""
    bi_rgb_std: float = Field(default=13.0, gt=0)
    """Colour standard deviation of the bilateral kernel, 0-255 units. Published: 13."""

    def kernels(self) -> dict[str, Any]:
        """The five numbers, under the argument names of ``wss.ops.mean_field``."""
        return {name: getattr(self, name) for name in CrfKernel.model_fields}
