import os
import shutil

import pytest
from commands import QUICK, SAMPLE, call, write_cells


@pytest.fixture
def wss():
    return call


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.delenv("WSS_WORKSPACE", raising=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A workspace in which the whole pipeline has run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "wss.yaml").write_text(SAMPLE)
    result = call("run", "pce", "--jobs", 1, "--workspace", folder, *QUICK)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def work(finished, tmp_path, monkeypatch):
    """A copy of the finished workspace, and the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A workspace with a tiny sample data set in which nothing has run, and the current folder."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    (folder / "wss.yaml").write_text(SAMPLE)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A workspace, the current folder, on a folder data set of six images in ``../cells``."""
    root = tmp_path / "cells"
    write_cells(root)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "wss.yaml").write_text("dataset: {kind: folder, root: ../cells}\n")
    monkeypatch.chdir(folder)
    return folder
