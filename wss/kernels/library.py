"""Loader of compiled kernels: ctypes, if they are built and the machine can run them."""

from __future__ import annotations

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

_BUILDS = {"AVX2": ("_avx2",), "AVX512": ("_avx512", "_avx2")}
"""Builds by torch's name of the processor's capability, fastest first. AVX512 means F, BW, DQ, VL and FMA there."""


def load(name: str) -> ctypes.CDLL | None:
    """The fastest build of a kernel that this processor can run, or None if none is installed.

    ``torch.backends.cpu.get_cpu_capability`` decides, so ``ATEN_CPU_CAPABILITY=default`` selects the portable build here too.

    Args:
        name: Name of the shared library in the folder of this file, without suffix. ``NAME_avx2`` and ``NAME_avx512``
            are the builds for processors with these instructions.
    """
    builds = _BUILDS.get(torch.backends.cpu.get_cpu_capability(), ())
    for build in (*(name + suffix for suffix in builds), name):
        for suffix in EXTENSION_SUFFIXES:
            path = Path(__file__).with_name(build + suffix)
            if path.is_file():
                try:
                    return ctypes.CDLL(str(path))
                except OSError:  # built on another machine: no OpenMP runtime, or another libc
                    continue
    return None
