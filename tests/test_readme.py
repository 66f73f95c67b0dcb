import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

import wss
from wss.cli.main import app
from wss.methods import METHODS
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.values import NOT_STAGES

ROOT = Path(wss.__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [README, *(page.read_text() for page in PAGES)]
COMMANDS = sorted({m[1].split("#")[0].strip() for t in TEXTS for m in re.finditer(r"(?m)^ {4}(wss [a-z].*)$", t)})


def _find(words):
    """The command that the words name, and the words after it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_the_documentation_exist_with_their_options(line):
    command, words = _find(shlex.split(line)[1:])
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in options, f"{line}: {word}"
    if command.name == "run" and words[0] != "auto":
        assert words[0] in shipped_pipelines(), line
        preset = load_preset(words[words.index("--preset") + 1]) if "--preset" in words else None
        pipeline = load_pipeline(shipped_pipelines()[words[0]], preset=preset)
        assert _settings(words) <= set(pipeline.nodes) | set(NOT_STAGES), line


def _settings(words):
    """Stage ids that ``--set`` names, without patterns."""
    given = {re.split("[.=]", after)[0] for word, after in pairwise(words) if word == "--set"}
    return {name for name in given if "*" not in name}


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 15


def test_the_page_of_commands_names_every_command():
    page = (ROOT / "docs" / "commands.md").read_text()
    assert "](docs/commands.md)" in README
    for name, command in typer.main.get_command(app).commands.items():
        assert f"wss {name}" in page, name
        for below in getattr(command, "commands", ()):
            assert f"wss {name} {below}" in page, below


def test_the_readme_names_every_method_and_the_page_of_studies_every_study():
    studies = (ROOT / "docs" / "studies.md").read_text()
    assert "](docs/studies.md" in README
    for name in shipped_pipelines():
        text = studies if name.startswith("study-") else README
        assert f"`{name}`" in text or f"wss run {name}" in text, name


def test_the_readme_is_short():
    assert len(README.splitlines()) < 200


def test_files_that_the_texts_name_exist():
    named = {
        name
        for text in (README, *(page.read_text() for page in PAGES))
        for name in re.findall(
            r"`((?:data|pipelines|docker|wss|tests|benchmarks)/[\w./-]+\.\w+|[A-Z]\w+\.md|constraints\.txt)`", text
        )
    }
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_list_of_pages():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES:
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"]({name}" in index, name


def test_headings_that_links_name_exist():
    for page in [ROOT / "README.md", *PAGES]:
        for link, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text()):
            if link.startswith("https://"):
                continue
            target = (page.parent / link) if link else page
            headings = {
                re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
                for line in target.read_text().splitlines()
                if line.startswith("#")
            }
            assert heading in headings, f"{page.name}: {link}#{heading}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_every_method_has_a_page_that_is_linked():
    index = (ROOT / "docs" / "README.md").read_text()
    for method in METHODS:
        name = method.model_fields["name"].default
        assert (ROOT / "docs" / "methods" / f"{name}.md").read_text().startswith(f"# {name}: "), name
        assert f"](methods/{name}.md)" in index, name
    for page in (ROOT / "docs" / "methods").glob("*.md"):
        assert f"](methods/{page.name})" in index, page


def test_result_files_that_the_pages_name_exist():
    for page in PAGES:
        for name in re.findall(r"`([\w-]+\.json)`", page.read_text()):
            assert (ROOT / "benchmarks" / "results" / name).exists(), f"{page.name}: {name}"
