"""Image and label files: every format and mode, and everything that can be wrong with them."""

from __future__ import annotations

import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from wss.datasets.finding import FileProblem
from wss.datasets.images import PixelOptions, read_header, read_image, read_label
from wss.errors import DataError


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_formats_keep_every_value(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, picture)


def test_webp_and_jpeg(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), picture)
    smooth = np.tile(np.arange(0, 64, dtype=np.uint8)[None, :, None], (32, 1, 3))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() < 6


def test_content_decides_the_format_not_the_name(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), picture)


def test_exif_orientation_is_applied(tmp_path):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:14].min() > 200 and upright[18:].max() < 50
    header = read_header(tmp_path / "a.jpg")
    assert header.shape == (32, 16) and header.rotated


def test_grey_alpha_palette_and_cmyk(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    rgba = np.dstack([picture, np.full(picture.shape[:2], 3, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), picture)
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), [[[10, 20, 30], [40, 50, 60]]])
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    assert read_image(tmp_path / "cmyk.tif")[0, 0].tolist() == [255, 0, 0]


def test_16_bit_grey_is_scaled_from_its_own_range(tmp_path):
    values = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    read = read_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(read[..., 0], [[0, 64], [128, 255]])
    assert read.shape == (2, 2, 3)


def test_float_tiff(tmp_path):
    values = np.array([[0.0, 0.5]], np.float32)
    Image.fromarray(values).save(tmp_path / "unit.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "unit.tif")[..., 0], [[0, 255]])
    np.testing.assert_array_equal(read_image(tmp_path / "unit.tif", PixelOptions(stretch="full"))[..., 0], [[0, 128]])


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_400, 60_000])
def test_image_bombs_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(_png_claiming(side, side))
    with pytest.raises(FileProblem, match=r"bomb\.png.*pixels") as caught:
        read_image(tmp_path / "bomb.png")
    assert caught.value.code == "too-large"


def test_pixel_limit_is_configurable(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=77).shape == picture.shape
    with pytest.raises(DataError, match="11x7 pixels, more than the limit of 76"):
        read_image(tmp_path / "a.png", max_pixels=76)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_truncated_files(tmp_path, suffix):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"a\.{suffix}.*again"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"hello, I am text", "not an image"), (b"\x89PNG\r\n\x1a\nxxxx", "a.png")]
)
def test_files_that_are_no_images(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, read_label, read_header):
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.png")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileProblem, match="no such file") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.code == "missing-file"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(DataError, match=r"b\.png"):
        read_image(tmp_path / "b.png")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="the format is PostScript"):
        read_image(tmp_path / "a.png")


# labels


def test_indexed_labels_keep_their_indices(tmp_path):
    labels = np.array([[0, 1, 2], [20, 254, 255]], np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8)))
    image.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    np.testing.assert_array_equal(read_label(tmp_path / "p.png"), labels)


def test_grey_binary_and_16_bit_labels(tmp_path):
    labels = np.array([[0, 3], [7, 255]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(labels.astype(np.int32)).save(tmp_path / "int.tif")
    for name in ("l.png", "deep.png", "int.tif"):
        read = read_label(tmp_path / name)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_label(tmp_path / "1.png"), [[1, 0]])
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(FileProblem, match="got 0 to 65535") as caught:
        read_label(tmp_path / "wide.png")
    assert caught.value.code == "label-range"


def test_rgb_labels_are_refused_or_decoded(tmp_path):
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    rendering = np.concatenate([palette, np.tile([[224, 224, 192]], (253, 1)).astype(np.uint8)])[labels]
    Image.fromarray(rendering).save(tmp_path / "rgb.png")
    with pytest.raises(FileProblem, match="rendering of the palette") as caught:
        read_label(tmp_path / "rgb.png")
    assert caught.value.code == "rgb-label"
    np.testing.assert_array_equal(read_label(tmp_path / "rgb.png", palette=palette), labels)
    rendering[1, 0] = (0, 127, 0)
    Image.fromarray(rendering).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"\(0, 127, 0\) at x=0, y=1 is none of the 3"):
        read_label(tmp_path / "rgb.png", palette=palette)


def test_lossy_labels_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(FileProblem, match="JPEG") as caught:
        read_label(tmp_path / "a.jpg")
    assert caught.value.code == "lossy-label"
