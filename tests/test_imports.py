import ast
from pathlib import Path

import pytest

import wss

ROOT = Path(wss.__file__).parent

LAYERS = [
    {"cli"},
    {"draw"},
    {"pipeline"},
    {"stages", "export", "large_tiff"},
    {"checkpoints"},
    {
        "store",
        "datasets",
        "scribbles",
        "training",
        "methods",
        "viz",
        "metrics",
        "predictor",
        "propagation",
        "superpixels",
        "edges",
    },
    {"networks", "losses"},
    {"networks.layers", "ops"},
    {"kernels", "distributed", "precision", "blocks"},
]
WITHIN = {  # what a package may import among those of its own layer
    "training": {"edges", "methods", "store"},
    "datasets": {"scribbles", "store"},
    "scribbles": set(),
    "networks.layers": {"ops"},
}
ANYWHERE = {"devices", "errors", "labels", "names", "params", "version", "shipped", "yaml_text"}


def _package(parts):
    return "networks.layers" if parts[:2] == ["networks", "layers"] else parts[0]


def _rank(package):
    return next(rank for rank, layer in enumerate(LAYERS) if package in layer)


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("wss."):
            yield node.module.split(".")[1:]
        elif isinstance(node, ast.ImportFrom) and node.module == "wss":
            for name in node.names:
                yield [name.name]
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("wss."):
                    yield name.name.split(".")[1:]


FILES = [
    p
    for p in sorted(ROOT.rglob("*.py"))
    if p.parent != ROOT
    or p.stem in ("blocks", "checkpoints", "distributed", "export", "large_tiff", "precision", "predictor")
]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = _package([*path.relative_to(ROOT).with_suffix("").parts])
    for parts in _imports(path):
        other = _package(parts)
        if other in ANYWHERE or other == own or (other, own) == ("networks.layers", "networks"):
            continue
        if _rank(other) == _rank(own):
            assert other in WITHIN.get(own, set()), f"{own} imports {other}"
        else:
            assert _rank(other) > _rank(own), f"{own} imports {other}, which is above it"


@pytest.mark.parametrize(("library", "home"), [("h5py", "store"), ("typer", "cli"), ("rich", "cli")])
def test_libraries_stay_in_their_package(library, home):
    for path in ROOT.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {n.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for n in node.names}
        names |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
        assert library not in names or path.is_relative_to(ROOT / home), f"{path} imports {library}"


def test_architecture_names_existing_paths():
    import re

    text = (ROOT.parent / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`((?:wss|tests|data|pipelines|benchmarks)/[\w./]*)`", text):
        assert (ROOT.parent / name).exists(), name
