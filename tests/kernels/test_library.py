"""The fastest build of a kernel that the processor runs is loaded."""

from __future__ import annotations

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from wss.kernels import library


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ("DEFAULT", ["_x"]),
        ("AVX2", ["_x_avx2", "_x"]),
        ("AVX512", ["_x_avx512", "_x_avx2", "_x"]),
        ("SVE256", ["_x"]),
    ],
)
def test_only_builds_that_the_processor_runs(
    capability: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_x", "_x_avx2", "_x_avx512"):
        (tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    tried: list[str] = []

    def fail(path: str) -> None:
        tried.append(Path(path).name.split(".")[0])
        raise OSError

    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    monkeypatch.setattr(ctypes, "CDLL", fail)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert library.load("_x") is None
    assert tried == expected
