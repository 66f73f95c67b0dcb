import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import wss
from wss.datasets.cards import load_card
from wss.pipeline.presets import shipped_presets
from wss.pipeline.spec import shipped_pipelines
from wss.shipped import shipped

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wss"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILT = {".so", ".pyd", ".pyc", ".o"}


def _package_data():
    return PROJECT["tool"]["setuptools"]["package-data"]


def _folder(package):
    return ROOT / package.replace(".", "/")


def _shipped_in_setup():
    tree = ast.parse((ROOT / "setup.py").read_text())
    values = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "SHIPPED"]
    return set(ast.literal_eval(values[0]))


def test_every_pattern_of_package_data_matches_a_file():
    for package, patterns in _package_data().items():
        for pattern in patterns:
            assert any(_folder(package).glob(pattern)), f"{package}: nothing matches {pattern}"


def test_package_data_covers_every_file_that_is_no_python():
    covered = {
        path for package, patterns in _package_data().items() for p in patterns for path in _folder(package).glob(p)
    }
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in {".py", *BUILT}}
    assert files - covered == set()


def test_every_folder_with_code_is_a_package():
    assert {p.parent for p in PACKAGE.rglob("*.py") if not (p.parent / "__init__.py").exists()} == set()


def test_setup_ships_the_folders_that_the_code_asks_for():
    asked = {name for p in PACKAGE.rglob("*.py") for name in re.findall(r'\bshipped\("(\w+)"\)', p.read_text())}
    assert asked == _shipped_in_setup()
    assert {f"graft {name}" for name in asked} <= set((ROOT / "MANIFEST.in").read_text().splitlines())


def test_shipped_folders_hold_yaml_only():
    for folder in _shipped_in_setup():
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
        assert files
        assert {p.suffix for p in files} == {".yaml"}, folder


def test_every_pipeline_and_card_is_found():
    assert set(shipped_pipelines()) == {p.stem for p in (ROOT / "pipelines").iterdir() if p.is_file()}
    assert set(shipped_presets()) == {p.stem for p in (ROOT / "pipelines" / "presets").iterdir() if p.is_file()}
    for path in (ROOT / "data").iterdir():
        assert load_card(path.stem).title == yaml.safe_load(path.read_text())["title"]


def test_a_wheel_finds_its_own_folders_first(tmp_path, monkeypatch):
    package = tmp_path / "wss"
    (package / "_shipped" / "data").mkdir(parents=True)
    (tmp_path / "pipelines").mkdir()
    monkeypatch.setattr(wss, "__file__", str(package / "__init__.py"))
    assert shipped("data") == package / "_shipped" / "data"
    assert shipped("pipelines") == tmp_path / "pipelines"


def test_the_version_has_one_source():
    attr = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, _, name = attr.rpartition(".")
    assert (module, name) == ("wss.version", "__version__")
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in PROJECT["project"]
    text = (PACKAGE / "version.py").read_text()
    assert wss.__version__ == re.search(r'__version__ = "(\d+\.\d+\.\d+)"', text)[1]
    elsewhere = [p for p in PACKAGE.rglob("*.py") if p.name != "version.py" and f'"{wss.__version__}"' in p.read_text()]
    assert elsewhere == []


def test_the_console_script_exists():
    module, _, function = PROJECT["project"]["scripts"]["wss"].partition(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


INSTALL = ROOT / "docker" / "install.sh"


def _install_step(name, script=INSTALL):
    return subprocess.run(["bash", str(script), name], stderr=subprocess.PIPE, text=True)


def test_the_docker_install_script_parses_and_finds_its_files():
    subprocess.run(["bash", "-n", str(INSTALL)], check=True)
    assert os.access(INSTALL, os.X_OK)
    assert _install_step("check").returncode == 0
    assert _install_step("unknown").returncode == 2


def test_the_docker_install_script_misses_files(tmp_path):
    (tmp_path / "docker").mkdir()
    done = _install_step("check", shutil.copy(INSTALL, tmp_path / "docker"))
    assert done.returncode == 1
    assert done.stderr == "missing: constraints.txt\n"


def test_docker_copies_what_the_install_script_needs():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    files = re.search(r"^package_files=\((.*)\)$", INSTALL.read_text(), re.MULTILINE)[1].split()
    assert copied == {"docker/install.sh", "constraints.txt", *files}
    assert set(files) == {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "wss", *_shipped_in_setup()}
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_docker_runs_steps_that_exist_as_an_ordinary_user():
    text = (ROOT / "Dockerfile").read_text()
    steps = re.findall(r"^RUN docker/install.sh (\w+)$", text, re.MULTILINE)
    assert steps == ["system", "dependencies", "package"]
    assert set(steps) <= set(re.findall(r"^(\w+)\)$", INSTALL.read_text(), re.MULTILINE))
    assert re.search(r"^FROM \S+:\S*\d\S*$", text, re.MULTILINE)
    assert text.index("\nUSER wss") < text.index('\nENTRYPOINT ["wss"]')


def _copy_of_the_sources(target):
    names = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", *_shipped_in_setup()]
    shutil.copytree(PACKAGE, target / "wss", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)


def _sdist(source, folder):
    """The sources as a stranger gets them: packed, and unpacked again."""
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(source)
    shutil.unpack_archive(folder / f"wss-{wss.__version__}.tar.gz", folder)
    return folder / f"wss-{wss.__version__}"


TINY = """
dataset: {kind: sample, options: {train: 2, val: 1, height: 32, width: 32}}
"""
QUICK = ["--set", "train.batch_size=2", "--set", "train.phases=[{epochs: 1, terms: {ce: 1}}]", "--jobs", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["compiler", "no-compiler"])
def test_wheel_works_without_the_repository(tmp_path, compiler):
    """With a compiler the wheel is built from the packed sources, and holds the kernels; without one it works all the same."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("pip")
    if compiler and not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("no C++ compiler here")
    source, site = tmp_path / "source", tmp_path / "site"
    _copy_of_the_sources(source)
    if compiler:
        source = _sdist(source, tmp_path)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if not compiler:
        environment |= {"CC": "/nonexistent", "CXX": "/nonexistent"}
    wheel = [*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run(wheel, cwd=source, env=environment, check=True)
    (file,) = tmp_path.glob("wss-*.whl")
    assert file.name.startswith(f"wss-{wss.__version__}-")
    names = set(zipfile.ZipFile(file).namelist())
    expected = {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*.py")}
    expected |= {
        f"wss/_shipped/{p.relative_to(ROOT).as_posix()}"
        for f in _shipped_in_setup()
        for p in (ROOT / f).rglob("*.yaml")
    }
    for folder in (PACKAGE / "viz" / "templates", PACKAGE / "edges" / "weights"):
        expected |= {p.relative_to(ROOT).as_posix() for p in folder.iterdir()}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"wss", f"wss-{wss.__version__}.dist-info"}
    for kernel in ("kernels/_lattice.", "kernels/_hitting."):
        assert any(kernel in name for name in names) is compiler

    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(file)], env=environment, check=True)
    shutil.rmtree(source)
    environment |= {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*command):
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    code = (
        "import wss, wss.cli.main\n"
        "from wss.datasets.cards import load_card\n"
        "from wss.kernels import native\n"
        "from wss.pipeline.spec import shipped_pipelines\n"
        "print(wss.__file__, native.available(), load_card('voc').title, *shipped_pipelines(), sep='|')"
    )
    place, kernels, title, *pipelines = run("-c", code).strip().split("|")
    assert Path(place) == site / "wss" / "__init__.py"
    assert kernels == str(compiler)
    assert title == load_card("voc").title
    assert pipelines == list(shipped_pipelines())
    script = site / "bin" / "wss"
    assert run(script, "--version") == f"wss {wss.__version__}\n"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "wss.yaml").write_text(TINY)
    outcomes = json.loads(run(script, "run", "scribblesup", *QUICK, "-w", "work", "--json"))
    assert {"samples", "superpixels", "propagate", "train", "crf", "report"} <= {o["stage"] for o in outcomes}
    run(script, "edges", "--detector", "embedded", "-w", "work")  # whose weights are in the package
    assert (tmp_path / "work" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_docker_package_step_installs_a_working_command(tmp_path):
    """The step as it is, with pip kept from the network and from this environment."""
    pytest.importorskip("setuptools", minversion="77")
    venv, site = tmp_path / "venv", tmp_path / "site"
    _script(venv / "bin" / "python", f'exec {sys.executable} "$@"')
    _script(venv / "bin" / "wss", f'PYTHONPATH={site} exec {sys.executable} {site}/bin/wss "$@"')
    offline = {"PIP_TARGET": str(site), "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "VENV": str(venv)}
    environment = (
        {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        | offline
        | {"CC": "/nonexistent", "CXX": "/nonexistent"}
    )
    done = subprocess.run(["bash", INSTALL, "package"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wss {wss.__version__}"
    assert (site / "wss" / "_shipped" / "pipelines" / "pce.yaml").exists()


def _script(path, line):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("index", ["", "https://download.pytorch.org/whl/cpu"])
def test_the_docker_dependencies_step_asks_for_what_the_project_declares(tmp_path, index):
    """The step as it is, with a Python that makes no environment, and a pip that only notes what it is asked for."""
    asked = tmp_path / "asked"
    _script(
        tmp_path / "bin" / "python3",
        f'[ "$1" = -m ] || exec {sys.executable} "$@"\nmkdir -p "$3/bin"; cp {tmp_path}/pip "$3/bin/python"',
    )
    _script(tmp_path / "pip", f'printf "%s\\n" "$@" > {asked}')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VENV": str(tmp_path / "venv"), "TORCH_INDEX": index}
    subprocess.run(["bash", INSTALL, "dependencies"], env=environment, check=True)
    assert (tmp_path / "venv" / "requirements.txt").read_text().splitlines() == PROJECT["project"]["dependencies"]
    arguments = asked.read_text().splitlines()
    assert arguments[:3] == ["-m", "pip", "install"]
    assert arguments[arguments.index("--requirement") + 1] == str(tmp_path / "venv" / "requirements.txt")
    assert Path(arguments[arguments.index("--constraint") + 1]) == ROOT / "constraints.txt"
    assert arguments[-2:] == (
        ["--extra-index-url", index] if index else ["--constraint", str(ROOT / "constraints.txt")]
    )


def test_the_versions_that_docker_installs_are_pinned_and_allowed():
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {n.lower(): v for n, _, v in (line.partition("==") for line in lines if line and line[0] != "#")}
    for text in PROJECT["project"]["dependencies"]:
        requirement = requirements.Requirement(text)
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), text
    python = "3.12"  # of Ubuntu 24.04, the image under it
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu24\.04$", text, re.MULTILINE)
    assert python in text
    specifiers = pytest.importorskip("packaging.specifiers")
    assert specifiers.SpecifierSet(PROJECT["project"]["requires-python"]).contains(python)


def test_the_dockerfile_is_well_formed():
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in lines} <= known  # no ADD, which unpacks and downloads
    for line in lines:
        if line.startswith(("ENTRYPOINT", "CMD")):
            assert isinstance(json.loads(line.split(None, 1)[1]), list)  # not through a shell
        if line.startswith("RUN"):
            command = line.split(None, 1)[1]
            subprocess.run(["bash", "-n", "-c", command], check=True)
            assert not re.search(r"\b(curl|wget|sudo|latest)\b", command)
    used = set(re.findall(r"\$\{?(\w+)", INSTALL.read_text()))
    declared = {name for line in lines if line.startswith("ARG") for name in re.findall(r"(\w+)=", line)}
    assert declared <= used
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", INSTALL], check=True)
