"""Mapping from positions in feature space to keys of the permutohedral lattice, shared by all backends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wss.errors import UsageError

# Coordinates of the five-dimensional lattice get 12 bits each, so a key fits into a signed 64-bit integer. Two
# dimensions leave room for more bits; with 16 bits, float32 coordinates still have eight bits of fraction.
_COORDINATE_BITS = {5: 12, 2: 16}


@dataclass(frozen=True)
class Geometry:
    """The embedding of (x, y) or (x, y, r, g, b) into the permutohedral lattice for one image size.

    A vertex has integer coordinates c_0 ... c_(d-1). Coordinate d follows, because all coordinates sum to zero. Its key
    is ``origin + sum_i c_i stride_i``. Keys are unique over all vertices that an image of this size can touch, and two
    steps beyond.

    Attributes:
        dims: d, 2 for positions only and 5 for positions and colour.
        scale: Factors of pixel positions and 0-255 intensities before the elevation, one per feature.
        stride: Key distance of each coordinate.
        origin: Key of the lattice point 0.
        span: Number of keys; they are in [0, span).
        blurs: 1, or 2 to blur forwards and backwards on a finer lattice with one more ring of vertices (more accurate,
            slower).

    Source: Adams, Baek, Davis: Fast high-dimensional filtering using the permutohedral lattice, 2010, section 3.1.
    """

    dims: int
    scale: tuple[float, ...]
    stride: tuple[int, ...]
    origin: int
    span: int
    blurs: int

    @classmethod
    def of(cls, height: int, width: int, sigma_xy: float, sigma_rgb: float | None, blurs: int = 1) -> Geometry:
        """Compute the geometry for images of one size.

        Args:
            height: Number of rows.
            width: Number of columns.
            sigma_xy: Standard deviation in pixels.
            sigma_rgb: Standard deviation in intensity units of 0-255, or None for a kernel of positions only.
            blurs: 1 or 2, see ``Geometry``.

        Raises:
            UsageError: The standard deviations are so small that lattice coordinates do not fit their bits.
        """
        sigmas = (sigma_xy, sigma_xy) if sigma_rgb is None else (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb)
        largest = (width - 1, height - 1, 255, 255, 255)
        dims = len(sigmas)
        # Splat and slice add a variance of (d+1)^2/12 each, a blur (d+1)^2/2. With this scale the sum is unit variance.
        deviation = (dims + 1) * math.sqrt(1 / 6 + blurs / 2)
        scale = tuple(deviation / math.sqrt((j + 1) * (j + 2)) / sigma for j, sigma in enumerate(sigmas))
        reach = [s * top for s, top in zip(scale, largest, strict=False)]
        # Elevated coordinate i is sum_(j>=i) f_j - i f_(i-1). Vertices lie within d + 1 of it, the ring and its
        # neighbours within 3d + 1.
        margin = 3 * dims + 2
        low = [math.floor(-i * reach[i - 1]) - margin if i else -margin for i in range(dims)]
        extent = [math.ceil(sum(reach[i:])) + margin + 1 - low[i] for i in range(dims)]
        limit = 2 ** _COORDINATE_BITS[dims]
        if max(extent) > limit:
            rgb = "" if sigma_rgb is None else f", sigma_rgb={sigma_rgb:g}"
            raise UsageError(
                f"the lattice for {width}x{height} pixels with sigma_xy={sigma_xy:g}{rgb} needs {max(extent)} steps along "
                f"one coordinate but has {limit} ({_COORDINATE_BITS[dims]} bits): use larger standard deviations, "
                "smaller images, or exact=True"
            )
        stride = tuple(math.prod(extent[:i]) for i in range(dims))
        origin = -sum(c * s for c, s in zip(low, stride, strict=True))
        return cls(dims, scale, stride, origin, math.prod(extent), blurs)

    def step(self, direction: int) -> int:
        """Key distance of neighbours along a direction, 0 to d: its coordinate changes by -d, all others by +1."""
        return sum(self.stride) - ((self.dims + 1) * self.stride[direction] if direction < self.dims else 0)

    @property
    def factor(self) -> float:
        """Factor of the result of splat, blur and slice.

        With one blur it is the usual constant of public DenseCRF code, 1 / (1 + 2^-d). Row sums of W are then about 0.6
        times those of the Gaussian. With two blurs it makes the integral of the kernel equal that of exp(-|d|^2 / 2),
        (2 pi)^(d/2).
        """
        if self.blurs == 1:
            return 1 / (1 + math.ldexp(1, -self.dims))
        cell = math.pow(1 / 6 + self.blurs / 2, -self.dims / 2) / math.sqrt(self.dims + 1)
        gain = math.ldexp(1, self.blurs * (self.dims + 1))
        return math.pow(2 * math.pi, self.dims / 2) / (gain * cell)
