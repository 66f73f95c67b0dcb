"""``wss superpixels`` and ``wss propagate``, with a workspace and on single files."""

import numpy as np
import pytest
import tifffile
from commands import artifact
from PIL import Image

from wss.store import Store

METHODS = ["grabcut", "graph-cut", "densecrf", "superpixel", "random-walk"]


def _read(path):
    return np.array(Image.open(path))


@pytest.fixture
def files(cells, tmp_path):
    """An image and its scribbles, in a folder without a workspace."""
    (cells / "wss.yaml").unlink()
    return tmp_path / "cells" / "images" / "c0.png", tmp_path / "cells" / "scribbles" / "c0.png"


@pytest.mark.parametrize("method", METHODS)
def test_one_image_becomes_a_mask_without_a_workspace(files, wss, method, tmp_path, cells):
    image, scribbles = files
    result = wss(
        "propagate", image, "--scribbles", scribbles, "--out", tmp_path / "new" / "m.png", "-m", method, "--json"
    )
    assert result.code == 0, result.err
    assert result.json["classes"] == [0, 1, 2]
    assert result.json["coverage"] == 1
    truth, found = _read(tmp_path / "cells" / "masks" / "c0.png"), _read(tmp_path / "new" / "m.png")
    assert Image.open(tmp_path / "new" / "m.png").mode == "P"
    assert (found == truth).mean() > 0.9
    assert not list(cells.iterdir())


def test_the_mask_has_a_name_of_its_own_and_the_coverage_is_told(files, wss, cells):
    result = wss("propagate", files[0], "-s", files[1], "-m", "superpixel", "--set", "propagate.method.fill=none")
    assert result.code == 0, result.err
    assert "c0_mask.png: 7.50 % scribbled -> " in " ".join(result.out.split())
    assert "by superpixel, classes 0, 1, 2" in " ".join(result.out.split())
    assert (cells / "c0_mask.png").exists()


def test_settings_reach_the_algorithm_and_the_superpixels(files, wss, tmp_path):
    def coverage(*settings):
        arguments = [a for s in ("propagate.method.fill=none", *settings) for a in ("--set", s)]
        result = wss(
            "propagate", files[0], "-s", files[1], "-m", "superpixel", "-o", tmp_path / "m.png", "--json", *arguments
        )
        assert result.code == 0, result.err
        return result.json["coverage"]

    assert coverage("superpixels.method.min_size=1", "superpixels.method.scale=1") < coverage()
    assert coverage("superpixels.method={name: slic, segments: 300}") < coverage()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["IMAGE"], 2, "give both an image and its --scribbles"),
        (["-s", "SCRIBBLES"], 2, "give both an image and its --scribbles"),
        (["IMAGE", "-s", "SCRIBBLES", "-m", "grab-cut"], 2, "did you mean 'grabcut'"),
        (["IMAGE", "-s", "SCRIBBLES", "-o", "mask.jpg"], 2, "ends with .png"),
        (["IMAGE", "-s", "SCRIBBLES", "-o", "IMAGE"], 2, "would be overwritten"),
        (["IMAGE", "-s", "SCRIBBLES", "--set", "propagate.method.weight=2"], 2, "unknown parameter"),
        (["IMAGE", "-s", "SCRIBBLES", "--set", "propagat.method.weight=2"], 2, "did you mean 'propagate'"),
        (["missing.png", "-s", "SCRIBBLES"], 1, "missing.png: no such file"),
        (["IMAGE", "-s", "missing.png"], 1, "missing.png: no such file"),
        (["IMAGE", "-s", "EMPTY"], 1, "no pixel is labelled, all are 255"),
        (["IMAGE", "-s", "SMALL"], 1, "scribbles are 8x9, but"),
        (["IMAGE", "-s", "IMAGE"], 1, "expected class indices"),
        (["TEXT", "-s", "SCRIBBLES"], 1, "not an image"),
    ],
)
def test_files_that_do_not_fit_are_named(files, wss, tmp_path, arguments, code, said):
    Image.fromarray(np.full((32, 40), 255, np.uint8)).save(tmp_path / "empty.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("hello")
    names = {"IMAGE": files[0], "SCRIBBLES": files[1], "EMPTY": tmp_path / "empty.png", "SMALL": tmp_path / "small.png"}
    names["TEXT"] = tmp_path / "text.png"
    before = files[0].read_bytes()
    result = wss("propagate", *(names.get(a, a) for a in arguments))
    assert result.code == code, result.err
    assert said in result.said
    assert files[0].read_bytes() == before


def test_a_scribble_that_labels_everything_is_pointed_out(files, wss, tmp_path):
    result = wss("propagate", files[0], "-s", tmp_path / "cells" / "masks" / "c0.png", "-o", tmp_path / "m.png")
    assert result.code == 0
    assert "every pixel is labelled" in result.said


def test_a_data_set_is_spread_scored_and_written(cells, wss, tmp_path):
    result = wss("propagate", "--method", "grabcut", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    assert result.json["images"] == result.json["scored"] == 4
    assert result.json["miou"] > 0.8
    assert result.json["coverage"] == 1
    store = Store(artifact(cells, "propagate"))
    assert store.ids == ["c0", "c1", "c2", "c3"]
    assert (_read(tmp_path / "out" / "c1.png") == store.get("labels", "c1")).all()
    assert _read(tmp_path / "out" / "c1_overlay.png").shape == (32, 40, 3)
    assert len(list((tmp_path / "out").iterdir())) == 8
    shown = wss("propagate", "--method", "grabcut")
    assert "4 images of split 'train', 100.00 % of their pixels labelled by grabcut" in " ".join(shown.out.split())
    assert "mIoU" in shown.out
    assert "propagate: done already" in shown.said


@pytest.mark.parametrize("detector", ["embedded", "gradient"])
def test_walks_go_around_detected_edges(files, wss, tmp_path, detector):
    def mask(*more):
        arguments = ("propagate", files[0], "-s", files[1], "-m", "random-walk", "-o", tmp_path / "m.png", "--json")
        result = wss(*arguments, *more)
        assert result.code == 0, result.err
        return _read(tmp_path / "m.png"), _read(tmp_path / "cells" / "masks" / "c0.png")

    found, truth = mask("--edges", detector)
    assert (found == truth).mean() > 0.9
    assert (found != mask("--edges", detector, "--set", "propagate.method.strength=0")[0]).any()


def test_a_data_set_is_spread_around_edges(cells, wss):
    result = wss("propagate", "--method", "random-walk", "--edges", "gradient", "--json")
    assert result.code == 0, result.err
    assert result.json["miou"] > 0.8
    store = Store(artifact(cells, "propagate"))
    assert store.inputs["edges"][0]["stage"] == "edges"
    assert Store(artifact(cells, "edges")).params["detector"] == "gradient"


def test_a_data_set_without_masks_is_spread_too(cells, wss, tmp_path):
    for path in (tmp_path / "cells" / "masks").iterdir():
        path.unlink()
    (tmp_path / "cells" / "masks").rmdir()
    result = wss("propagate", "--method", "superpixel", "--split", "val")
    assert result.code == 0, result.err
    assert "2 images of split 'val'" in result.out
    assert "mIoU" not in result.out


def test_what_prepare_and_superpixels_chose_is_used(cells, wss):
    assert wss("prepare", "--points", "--quiet").code == 0
    first = wss("superpixels", "--method", "slic", "--set", "superpixels.method.segments=30", "--json")
    assert first.code == 0, first.err
    result = wss("propagate", "--method", "superpixel", "--set", "propagate.method.fill=none", "--json")
    assert "using the labels of `wss prepare`" in result.said
    assert "using the superpixels of `wss superpixels` (compactness 10.0, name slic, segments 30)" in result.said
    assert [s["key"] for s in Store(artifact(cells, "propagate")).inputs["superpixels"]] == [first.json["key"]]
    assert Store(artifact(cells, "propagate")).meta["options"] == {"points": True}


def test_ucm_detects_edges_first_and_is_used_by_others(cells, wss, tmp_path):
    segments = "superpixels.method.segments=5"
    first = wss("superpixels", "-m", "ucm", "-e", "gradient", "--set", segments, "-o", tmp_path / "out", "--json")
    assert first.code == 0, first.err
    assert "edges: running" in first.said
    assert first.json["most"] == 5
    assert len(first.json["files"]) == 18
    contours = _read(tmp_path / "out" / "c2_contours.png")
    assert contours.shape == (63, 79)
    ids = np.load(tmp_path / "out" / "c2.npy")
    assert ((contours[::2, 1::2] > 0) >= (ids[:, 1:] != ids[:, :-1])).all()
    assert Store(artifact(cells, "edges")).params["detector"] == "gradient"
    used = wss("propagate", "--method", "superpixel", "--json")
    assert "using the superpixels of `wss superpixels` (name ucm" in used.said
    assert [s["key"] for s in Store(artifact(cells, "propagate")).inputs["superpixels"]] == [first.json["key"]]
    assert wss("edges", "-d", "gradient", "--flip").code == 0
    assert "using the edges of `wss edges` (detector gradient, flip True)" in wss("superpixels", "-m", "ucm").said
    again = wss("superpixels", "-m", "ucm", "-e", "gradient", "--set", segments, "--json")
    assert again.json["key"] == first.json["key"]
    kept = wss("propagate", "--method", "superpixel", "--json")
    assert kept.json["key"] == used.json["key"]
    other = wss("superpixels", "-m", "slic", "--json")
    assert "edges" not in other.said
    assert wss("propagate", "--method", "superpixel").code == 0
    (cells / "state.yaml").write_text("edges: {flip: true}\n")  # values that are missing are the defaults
    assert "using the edges of `wss edges` (flip True)" in wss("superpixels", "-m", "ucm", "--set", segments).said


def test_ucm_superpixels_of_one_image(files, wss, tmp_path):
    arguments = ["propagate", files[0], "-s", files[1], "-m", "superpixel", "-o", tmp_path / "m.png", "--json"]

    def coverage(segments):
        cut = f"superpixels.method={{name: ucm, segments: {segments}}}"
        more = ["--set", cut, "--set", "edges.detector=gradient", "--set", "propagate.method.fill=none"]
        result = wss(*arguments, *more)
        assert result.code == 0, result.err
        return result.json["coverage"]

    assert coverage(1) == 1
    assert coverage(30) < 1
    refused = wss(*arguments, "--set", "edges.detector=gradient")
    assert refused.code == 2
    assert "does not use edges here" in refused.said


def test_superpixels_are_counted_and_written(cells, wss, tmp_path):
    result = wss("superpixels", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    store = Store(artifact(cells, "superpixels"))
    counts = [len(np.unique(store.get("superpixels", i))) for i in store.ids]
    assert (result.json["images"], result.json["fewest"], result.json["most"]) == (6, min(counts), max(counts))
    assert (np.load(tmp_path / "out" / "c2.npy") == store.get("superpixels", "c2")).all()
    assert _read(tmp_path / "out" / "c2.png").shape == (32, 40, 3)
    assert "6 images" in wss("superpixels").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["superpixels", "-m", "slick"], "did you mean 'slic'"),
        (["superpixels", "--set", "superpixels.method.segments=3"], "unknown parameter"),
        (["superpixels", "-m", "slic", "--edges", "gradient"], "method 'slic' does not use edges"),
        (["superpixels", "-m", "ucm", "--edges", "gradeint"], "gradient"),
        (["propagate", "--split", "trian"], "did you mean 'train'"),
        (["propagate", "-m", "grabcut", "--edges", "embedded"], "method 'grabcut' does not use edges"),
        (["propagate", "-m", "random-walk", "--edges", "embeded"], "embedded"),
        (["propagate", "--set", "propagate.method.gt_prob=0.5"], "unknown parameter"),
    ],
)
def test_wrong_usage_of_a_workspace(cells, wss, arguments, said):
    result = wss(*arguments)
    assert result.code == 2
    assert said in result.said


def test_the_page_is_taken_of_the_image_and_of_its_scribbles(files, wss, tmp_path):
    stacks = []
    for path in files:
        stack = np.stack([np.full_like(_read(path), 255), _read(path)])
        kind = {"photometric": "rgb"} if stack.ndim == 4 else {"photometric": "minisblack"}
        stacks.append(tmp_path / f"{path.parent.name}.tif")
        tifffile.imwrite(stacks[-1], stack, metadata=None, **kind)
    plain = wss("propagate", files[0], "-s", files[1], "-o", tmp_path / "a.png")
    assert plain.code == 0, plain.err
    refused = wss("propagate", stacks[0], "-s", stacks[1], "-o", tmp_path / "b.png")
    assert refused.code == 1
    assert "--set read.page=0" in refused.said
    chosen = wss("propagate", stacks[0], "-s", stacks[1], "-o", tmp_path / "b.png", "--set", "read.page=1")
    assert chosen.code == 0, chosen.err
    assert (_read(tmp_path / "a.png") == _read(tmp_path / "b.png")).all()
