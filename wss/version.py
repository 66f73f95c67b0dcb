"""The package's version, read by the build and written into every store."""

__version__ = "0.2.0"
