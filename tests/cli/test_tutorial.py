import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import write_cells
from PIL import Image

import wss as package

TUTORIAL = (Path(package.__file__).parent.parent / "docs" / "tutorial.md").read_text()
COMMANDS = [m[1] for m in re.finditer(r"(?m)^ {4}wss ([a-z].*)$", TUTORIAL)]


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run_one_after_another(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cells(tmp_path / "cells")
    (tmp_path / "new_images").mkdir()
    image = cv2.imread(str(next((tmp_path / "cells" / "images").iterdir())))
    cv2.imwrite("new_images/one.png", image)
    cv2.imwrite("photo.jpg", image)
    scribble = np.full(image.shape[:2], 255, np.uint8)
    scribble[2:4, 2:8], scribble[-4:-2, -8:-2] = 0, 1
    cv2.imwrite("s.png", scribble)
    assert len(COMMANDS) > 12
    for line in COMMANDS:
        if "imagenet" in line:  # downloads
            continue
        result = wss(*shlex.split(line))
        assert result.code == 0, f"{line}: {result.err}"
    assert (tmp_path / "work" / "report.html").stat().st_size > 10_000
    for name in ("masks/one.png", "mask.png"):
        mask = np.array(Image.open(name))  # class indices, where OpenCV would give colours
        assert mask.shape == image.shape[:2]
        assert mask.max() < 3
