"""The table of goals: what was measured, what is missed, and what became slower."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/quick.py"


@pytest.fixture(scope="module")
def quick():
    spec = importlib.util.spec_from_file_location("quick_benchmarks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def result(ratios, times=None):
    times = {name: {"cpu_ms": value} for name, value in (times or {}).items()}
    return {"results": [{"size": "321x321", "threads": 1, "ratios": ratios, "times": times}]}


def test_goals_are_met_missed_or_not_measured(quick):
    found = {
        "bilateral": result({"pydensecrf / wss, filter (symmetric)": 3.5, "21 channels / 3 that occur": 2.9}),
        "hitting": result({}, {"wss, native": 8.5}),
        "torch_lattice": None,
        "growth": {"goals": {"disk": {"ratio": 1.0, "goal": 1.3, "met": True}}},
        "commands": {"goals": {"wss --help": {"ratio": 0.4, "goal": 0.3, "met": False}}},
    }
    rows = {(row["script"], row["name"]): (row["goal"], row["met"]) for row in quick.rows(found)}
    assert rows["bilateral", "pydensecrf / wss, filter (symmetric)"] == (">= 3.5", True)
    assert rows["bilateral", "21 channels / 3 that occur"] == (">= 3", False)
    assert rows["hitting", "wss, native"] == ("<= 8 ms", False)
    assert rows["torch_lattice", "build: pydensecrf / torch"] == (">= 0.36", None)
    assert rows["growth", "disk"] == ("<= 1.3", True)
    assert rows["commands", "wss --help"] == ("<= 0.3 s", False)
    assert not any(script == "mean_field" for script, _ in rows)


def test_ratios_that_fell_are_told(quick, tmp_path):
    (tmp_path / "mean-field-old.json").write_text(json.dumps(result({"a": 4.0, "b": 4.0, "gone": 1.0})))
    found = {"mean_field": result({"a": 3.39, "b": 3.41, "new": 1.0}), "growth": {"goals": {}}, "bilateral": None}
    assert quick.slower(found, tmp_path) == ["mean_field: a is 3.39, in mean-field-old.json it was 4"]


def test_goals_name_figures_that_their_benchmarks_have(quick):
    for goal in quick.GOALS:
        text = (SCRIPT.parent / f"{goal.script}.py").read_text()
        assert goal.script in quick.SCRIPTS
        assert all(part.split("(")[0].strip() in text for part in goal.name.replace(":", ",").split(", ")[:1]), goal


def test_a_failure_is_told_and_ends_with_1(quick, monkeypatch, capsys):
    monkeypatch.setattr(quick, "run", lambda script, folder: None)
    monkeypatch.setattr(sys, "argv", ["quick.py", "--only", "growth"])
    with pytest.raises(SystemExit) as stopped:
        quick.main()
    assert stopped.value.code == 1
    assert "growth.py failed" in capsys.readouterr().out
