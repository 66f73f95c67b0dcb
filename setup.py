"""Builds the optional native kernels and packs the shipped folders; everything else is declared in pyproject.toml.

Each source is compiled once for any processor of the family and, on x86-64, once more for AVX2 and, where it gains, for
AVX-512; the fastest that the processor runs is chosen when it is loaded (wss/kernels/library.py). Without a working
compiler the installation succeeds and wss computes the same in torch and SciPy.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SHIPPED = ("data", "pipelines")
"""Folders of YAML files beside the package. A wheel carries them inside it, where wss/shipped.py finds them."""


class BuildPackage(build_py):
    """Add the shipped folders to the package, except in an editable installation, which has them beside it."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        for folder in SHIPPED:
            target = Path(self.build_lib, "wss", "_shipped", folder)
            shutil.rmtree(target, ignore_errors=True)  # an earlier build may have left files that are gone now
            target.mkdir(parents=True)
            for path in sorted(Path(folder).rglob("*.yaml")):
                copy = target / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


class BuildKernels(build_ext):
    """Compile with OpenMP where the compiler has it, else without."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension, twice if need be."""
        try:
            super().build_extension(ext)
        except Exception:
            ext.extra_compile_args.remove("-fopenmp")
            ext.extra_link_args.remove("-fopenmp")
            super().build_extension(ext)


def kernel(source: str, variant: str = "", *flags: str) -> Extension:
    """Describe one build of a source."""
    return Extension(
        f"wss.kernels._{source}{variant}",
        [f"wss/kernels/{source}.cpp"],
        extra_compile_args=["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wno-psabi", "-fopenmp", *flags],
        extra_link_args=["-fopenmp"],
        optional=True,
    )


SOURCES = ("lattice", "tree", "hitting", "assignment")
kernels = [kernel(source) for source in SOURCES]
if platform.machine().lower() in ("x86_64", "amd64"):
    avx2 = ("-mavx2", "-mfma")
    avx512 = (*avx2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
    kernels += [kernel(source, "_avx2", *avx2) for source in SOURCES]
    kernels += [kernel(source, "_avx512", *avx512) for source in ("lattice", "hitting")]

setup(ext_modules=kernels, cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage})
