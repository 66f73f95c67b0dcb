import re
import shlex
from pathlib import Path

import pytest
import typer

import wss
from wss.cli.main import app
from wss.pipeline.spec import shipped_pipelines

ROOT = Path(wss.__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted({m.group(1).split("#")[0].strip() for m in re.finditer(r"(?m)^ {4}(wss [a-z].*)$", README)})


def _find(words):
    """The command that the words name, and the words after it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_the_readme_exist_with_their_options(line):
    command, words = _find(shlex.split(line)[1:])
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in options, f"{line}: {word}"


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 15


def test_the_readme_names_every_command_and_every_method():
    for name, command in typer.main.get_command(app).commands.items():
        assert f"wss {name}" in README, name
        for below in getattr(command, "commands", ()):
            assert f"{name} {below}" in README, below
    for name in shipped_pipelines():
        assert f"`{name}`" in README or f"wss run {name}" in README, name


def test_files_that_the_readme_names_exist():
    for name in re.findall(r"`((?:data|pipelines|docker)/[\w.-]+|[A-Z]\w+\.md|constraints\.txt)`", README):
        assert (ROOT / name).exists(), name
