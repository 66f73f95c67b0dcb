"""Builds the optional native kernels; everything else is declared in pyproject.toml."""

from setuptools import setup

setup()
