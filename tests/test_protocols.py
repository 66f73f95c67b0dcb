"""Every number of every shipped pipeline, study and preset against tables that are kept by hand, one file for each paper.

A table (tests/protocols/*.yaml) has an entry for each command, ``PIPELINE [--preset PRESET]``. An entry has the parameters that
are not at the stage's default, by stage: under ``every KIND`` those of all stages of a kind, under an id or a pattern of ids
(several with ``|`` between them) those of others. Each table says beside a number where the paper has it. A parameter that is
missing in the table is as wrong as one with another value, so that no number can change unseen. defaults.yaml has the stages' own
defaults, wiring.yaml what each stage reads, differs.yaml how each line begins in which a preset tells where it is not its paper.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from wss.cli.listing import _changed
from wss.errors import UsageError
from wss.methods import METHODS, Phase
from wss.networks import NetworkSpec
from wss.pipeline import document as documents
from wss.pipeline import presets
from wss.pipeline.document import read_document, read_pipeline
from wss.pipeline.parameter_docs import parameters
from wss.pipeline.presets import load_preset, shipped_presets
from wss.pipeline.spec import find_pipeline, load_pipeline, shipped_pipelines
from wss.propagation import PROPAGATIONS
from wss.shipped import shipped
from wss.stages import STAGES
from wss.stages.crf_kernels import PRESETS
from wss.superpixels import SUPERPIXEL_METHODS

FOLDER = Path(__file__).parent / "protocols"
OTHERS = ("defaults", "wiring", "differs")
TABLES = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml")) if path.stem not in OTHERS
}
COMMANDS = [(name, command) for name, table in TABLES.items() for command in table["commands"]]
WIRING = yaml.safe_load((FOLDER / "wiring.yaml").read_text())
DIFFERS = yaml.safe_load((FOLDER / "differs.yaml").read_text())
WORDS = {("report", "title"), ("report", "studies"), ("samples", "dataset"), ("evaluate", "factors")}
"""Parameters that hold words and levels: tests/papers holds them against the page of the papers."""
DECIDED = {("predict", "probs"), ("retrieve", "probs")}
"""Parameters that a pipeline decides by what its stages read: tests/pipeline/test_kept_probabilities.py."""


def leaves(value, path=""):
    """Nested values by dotted path; lists of numbers and words are values."""
    if isinstance(value, dict) and value:
        return {
            k: v for name, item in value.items() for k, v in leaves(item, f"{path}.{name}" if path else name).items()
        }
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for place, item in enumerate(value) for k, v in leaves(item, f"{path}.{place}").items()}
    if isinstance(value, list):
        value = [list(item) if isinstance(item, tuple) else item for item in value]
    return {path: value}


def resolved(command):
    """The parameters of each stage that are not at their default, by stage id, with the kind of stage."""
    name, _, preset = command.partition(" --preset ")
    pipeline = load_pipeline(find_pipeline(name), preset=load_preset(preset) if preset else None)
    return {
        node.id: (
            node.stage.name,
            leaves(
                {n: v for n, v in _changed(node.params).items() if (node.stage.name, n) not in WORDS | DECIDED} or {}
            ),
        )
        for node in pipeline.nodes.values()
    }


def fits(name, node_id, kind):
    return name == f"every {kind}" or any(fnmatchcase(node_id, pattern) for pattern in name.split(" | "))


def expected(entry, node_id, kind):
    """What a table has for a stage, from all its entries that fit."""
    values = {}
    for name, part in entry.items():
        if fits(name, node_id, kind):
            values |= leaves(part)
    return {path: value for path, value in values.items() if path}


@pytest.mark.parametrize(("table", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_the_protocol_is_that_of_the_table(table, command):
    entry = TABLES[table]["commands"][command]
    used = set()
    for node_id, (kind, found) in resolved(command).items():
        found = {path: value for path, value in found.items() if path}
        assert found == expected(entry, node_id, kind), node_id
        used |= {name for name in entry if fits(name, node_id, kind)}
    assert used == set(entry), "entries that fit no stage"


def defaults():
    """Default values by stage, method and other choices, in the order of ``wss stages`` and ``wss methods``."""
    models = {f"stage {stage.name}": stage.params for stage in STAGES.values()}
    models |= {f"method {method.model_fields['name'].default}": method for method in METHODS}
    models |= {"phase": Phase, "network": NetworkSpec}
    for choices in (PROPAGATIONS, SUPERPIXEL_METHODS):
        models |= {
            f"{model.model_fields['name'].default} ({model.__module__.split('.')[1]})": model for model in choices
        }
    found = {
        name: {p.name: p.default for p in parameters(model) if not p.required and not p.name.startswith("dataset")}
        for name, model in models.items()
    }
    return found | {"presets of stage crf": {name: list(numbers) for name, numbers in PRESETS.items()}}


def test_the_defaults_are_those_of_the_table():
    assert defaults() == yaml.safe_load((FOLDER / "defaults.yaml").read_text())


def test_every_pipeline_and_preset_is_in_a_table():
    commands = {command for _, command in COMMANDS}
    assert set(shipped_pipelines()) <= commands
    assert set(shipped_presets()) == {command.partition(" --preset ")[2] for command in commands} - {""}


@pytest.mark.parametrize("name", shipped_pipelines())
def test_stages_read_what_the_table_says(name):
    stages = read_pipeline(find_pipeline(name))["stages"]
    found = {
        entry.get("id", entry["stage"]): {k: entry[k] for k in ("each",) if k in entry} | (entry.get("inputs") or {})
        for entry in stages
    }
    assert found == WIRING[name]
    assert list(found) == list(WIRING[name])


def test_the_table_of_inputs_has_shipped_pipelines_only():
    assert set(WIRING) == set(shipped_pipelines())


@pytest.mark.parametrize("name", shipped_presets())
def test_presets_tell_where_they_are_not_their_paper(name):
    lines, beginnings = load_preset(name).differs, DIFFERS[name]
    assert len(lines) == len(beginnings)
    for line, beginning in zip(lines, beginnings, strict=True):
        assert " ".join(line.split()).startswith(beginning)


YAML_FILES = sorted(shipped("pipelines").rglob("*.yaml"))


def numbers(value, path=()):
    """The paths of the numbers in a document, but those in words and in factors' levels of seeds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if isinstance(item, int | float) and not isinstance(item, bool):
            yield (*path, name)
        else:
            yield from numbers(item, (*path, name))


def changed_at(value, path):
    """A copy with another number at a path."""
    if not path:
        return value + 1 if value < 1 else value / 2 if value != 1 else 3
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed_at(value[path[0]], path[1:])
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(shipped("pipelines"))))
def test_no_number_can_change_unseen(path, monkeypatch):
    """Change each number of a file: the parameters of some command of the tables change, or it is refused."""
    document = read_document(path)
    used = set()

    def noting(file):
        used.add(file)
        return read_document(file)

    for module in (documents, presets):
        monkeypatch.setattr(module, "read_document", noting)
    before = {}
    for _, command in COMMANDS:
        used.clear()
        found = resolved(command)
        if path in used:
            before[command] = found
    assert before, "no command uses it"

    def survives(number):
        mutant = changed_at(document, number)
        for module in (documents, presets):
            monkeypatch.setattr(module, "read_document", lambda file: mutant if file == path else read_document(file))
        for command, found in before.items():
            try:
                if resolved(command) != found:
                    return False
            except UsageError:
                return False
        return True

    assert [".".join(map(str, number)) for number in numbers(document) if survives(number)] == []
