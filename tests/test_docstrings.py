"""Docstrings say what a thing is or does in their first words, and no file is too long to be read at once."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "wss"
RIDDLES = {"What", "Which", "Whether", "Where", "How", "Of", "Those", "As"}
"""First words of a sentence whose subject the reader has to find."""


def opens_with_a_riddle(docstring):
    return docstring.split()[0].strip("`,:;.") in RIDDLES


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_begin_with_their_subject(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [(node, ast.get_docstring(node)) for node in ast.walk(tree) if isinstance(node, kinds)]
    bad = [
        f"{getattr(n, 'name', 'module')}: {text.splitlines()[0]}"
        for n, text in found
        if text and opens_with_a_riddle(text)
    ]
    assert not bad


@pytest.mark.parametrize(
    ("docstring", "bad"), [("Of k-means.", True), ("``what`` is a name.", False), ("Return it.", False)]
)
def test_the_check_can_fail(docstring, bad):
    assert opens_with_a_riddle(docstring) is bad


def test_no_file_has_more_than_500_lines():
    files = [p for folder in ("wss", "tests", "benchmarks", "docs") for p in (PACKAGE.parent / folder).rglob("*.py")]
    lines = {str(p.relative_to(PACKAGE.parent)): p.read_text(encoding="utf-8").count("\n") for p in files}
    assert {name: count for name, count in lines.items() if count > 500} == {}
    assert len(files) > 600
