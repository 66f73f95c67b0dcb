"""Pictures of any size are segmented block by block, in bounded memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from wss import large_tiff
from wss.datasets.finding import FileProblem
from wss.datasets.images import PixelOptions, read_label, read_picture
from wss.datasets.regions import RegionReader
from wss.predictor import Predictor

PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], np.uint8)
GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (34735, 3, 4, (1, 1, 0, 0), True)]
LAYOUTS = {
    "tiles": {"tile": (128, 128), "compression": "deflate"},
    "lzw": {"tile": (64, 96), "compression": "lzw", "predictor": True},
    "strips": {"rowsperstrip": 7, "compression": "deflate"},
    "raw": {},
    "planar": {"planarconfig": "separate", "tile": (128, 128), "compression": "deflate"},
    "raw planar": {"planarconfig": "separate"},
}


class Brightest(nn.Module):
    """Classes 1 and 2 where red or green is above 100, looking at each pixel alone."""

    def forward(self, rgb):
        return torch.cat([torch.full_like(rgb[:, :1], 100), rgb[:, :2]], 1)


@pytest.fixture
def predictor():
    return Predictor(Brightest(), ["a", "b", "c"], PALETTE, torch.device("cpu"))


def _write(path, values, layout="tiles", **more):
    planar = "planar" in layout
    stored = np.ascontiguousarray(np.moveaxis(values, -1, 0)) if planar else values
    tifffile.imwrite(path, stored, photometric="rgb", **LAYOUTS[layout], **more)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_regions_are_those_of_the_whole_picture(tmp_path, layout, dtype):
    values = np.random.default_rng(0).integers(0, 250, (333, 401, 3)).astype(dtype)
    _write(tmp_path / "a.tif", values, layout)
    options = PixelOptions(stretch=(0, 300) if dtype == np.uint16 else "auto")
    whole = read_picture(tmp_path / "a.tif", options).rgb
    with RegionReader(tmp_path / "a.tif", options) as reader:
        assert reader.shape == (333, 401)
        for top, left, height, width in ((0, 0, 333, 401), (120, 60, 50, 300), (-5, 390, 20, 90), (327, 0, 50, 10)):
            y, x = max(top, 0), max(left, 0)
            assert (reader.read(top, left, height, width).rgb == whole[y : top + height, x : left + width]).all()


def test_the_stretch_is_that_of_the_whole_picture(tmp_path):
    values = (np.indices((600, 700)).sum(0)[..., None] * [1, 2, 3]).astype(np.uint16)
    _write(tmp_path / "a.tif", values)
    whole = read_picture(tmp_path / "a.tif").rgb.astype(int)
    with RegionReader(tmp_path / "a.tif") as reader:
        assert np.abs(reader.read(0, 0, 100, 100).rgb - whole[:100, :100]).max() <= 4
        assert np.abs(reader.read(500, 600, 100, 100).rgb - whole[500:, 600:]).max() <= 4


def test_tiles_that_were_left_out_hold_no_data(tmp_path):
    values = np.full((256, 256), 5, np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", values, tile=(128, 128), compression="deflate", extratags=[(42113, 2, 2, "9", True)]
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        for name in ("TileByteCounts", "TileOffsets"):
            tag = file.pages[0].tags[name]
            tag.overwrite((0, *tag.value[1:]))
    with RegionReader(tmp_path / "a.tif") as reader:
        valid = reader.read(0, 0, 256, 256).valid
    assert not valid[:128, :128].any()
    assert valid[128:].all()


@pytest.mark.parametrize("size", [(500, 700), (1024, 1030), (2100, 1500)])
def test_blocks_fit_together(tmp_path, predictor, size):
    values = np.random.default_rng(0).integers(0, 250, (*size, 3), dtype=np.uint8)
    _write(tmp_path / "a.tif", values, extratags=GEO)
    seen = []
    preview = large_tiff.predict_tiff(
        predictor, tmp_path / "a.tif", tmp_path / "o.tif", progress=lambda *n: seen.append(n)
    )
    expected = predictor(values)
    assert (read_label(tmp_path / "o.tif") == expected).all()
    step = -(-max(size) // large_tiff.PREVIEW)
    assert (preview.labels == expected[::step, ::step]).all()
    assert (preview.rgb == values[::step, ::step]).all()
    assert seen[-1][0] == seen[-1][1] == len(seen)
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        page = file.pages[0]
        assert page.tags[33550].value == (10.0, 10.0, 0.0)
        assert page.tags[34735].value == (1, 1, 0, 0)
        assert page.nodata == 255
        assert (page.colormap.T[:3] >> 8 == PALETTE).all()


def test_pixels_without_data_are_unlabelled(tmp_path, predictor):
    values = np.random.default_rng(0).integers(1, 250, (1200, 300, 3), dtype=np.uint8)
    values[1100:] = 0
    _write(tmp_path / "a.tif", values)
    large_tiff.predict_tiff(predictor, tmp_path / "a.tif", tmp_path / "o.tif", PixelOptions(nodata=0))
    labels = read_label(tmp_path / "o.tif")
    assert (labels[1100:] == 255).all()
    assert (labels[:1100] == predictor(values)[:1100]).all()


def test_refuses_what_it_cannot_read_by_parts(tmp_path, monkeypatch):
    values = np.zeros((64, 64, 3), np.uint8)
    _write(tmp_path / "turned.tif", values, extratags=[(274, 3, 1, 6, True)])
    with pytest.raises(FileProblem, match="stored turned"):
        RegionReader(tmp_path / "turned.tif")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 64, 64), np.uint8), photometric="minisblack")
    with pytest.raises(FileProblem, match="holds 4 pages"):
        RegionReader(tmp_path / "stack.tif")
    monkeypatch.setattr("wss.datasets.regions._LARGEST_SEGMENT", 1000)
    tifffile.imwrite(tmp_path / "one.tif", values, rowsperstrip=64, compression="deflate", photometric="rgb")
    with pytest.raises(FileProblem, match="pieces of 0 MB, each of which must be read whole"):
        RegionReader(tmp_path / "one.tif")


def test_damage_is_named(tmp_path, predictor):
    _write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 250, (600, 600, 3), dtype=np.uint8))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileProblem, match=r"a\.tif: .*again"):
        large_tiff.predict_tiff(predictor, tmp_path / "a.tif", tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.slow
def test_20000_pixels_a_side_in_less_than_2_gb(tmp_path):
    program = """
        import resource, sys
        import numpy as np, tifffile, torch
        from tests.test_large_tiff import Brightest, PALETTE
        from wss.large_tiff import predict_tiff
        from wss.datasets.regions import RegionReader
        from wss.predictor import Predictor
        from pathlib import Path
        folder, side = Path(sys.argv[1]), 20_000
        rng = np.random.default_rng(0)
        kinds = [rng.integers(0, 250, (256, 256, 3), dtype=np.uint8) for _ in range(7)]
        count = (-(-side // 256)) ** 2
        tifffile.imwrite(folder / "a.tif", (kinds[n % 7] for n in range(count)), shape=(side, side, 3), dtype=np.uint8,
                         tile=(256, 256), photometric="rgb", compression="deflate", compressionargs={"level": 1})
        predictor = Predictor(Brightest(), ["a", "b", "c"], PALETTE, torch.device("cpu"))
        predict_tiff(predictor, folder / "a.tif", folder / "o.tif")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 2 * 2**20  # KiB
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        assert file.pages[0].shape == (20_000, 20_000)
