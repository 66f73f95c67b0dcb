import subprocess
import sys

import pytest
import typer.main

from wss.cli.main import app


def _commands(group, *path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_help_loads_no_heavy_module():
    code = "import sys, wss.cli.main; print(*sorted({'torch', 'numpy', 'h5py', 'pydantic', 'PIL'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""


def test_the_promised_commands_are_there():
    promised = (
        "init prepare superpixels propagate train predict evaluate report run status verify gc methods pipelines doctor"
    )
    assert {(name,) for name in promised.split()} <= set(COMMANDS)
    assert {("data", name) for name in ("check", "info", "simulate", "convert")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_explains_itself(path, wss):
    result = wss(*path, "--help")
    assert result.code == 0
    assert result.err == ""
    command = COMMANDS[path]
    assert len(command.help) > 20
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, f"{' '.join(path)} {parameter.name} has no help"


def test_help_of_the_whole(wss):
    result = wss("--help")
    assert result.code == 0
    for path in COMMANDS:
        assert path[0] in result.out


def test_version(wss):
    assert wss("--version").out.startswith("wss ")
