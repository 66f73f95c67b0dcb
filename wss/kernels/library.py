"""Compiled kernels, loaded with ctypes when they were built and the machine can run them."""

from __future__ import annotations

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch


def load(name: str) -> ctypes.CDLL | None:
    """The fastest build of a kernel that this processor runs, or None when none was installed.

    ``torch.backends.cpu.get_cpu_capability`` decides, so ``ATEN_CPU_CAPABILITY=default`` selects the portable build here too.

    Args:
        name: Of the shared library beside this file, without its ending; ``NAME_avx2`` is the build for processors with AVX2.
    """
    names = [name]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        names.insert(0, f"{name}_avx2")
    for build in names:
        for suffix in EXTENSION_SUFFIXES:
            path = Path(__file__).with_name(build + suffix)
            if path.is_file():
                try:
                    return ctypes.CDLL(str(path))
                except OSError:  # built elsewhere: a missing OpenMP runtime, another libc
                    continue
    return None
