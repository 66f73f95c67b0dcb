import subprocess
import sys

import pytest
import typer.main

from wss.cli.main import ENTRIES, app


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


def test_the_help_of_the_whole_imports_no_subcommand():
    code = (
        "import sys, wss.cli.main as main\n"
        "try: main.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', *sorted(name for name in sys.modules if name.startswith('wss.')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Train a network" in said
    loaded = set(said.split("loaded ")[-1].split())
    assert loaded == {"wss.cli", "wss.errors", "wss.names", "wss.version"} | {
        f"wss.cli.{name}" for name in ("main", "encoding", "failure", "interrupt", "team")
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_the_summary_of_a_subcommand_is_the_beginning_of_its_help(name):
    command = typer.main.get_command(app).commands[name]
    assert " ".join(command.help.split("\n\n")[0].split()) == ENTRIES[name].summary
    assert command.rich_help_panel == ENTRIES[name].panel


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


def test_completion_is_that_of_the_command_wherever_it_is_called_from():
    """``python -m wss`` has a name that no shell completes; a script for it would take over the completion of ``python``."""
    done = subprocess.run(
        [sys.executable, "-m", "wss", "--show-completion", "bash"], capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("-F _wss_completion wss")
    assert "_WSS_COMPLETE=complete_bash" in done.stdout
