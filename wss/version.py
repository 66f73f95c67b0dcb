"""The package's version. The build reads it, and every store records it."""

__version__ = "0.2.0"
