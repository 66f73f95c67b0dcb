"""Image files for tests of the raster reader."""

SIZE = (13, 21)
