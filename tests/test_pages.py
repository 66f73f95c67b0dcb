"""The Python of the pages runs, and says what the pages say."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]


def _python(name, containing):
    """The one block of Python of a page that has these words."""
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / name).read_text())
    (block,) = [block for block in blocks if containing in block]
    return block


def test_the_tour_says_what_comes_out():
    torch.manual_seed(0)
    done = doctest.testfile(str(ROOT / "docs" / "tour.md"), module_relative=False, encoding="utf-8")
    assert done.attempted > 35
    assert done.failed == 0


def test_files_of_the_tour_exist():
    named = re.findall(r"`(wss/[\w./]+)`", (ROOT / "docs" / "tour.md").read_text())
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_loss_of_the_readme_trains_a_network():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 1)
    scope = {
        "network": network,
        "images": 255 * torch.rand(2, 3, 16, 20),
        "scribbles": torch.randint(0, 4, (2, 16, 20)),
    }
    exec(_python("README.md", "dense_crf_loss"), scope)
    scope["loss"].backward()
    assert network.weight.grad.abs().sum() > 0


def test_the_page_of_scores_scores_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    truth, predicted = np.array([[0, 1], [2, 255]], np.uint8), np.array([[0, 1], [1, 2]], np.uint8)
    for folder, labels in (("masks", truth), ("predictions", predicted)):
        (tmp_path / folder).mkdir()
        Image.fromarray(labels).save(tmp_path / folder / "a.png")
    exec(_python("docs/scores.md", "confusion_matrix"), {})
    shown = [float(number) for number in re.findall(r"\d\.\d*", capsys.readouterr().out)]
    assert shown == pytest.approx([1, 0.5, 0, 0.5])
