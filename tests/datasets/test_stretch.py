"""Values of many bits become 8 bits; pixels without data are told."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from raster_cases import SIZE

from tests.datasets.image_files import tiff
from wss.datasets.finding import FileProblem
from wss.datasets.images import PixelOptions, read_image, read_label, read_picture
from wss.datasets.raster import read_header, read_raster
from wss.errors import UsageError
from wss.params import validate


def _write(path, values):

    tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack")


def test_rgb_of_12_bits_in_16_is_stretched(tmp_path):
    eight = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    _write(tmp_path / "a.tif", eight.astype(np.uint16) * 16)
    read = read_image(tmp_path / "a.tif").astype(int)
    assert np.abs(read - eight).max() <= 3
    assert (
        read_image(tmp_path / "a.tif", PixelOptions(stretch="full")) == np.rint(eight.astype(int) * 16 * 255 / 65535)
    ).all()
    assert (read_image(tmp_path / "a.tif", PixelOptions(stretch=(0, 255 * 16))) == eight).all()


@pytest.mark.parametrize("hot", [60000, -9999])
def test_one_outlier_does_not_decide(tmp_path, hot):
    values = np.random.default_rng(0).integers(100, 1100, (64, 64)).astype(np.int32)
    values[5, 5] = hot
    _write(tmp_path / "a.tif", values)
    read = read_image(tmp_path / "a.tif")
    assert len(np.unique(read)) > 200
    assert read[5, 5, 0] == (255 if hot > 0 else 0)


def test_stretch_of_8_bits_only_if_asked(tmp_path):
    values = np.random.default_rng(0).integers(50, 90, (40, 40), dtype=np.uint8)
    _write(tmp_path / "a.tif", values)
    assert (read_image(tmp_path / "a.tif")[..., 0] == values).all()
    assert read_image(tmp_path / "a.tif", PixelOptions(stretch="percentiles")).max() == 255
    assert (
        read_image(tmp_path / "a.tif", PixelOptions(stretch=(50, 101)))[..., 0] == (values.astype(int) - 50) * 5
    ).all()


def test_channels_of_rgb_are_stretched_together_and_chosen_bands_each(tmp_path):

    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, top, (64, 64)) for top in (1000, 2000, 4000)], axis=-1).astype(np.uint16)
    _write(tmp_path / "rgb.tif", values)
    tops = read_image(tmp_path / "rgb.tif").reshape(-1, 3).max(0)
    assert tops[0] < 80 and tops[2] == 255
    tifffile.imwrite(
        tmp_path / "bands.tif", np.dstack([values, values]), photometric="minisblack", planarconfig="contig"
    )
    assert read_image(tmp_path / "bands.tif", PixelOptions(bands=(1, 2, 3))).reshape(-1, 3).max(0).tolist() == [255] * 3


def test_constant_and_nearly_constant_images(tmp_path):
    _write(tmp_path / "a.tif", np.full((8, 8), 700, np.uint16))
    assert not read_image(tmp_path / "a.tif").any()
    values = np.zeros((100, 100), np.uint16)
    values[:2, :2] = 500
    _write(tmp_path / "b.tif", values)
    assert set(np.unique(read_image(tmp_path / "b.tif"))) == {0, 255}


@pytest.mark.parametrize("value", [-9999.0, np.nan])
def test_pixels_without_data(tmp_path, value):
    values = np.random.default_rng(0).uniform(0.1, 0.4, SIZE).astype(np.float32)
    values[:3] = value
    _write(tmp_path / "a.tif", values)
    rgb, valid = read_picture(tmp_path / "a.tif", PixelOptions(nodata=-9999))
    assert (valid == (np.arange(SIZE[0]) >= 3)[:, None]).all()
    assert not rgb[:3].any()
    assert len(np.unique(rgb[3:])) > 100
    tagged = tiff(values[..., None], 32, tags=[(42113, "s", b"-9999\0")])
    (tmp_path / "b.tif").write_bytes(tagged)
    assert (read_picture(tmp_path / "b.tif").valid == valid).all()
    assert read_picture(tmp_path / "a.tif").valid is None or np.isnan(value)


def test_a_pixel_has_data_if_one_channel_has(tmp_path):
    values = np.full((8, 8, 3), 9, np.uint8)
    values[0, 0] = 0
    values[1, 1, :2] = 0
    _write(tmp_path / "a.tif", values)
    assert np.argwhere(~read_picture(tmp_path / "a.tif", PixelOptions(nodata=0)).valid).tolist() == [[0, 0]]


def test_infinite_values_are_refused(tmp_path):
    _write(tmp_path / "a.tif", np.array([[0, np.inf]], np.float32))
    with pytest.raises(FileProblem, match="holds infinite values"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("stretch", ["ful", [3, 1], [1], [1, 1]])
def test_refuses_other_stretches(stretch):
    with pytest.raises(UsageError, match="stretch"):
        validate(PixelOptions, {"stretch": stretch}, "here")


@pytest.mark.parametrize("seed", range(25))
def test_files_of_opencv(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2))
    for suffix, dtypes, counts in (
        ("png", ("u1", "u2"), (1, 3, 4)),
        ("tif", ("u1", "u2", "f4", "f8"), (1, 3)),
        ("bmp", ("u1",), (1, 3)),
        ("webp", ("u1",), (3,)),
        ("pgm", ("u1", "u2"), (1,)),
        ("ppm", ("u1", "u2"), (3,)),
    ):
        dtype, count = np.dtype(rng.choice(dtypes)), int(rng.choice(counts))
        values = (
            rng.normal(size=(*shape, count)) * 1000
            if dtype.kind == "f"
            else rng.integers(0, np.iinfo(dtype).max + 1, (*shape, count))
        )
        values = values.astype(dtype)
        path = tmp_path / f"a.{suffix}"
        quality = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == "webp" else []
        assert cv2.imwrite(str(path), values if count == 1 else values[..., [2, 1, 0, 3][:count]], quality)
        found = read_raster(path)
        assert found.values.dtype == dtype, suffix
        expected = values[..., 0] if count == 1 else values[..., :3]
        assert (found.values == expected).all(), suffix
        if count == 4:
            assert (found.transparent == (values[..., 3] == 0)).all()
        assert read_header(path).shape == shape


@pytest.mark.parametrize("seed", range(25))
def test_files_of_pillow(tmp_path, seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 50, 2)
    colours = int(rng.choice([2, 4, 16, 200, 256]))
    indices = rng.integers(0, colours, (height, width), dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(rng.integers(0, 256, 3 * colours, dtype=np.uint8).tobytes())
    for suffix, options in (
        ("png", {"bits": int(np.ceil(np.log2(colours)))} if colours in (2, 4, 16) else {}),
        ("tif", {"compression": str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))}),
        ("bmp", {}),
    ):
        image.save(tmp_path / f"a.{suffix}", **options)
        assert (read_label(tmp_path / f"a.{suffix}") == indices).all(), (suffix, options)
        assert (read_image(tmp_path / f"a.{suffix}") == np.array(image.convert("RGB"))).all(), suffix
    bits = rng.random((height, width)) < 0.5
    for suffix, options in (("png", {}), ("bmp", {}), ("tif", {}), ("tif", {"compression": "group4"})):
        Image.fromarray(bits).save(tmp_path / f"b.{suffix}", **options)
        stored = bits if suffix != "tif" else tifffile.imread(tmp_path / "b.tif")
        assert (read_label(tmp_path / f"b.{suffix}") == stored).all(), suffix
        assert (read_image(tmp_path / f"b.{suffix}")[..., 0] == 255 * bits).all(), suffix


@pytest.mark.parametrize("seed", range(25))
def test_files_of_tifffile(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(17, 90, 2))
    dtype = np.dtype(rng.choice(["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]))
    count = int(rng.choice([1, 3]))
    values = (rng.normal(size=(*shape, count)) * 50).astype(dtype)
    options = {"compression": rng.choice([None, "deflate", "lzw", "zstd", "lzma", "packbits"])}
    if rng.random() < 0.5:
        options["tile"] = (16 * int(rng.integers(1, 4)), 16 * int(rng.integers(1, 4)))
    if options["compression"] in ("deflate", "lzw") and dtype.itemsize > 1 and dtype != np.dtype("f2"):
        options["predictor"] = bool(rng.random() < 0.5)
    stored = values[..., 0]
    if count == 3:
        options["photometric"] = "rgb"
        options["planarconfig"] = str(rng.choice(["contig", "separate"]))
        stored = values if options["planarconfig"] == "contig" else np.ascontiguousarray(np.moveaxis(values, -1, 0))
    else:
        options["photometric"] = str(rng.choice(["minisblack", "miniswhite"]))
    tifffile.imwrite(
        tmp_path / "a.tif", stored, bigtiff=bool(rng.random() < 0.3), byteorder=str(rng.choice(["<", ">"])), **options
    )
    found = read_raster(tmp_path / "a.tif")
    assert found.values.dtype == dtype
    assert (found.values == (values[..., 0] if count == 1 else values)).all(), options
