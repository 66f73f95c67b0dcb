"""``wss doctor``."""

from __future__ import annotations

from wss.cli import options


@options.common("workspace", "as_json")
def doctor(
    *,
    common: options.Common,
) -> None:
    """Show installed packages, usable kernels and GPUs, and whether the workspace is writable."""
    import importlib.metadata as metadata
    import os
    import platform
    import shutil

    import torch

    from wss.kernels import assignment, hitting, native, tree

    terminal = common.terminal()
    place = common.workspace.resolve()
    existing = next(p for p in (place, *place.parents) if p.exists())

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    kernels = [
        name
        for name, module in (("lattice", native), ("tree", tree), ("hitting", hitting), ("assignment", assignment))
        if module.available()
    ]
    facts = {
        "wss": version("wss"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
        "torchrun with": _backends() or "nothing: this torch was built without torch.distributed",
        "compiled kernels": kernels or "none (torch and SciPy instead; install with a C++ compiler)",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("numpy", "h5py", "opencv-python-headless", "tensorboard", "pydensecrf2")},
        "workspace": str(place),
        "writable": os.access(existing, os.W_OK),
        "free GiB": round(shutil.disk_usage(existing).free / 2**30, 1),
    }
    terminal.result(facts, lambda: terminal.table("", ["what", "found"], [(k, str(v)) for k, v in facts.items()]))


def _backends() -> list[str]:
    """Available torch.distributed backends: gloo for CPUs, nccl for GPUs."""
    from torch import distributed

    if not distributed.is_available():
        return []
    there = {"gloo": distributed.is_gloo_available(), "nccl": distributed.is_nccl_available()}
    return [name for name, available in there.items() if available]
