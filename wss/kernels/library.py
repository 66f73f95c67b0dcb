"""Compiled kernels, loaded with ctypes when they were built and the machine can run them."""

from __future__ import annotations

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

_BUILDS = {"AVX2": ("_avx2",), "AVX512": ("_avx512", "_avx2")}
"""Builds to look for by what torch says of the processor, fastest first. Its AVX512 means F, BW, DQ and VL, and FMA."""


def load(name: str) -> ctypes.CDLL | None:
    """The fastest build of a kernel that this processor runs, or None when none was installed.

    ``torch.backends.cpu.get_cpu_capability`` decides, so ``ATEN_CPU_CAPABILITY=default`` selects the portable build here too.

    Args:
        name: Of the shared library beside this file, without its ending; ``NAME_avx2`` and ``NAME_avx512`` are the builds for
            processors with these instructions.
    """
    builds = _BUILDS.get(torch.backends.cpu.get_cpu_capability(), ())
    for build in (*(name + suffix for suffix in builds), name):
        for suffix in EXTENSION_SUFFIXES:
            path = Path(__file__).with_name(build + suffix)
            if path.is_file():
                try:
                    return ctypes.CDLL(str(path))
                except OSError:  # built elsewhere: a missing OpenMP runtime, another libc
                    continue
    return None
