"""The notebooks run from the first cell to the last."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def _code(path):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    """Cells are joined. The value of an expression at the end of a cell is shown, as a notebook does."""
    program = []
    for cell in _code(path):
        parts = ast.parse(cell).body
        if isinstance(parts[-1], ast.Expr):
            program += [ast.unparse(ast.Module(parts[:-1], [])), f"print(repr({ast.unparse(parts[-1])})[:200])"]
        else:
            program.append(cell)
    (tmp_path / "notebook.py").write_text("\n".join(program))
    environment = {name: value for name, value in os.environ.items() if name != "WSS_WORKSPACE"}
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    for cell in json.loads(path.read_text())["cells"]:
        for target in re.findall(r"\]\(([^)#]+)", "".join(cell["source"])):
            assert target.startswith("https://") or (FOLDER / target).exists(), target
