"""``wss data tile`` and ``wss data join`` as a user meets them."""

from pathlib import Path

import numpy as np
import tifffile
from commands import QUICK
from PIL import Image


def test_tiles_are_trained_on_and_predictions_joined(cells, wss, tmp_path):
    result = wss("data", "tile", "--size", 16, "--overlap", 4, "-o", "tiles", "--jobs", 1)
    assert result.code == 0, result.err
    assert "6 images -> 54 tiles in tiles" in result.out
    assert "wss init --kind folder --root tiles" in result.out
    assert wss("init", "--kind", "folder", "--root", "tiles", "-w", "tw").code == 0
    checked = wss("data", "check", "-w", "tw")
    assert checked.code == 0, checked.out
    run = wss("run", "pce", "-w", "tw", "--jobs", 1, *QUICK)
    assert run.code == 0, run.err
    assert wss("predict", "-w", "tw", "-o", "predictions").code == 0
    joined = wss("data", "join", "predictions", "-o", "joined", "-w", "tw")
    assert joined.code == 0, joined.err
    assert "4 images have no masks of tiles" in joined.said
    assert sorted(p.name for p in Path("joined").iterdir()) == ["c4.png", "c5.png"]
    labels = np.array(Image.open("joined/c4.png"))
    assert labels.shape == (32, 40)
    part = np.array(Image.open("predictions/c4_y0000_x0000.png"))
    np.testing.assert_array_equal(labels[:14, :14], part[:14, :14])
    wss("data", "join", "tiles/masks", "-o", "truth", "--tiles", "tiles")
    for n in range(6):
        truth = np.array(Image.open(tmp_path / "cells" / "masks" / f"c{n}.png"))
        np.testing.assert_array_equal(np.array(Image.open(f"truth/c{n}.png")), truth)


def test_scribble_width_is_told(cells, wss, tmp_path):
    (tmp_path / "work" / "wss.yaml").write_text("dataset: {kind: folder, root: ../cells, scribble_width: 5}\n")
    assert "-o scribble_width=5" in wss("data", "tile", "-o", "tiles", "--jobs", 1).out


def test_tiles_do_not_go_into_the_data_set(cells, wss, tmp_path):
    assert wss("data", "tile", "-o", tmp_path / "cells").code == 2
    assert wss("data", "tile", "-o", "tiles", "--size", 32, "--overlap", 32).code == 2
    assert not Path("tiles").exists()


def test_joining_without_a_record_names_the_remedy(cells, wss):
    Path("predictions").mkdir()
    result = wss("data", "join", "predictions", "-o", "joined")
    assert result.code == 1
    assert "--tiles" in result.said


def test_samples_and_tiles_in_several_processes(fresh, wss):
    result = wss("data", "tile", "--size", 16, "--overlap", 0, "-o", "tiles", "--jobs", 2)
    assert result.code == 0, result.err
    assert "6 images -> 24 tiles" in result.out
    assert len(list(Path("tiles/images").iterdir())) == 24
    assert Path("tiles/tiles.json").exists()


def test_predictions_of_georeferenced_tiles_are_joined_in_place(cells, wss, tmp_path):
    tags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 10.0, 20.0, 0.0), True)]
    for path in (tmp_path / "cells" / "images").glob("*.png"):
        values = np.array(Image.open(path))
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="rgb", extratags=tags)
        path.unlink()
    assert wss("data", "tile", "--size", 16, "--overlap", 4, "-o", "tiles", "--jobs", 1).code == 0
    assert wss("data", "join", "tiles/masks", "-o", "joined", "--tiles", "tiles/tiles.json").code == 0
    with tifffile.TiffFile("joined/c0.tif") as file:
        assert file.pages[0].tags[33922].value == tags[1][3]
        truth = np.array(Image.open(tmp_path / "cells" / "masks" / "c0.png"))
        np.testing.assert_array_equal(file.asarray(), truth)
