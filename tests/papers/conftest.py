import os
import shutil

import pytest
import torch

from tests.cli.commands import call
from tests.voc_files import write_context, write_densepose, write_saliency, write_voc
from wss.networks.hed import HED

WORKSPACES = {
    "voc": ("--kind", "voc"),
    "context": ("--kind", "context", "-o", "order=voc-first"),
    "densepose": ("--kind", "densepose"),
    "saliency": ("--kind", "folder"),
}
"""Words of ``wss init`` by the name of the workspace, which is that of the data set."""


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Folders of the data sets by name, and a file of HED's weights, which are random."""
    root = tmp_path_factory.mktemp("papers")
    torch.manual_seed(0)
    torch.save(HED().state_dict(), root / "hed.pt")
    return {
        "voc": write_voc(root / "VOC2012"),
        "context": write_context(root / "VOC2010"),
        "densepose": write_densepose(root / "DensePose"),
        "saliency": write_saliency(root / "MSRA10K"),
        "FILE": root / "hed.pt",
    }


@pytest.fixture
def desk(files, tmp_path, monkeypatch):
    """The current folder, with a workspace for each data set, which are removed afterwards, since networks are large."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.delenv("WSS_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, more in WORKSPACES.items():
        made = call("init", "--root", files[name], "-w", name, *more)
        assert made.code == 0, made.err
    yield tmp_path
    for name in WORKSPACES:
        shutil.rmtree(tmp_path / name)
