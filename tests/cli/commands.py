"""Running commands in tests, and making the data they work on."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from wss.cli.main import app
from wss.store import Store

SAMPLE = "dataset: {kind: sample, options: {train: 4, val: 2, height: 32, width: 32}}\n"
QUICK = [
    "--set",
    "train.batch_size=2",
    "--set",
    "train.phases=[{epochs: 1, terms: {pce: 1}, lr: 0.01, head_multiplier: 1}]",
]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The only line on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def said(self):
        """Everything on stderr, without the frames and line breaks of usage errors."""
        return " ".join("".join(" " if c in "│╭╮╰╯─" else c for c in self.err).split())


def call(*arguments):
    """Run one ``wss`` command in this process; whatever is no ``SystemExit`` is a fault of wss and fails the test."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert "Traceback" not in result.output
    return Result(result.exit_code, result.stdout, result.stderr)


def write_cells(root: Path, size=(32, 40)):
    rng = np.random.default_rng(0)
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    names = [f"c{n}" for n in range(6)]
    for name in names:
        mask = np.zeros(size, np.uint8)
        mask[8:24, 10:30] = 1
        mask[24:, :] = 2
        scribble = np.full(size, 255, np.uint8)
        for row, label in ((2, 0), (16, 1), (28, 2)):
            scribble[row : row + 2, 12:28] = label
        image = np.array([[60, 60, 60], [200, 60, 60], [60, 60, 200]])[mask] + rng.integers(0, 40, (*size, 3))
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        Image.fromarray(scribble).save(root / "scribbles" / f"{name}.png")
    (root / "classes.txt").write_text("background\ncell\nwall\n")
    (root / "train.txt").write_text("".join(f"{name}\n" for name in names[:4]))
    (root / "val.txt").write_text("".join(f"{name}\n" for name in names[4:]))


def artifact(workspace, stage):
    """The only store of a stage."""
    (path,) = (workspace / "artifacts" / stage).glob("*.h5")
    return path


def stores(workspace):
    return sorted((workspace / "artifacts").glob("*/*.h5"))


def assert_whole(workspace, damaged=()):
    """Every store has its digest, and no temporary file is left."""
    for path in stores(workspace):
        assert path in damaged or Store(path).verify(), path
    assert not list(workspace.rglob("*.tmp"))
