"""Files that `wss predict` reads become RGB as those of training did; TIFFs keep their place on earth, and may be of any size."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml
from commands import QUICK
from PIL import Image

from wss.checkpoints import load_checkpoint
from wss.datasets.images import PixelOptions, read_label, read_picture
from wss.predictor import Predictor
from wss.store import Store

GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)]


@pytest.fixture
def bands(tmp_path, monkeypatch):
    """A workspace, the current folder, on five-band GeoTIFFs of 16 bits, of which bands 4, 3 and 1 are trained on."""
    rng = np.random.default_rng(0)
    root = tmp_path / "scenes"
    for part in ("images", "scribbles", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((40, 48), np.uint8)
        mask[20:] = 1
        values = (rng.integers(0, 200, (40, 48, 5)) + 900 * mask[..., None].astype(int)).astype(np.uint16)
        values[:5] = 0
        tifffile.imwrite(
            root / f"images/a{number}.tif", values, photometric="minisblack", planarconfig="contig", extratags=GEO
        )
        scribble = np.full((40, 48), 255, np.uint8)
        scribble[10, 5:40], scribble[30, 5:40] = 0, 1
        Image.fromarray(scribble).save(root / f"scribbles/a{number}.png")
        Image.fromarray(mask).save(root / f"masks/a{number}.png")
    (root / "classes.txt").write_text("water\nland\n")
    (root / "val.txt").write_text("a3\n")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _init(wss):
    options = ("-o", "bands=[4,3,1]", "-o", "nodata=0", "-o", "stretch=[0,1200]")
    result = wss("init", "--kind", "folder", "--root", "../scenes", *options)
    assert result.code == 0, result.err


def test_bands_must_be_chosen_and_the_remedy_works(bands, wss):
    assert wss("init", "--kind", "folder", "--root", "../scenes").code == 0
    checked = wss("data", "check")
    assert checked.code == 1
    assert "has 5 bands of uint16" in checked.out and "-o 'bands=[3,2,1]'" in checked.out
    assert wss("init", "-o", "bands=[3,2,1]").code == 0
    assert wss("data", "check").code == 0


def test_init_without_kind_changes_options_alone(bands, wss):
    refused = wss("init", "-o", "bands=[3,2,1]")
    assert refused.code == 2
    assert "--kind is missing: wss.yaml declares no data set yet" in refused.said
    (bands / "wss.yaml").write_text("dataset: {kind: folder, root: ../scenes, nodata: 0}\n")
    assert wss("init", "-o", "bands=[3,2,1]", "-o", "nodata=7", "-w", bands).code == 0
    assert yaml.safe_load((bands / "wss.yaml").read_text())["dataset"] == {
        "kind": "folder",
        "root": "../scenes",
        "nodata": 7,
        "bands": [3, 2, 1],
    }
    refused = wss("init", "-w", bands)
    assert refused.code == 2
    assert "declares a data set; give --kind" in refused.said
    assert "did you mean 'bands'" in wss("init", "-o", "band=1").said
    assert "--force" in wss("init", "-r", "../scenes", "-o", "bands=1").said


def test_prediction_reads_files_as_training_did(bands, wss):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    assert wss("predict", "../scenes/images/a3.tif", "--out", "o", "--probs").code == 0
    (network,) = map(str, bands.glob("artifacts/train/*.h5"))
    reading = PixelOptions(bands=(4, 3, 1), nodata=0, stretch=(0, 1200))
    image, valid = read_picture(bands / "../scenes/images/a3.tif", reading)
    (samples,) = map(Store, bands.glob("artifacts/samples/*.h5"))
    assert (image == samples.get("image", "a3")).all()
    expected = np.where(valid, load_checkpoint(network)(image), 255)
    assert (read_label(bands / "o/a3.png") == expected).all()
    assert (expected[:5] == 255).all()
    other = wss("predict", "../scenes/images/a3.tif", "--out", "p", "--set", "read.bands=[1,1,1]", "--probs")
    assert other.code == 0
    assert np.abs(np.load(bands / "o/a3_probs.npy") - np.load(bands / "p/a3_probs.npy")).max() > 1e-3
    same = wss("predict", "../scenes/images/a3.tif", "--out", "q", "--set", "read.page=0", "--probs")
    assert same.code == 0
    assert (np.load(bands / "o/a3_probs.npy") == np.load(bands / "q/a3_probs.npy")).all()
    assert (read_label(bands / "q/a3.png") == expected).all()
    unnamed = wss("predict", "--set", "read.page=0")
    assert unnamed.code == 2
    assert "only named files are read anew" in unnamed.said
    for setting, message in (("read.band=[1]", "unknown parameter 'band'"), ("train.lr=1", "expected read.NAME=VALUE")):
        refused = wss("predict", "../scenes/images/a3.tif", "--set", setting)
        assert refused.code == 2
        assert message in refused.said


def test_without_val_the_training_images_are_predicted_and_that_is_said(bands, wss):
    (bands.parent / "scenes/val.txt").unlink()
    for mask in (bands.parent / "scenes/masks").iterdir():
        mask.unlink()
    _init(wss)
    assert wss("train", *QUICK).code == 0
    shown = wss("predict", "--out", "p")
    assert shown.code == 0
    assert "split 'val' has no images, so those of 'train' are predicted" in shown.said
    assert {path.name for path in (bands / "p").glob("a?.png")} == {f"a{n}.png" for n in range(4)}
    refused = wss("predict", "--out", "q", "--split", "val")
    assert refused.code != 0 and "split 'val'" in refused.said


def test_masks_of_geotiff_are_geotiff(bands, wss):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    result = wss("predict", "../scenes/images", "--out", "o", "--json")
    assert sorted(path.name for path in (bands / "o").glob("*.tif")) == [f"a{n}.tif" for n in range(4)]
    assert "o/a0.tif" in result.json["files"]
    with tifffile.TiffFile(bands / "o/a0.tif") as file:
        assert file.pages[0].tags[33922].value == GEO[1][3]
        assert file.pages[0].nodata == 255
    assert (read_label(bands / "o/a0.tif") == read_label(bands / "o/a0.png")).all()


def test_large_tiff_is_predicted_by_blocks(bands, wss, monkeypatch):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    assert wss("predict", "../scenes/images/a3.tif", "--out", "small").code == 0
    monkeypatch.setattr("wss.cli.segmentation.MAX_PIXELS", 1000)
    assert wss("predict", "../scenes/images/a3.tif", "--out", "large").code == 0
    assert {path.name for path in (bands / "large").iterdir()} == {"a3.tif", "a3_overlay.png"}
    assert (read_label(bands / "large/a3.tif") == read_label(bands / "small/a3.png")).all()
    assert wss("predict", "../scenes/images/a3.tif", "--out", "probs", "--probs").code == 0
    probs = np.load(bands / "probs/a3_probs.npy")
    assert probs.shape == (2, 40, 48)
    assert probs.dtype == np.float16
    labels = read_label(bands / "probs/a3.tif")
    assert (labels[:5] == 255).all()
    assert (np.take_along_axis(probs[:, 5:], labels[None, 5:], 0)[0] == probs[:, 5:].max(0)).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_memory_does_not_grow_with_images_of_any_format(bands, wss, monkeypatch, ending):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    image = np.random.default_rng(0).integers(0, 255, (150, 130, 3), dtype=np.uint8)
    Image.fromarray(image).save(bands / f"a.{ending}")
    monkeypatch.setattr("wss.predictor.WHOLE", 2000)
    monkeypatch.setattr("wss.blocks.BLOCK", 64)
    monkeypatch.setattr("wss.blocks.MARGIN", 16)
    sizes = []
    whole = Predictor._whole
    monkeypatch.setattr(Predictor, "_whole", lambda self, image: sizes.append(image.shape) or whole(self, image))
    reading = ("--set", "read.bands=null", "--set", "read.nodata=null")
    result = wss("predict", f"a.{ending}", "--out", "o", "--probs", *reading)
    assert result.code == 0, result.err
    assert {path.name for path in (bands / "o").iterdir()} == {"a.png", "a_overlay.png", "a_probs.npy"}
    assert len(sizes) == 9
    assert max(map(max, sizes)) == 96
    labels, probs = read_label(bands / "o/a.png"), np.load(bands / "o/a_probs.npy")
    assert (np.take_along_axis(probs, labels[None], 0)[0] == probs.max(0)).all()


def test_a_mask_does_not_replace_its_image(bands, wss):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    (bands / "photos").mkdir()
    (bands / "photos/a.tif").write_bytes((bands / "../scenes/images/a0.tif").read_bytes())
    refused = wss("predict", "photos/a.tif", "--out", "photos")
    assert refused.code == 2
    assert "is one of the images and would be overwritten" in refused.said


@pytest.mark.parametrize(("side", "measured"), [(300, False), (3300, True)])
def test_bfloat16_is_measured_for_few_large_images(bands, wss, monkeypatch, side, measured):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(bands / "a.png")
    asked = []
    monkeypatch.setattr("wss.precision.multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr("wss.precision.measured", lambda step, device: asked.append(step) or 1.0)
    monkeypatch.setattr(Predictor, "_whole", lambda self, image: np.zeros((2, *image.shape[:2]), np.float32))
    reading = ("--set", "read.bands=null", "--set", "read.nodata=null")
    assert wss("predict", "a.png", "--out", "o", "--no-overlays", *reading).code == 0
    assert bool(asked) == measured


def test_leftovers_of_a_killed_run_go_when_it_is_run_again(bands, wss):
    _init(wss)
    assert wss("train", *QUICK).code == 0
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (bands / "o").mkdir()
    names = (f"a3_probs.npy.{dead.pid}.tmp", f"a3.tif.{dead.pid}.tmp")
    others = (f"a3_probs.npy.{os.getppid()}.tmp", f"b_probs.npy.{dead.pid}.tmp", "a3_probs.npy.mine.tmp", "a3.tmp")
    for name in (*names, *others):
        (bands / "o" / name).write_bytes(b"half")
    assert wss("predict", "../scenes/images/a3.tif", "--out", "o", "--probs").code == 0
    left = {path.name for path in (bands / "o").iterdir() if path.suffix == ".tmp"}
    assert left == set(others)
