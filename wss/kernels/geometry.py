"""How positions in feature space become keys of the permutohedral lattice: worked out once, so that all backends agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wss.errors import UsageError

# Coordinates of the five-dimensional lattice get 12 bits each, so that a key is one 64-bit integer with room for a sign. In two
# dimensions there is room for more; 16 bits still leave float32 coordinates eight bits of fraction.
_COORDINATE_BITS = {5: 12, 2: 16}


@dataclass(frozen=True)
class Geometry:
    """The embedding of (x, y) or (x, y, r, g, b) into the permutohedral lattice for one image size.

    A vertex has integer coordinates c_0 ... c_(d-1) (coordinate d follows: they sum to zero) and the key
    ``origin + sum_i c_i stride_i``, unique over every vertex that an image of this size can touch and two steps beyond.

    Attributes:
        dims: d, 2 for positions alone and 5 for positions and colour.
        scale: what pixel units and 0-255 intensities are multiplied by before the elevation, one per feature.
        stride: key distance of each coordinate.
        origin: key of the lattice point 0.
        span: keys are in [0, span).
        blurs: 1, or 2 to blur there and back over a finer lattice with one more ring of vertices (more accurate, slower).

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
        """Work out the lattice for images of one size.

        Args:
            height: rows.
            width: columns.
            sigma_xy: standard deviation in pixels.
            sigma_rgb: standard deviation in intensity units of 0-255, or None for a kernel of positions alone.
            blurs: 1 or 2, see above.

        Raises:
            UsageError: the standard deviations are so small that lattice coordinates do not fit their bits.
        """
        sigmas = (sigma_xy, sigma_xy) if sigma_rgb is None else (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb)
        largest = (width - 1, height - 1, 255, 255, 255)
        dims = len(sigmas)
        # Splat and slice spread by (d+1)^2/12 each, a blur by (d+1)^2/2: together the unit variance of scaled features.
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
                f"one coordinate and has {limit} ({_COORDINATE_BITS[dims]} bits): use larger standard deviations, smaller "
                "images, or exact=True"
            )
        stride = tuple(math.prod(extent[:i]) for i in range(dims))
        origin = -sum(c * s for c, s in zip(low, stride, strict=True))
        return cls(dims, scale, stride, origin, math.prod(extent), blurs)

    def step(self, direction: int) -> int:
        """Key distance between neighbours along one of the d + 1 lattice directions: +1 everywhere, -d in the one named."""
        return sum(self.stride) - ((self.dims + 1) * self.stride[direction] if direction < self.dims else 0)

    @property
    def factor(self) -> float:
        """What splat, blur and slice are multiplied by.

        With one blur this is the customary constant of public DenseCRF code, 1 / (1 + 2^-d): row sums of W come out at about 0.6
        of the Gaussian's. With two it makes the kernel's integral that of exp(-|d|^2 / 2), (2 pi)^(d/2).
        """
        if self.blurs == 1:
            return 1 / (1 + math.ldexp(1, -self.dims))
        cell = math.pow(1 / 6 + self.blurs / 2, -self.dims / 2) / math.sqrt(self.dims + 1)
        gain = math.ldexp(1, self.blurs * (self.dims + 1))
        return math.pow(2 * math.pi, self.dims / 2) / (gain * cell)
