"""Image files that are sound but unusual, or damaged without a sign that decoders heed: right values, or the true reason."""

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import png, tiff
from PIL import Image

from wss.datasets.files import ReadOptions
from wss.datasets.finding import FileProblem
from wss.datasets.images import read_label, read_picture
from wss.datasets.raster import read_header, read_raster
from wss.datasets.regions import RegionReader

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (70, 90), dtype=np.uint8)
RGB = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), (90, 70), interpolation=cv2.INTER_CUBIC)
LABELS = (GREY % 3).astype(np.uint8)
EMPTY = np.indices(GREY.shape)[0] < 20


def _file(tmp_path, data, name="a"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def _encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _parts(path, method):
    """All pixels of a TIFF, put together from parts."""
    with RegionReader(path) as reader:
        height, width = reader.shape
        return [[method(reader)(y, x, 33, 41) for x in range(0, width, 41)] for y in range(0, height, 33)]


def _stored(path):
    return np.concatenate([np.concatenate([p.values for p in row], 1) for row in _parts(path, lambda r: r.stored)])


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("u1", "255", 255),
        ("u1", "255.0", 255),
        ("u1", "2.55e2", 255),
        ("u1", "-9999", None),
        ("u1", "nan", None),
        ("u1", "300", None),
        ("u1", "254,5", None),
        ("u1", " ", None),
        ("i2", "-9999.0", -9999),
        ("u2", "6.5535e+04", 65535),
        ("u4", "4294967295", 4294967295),
        ("i8", "9223372036854775807", 9223372036854775807),
        ("f4", "-9999", -9999),
        ("f4", "-3.4028234663852886e+38", -3.4028234663852886e38),
        ("f4", "-1.7976931348623157e+308", None),
        ("f4", "0.1", 0.1),
        ("f4", "nan", np.nan),
        ("f4", "-1.#IND", np.nan),
        ("f4", "inf", np.inf),
    ],
)
def test_the_value_for_no_data_is_what_gdal_wrote(tmp_path, dtype, text, value):
    values = LABELS.astype(dtype)
    if value is not None:
        values[3, 4] = np.array(value).astype(dtype)
    tifffile.imwrite(tmp_path / "a", values, extratags=[(42113, 2, len(text) + 1, text, True)])
    valid = read_picture(tmp_path / "a").valid
    expected = LABELS.copy()
    if value is None:
        assert valid is None
    else:
        assert np.argwhere(~valid).tolist() == [[3, 4]]
        expected[3, 4] = 255
    assert (read_label(tmp_path / "a") == expected).all()


def test_a_value_for_no_data_that_is_no_number_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a", GREY, extratags=[(42113, 2, 5, "none", True)])
    with pytest.raises(FileProblem, match=r"names 'none' as the value .* \(`gdal_edit\.py -unsetnodata`\)"):
        read_picture(tmp_path / "a")


def test_tiles_that_were_left_out_have_the_value_for_no_data_whatever_its_text(tmp_path):
    tifffile.imwrite(tmp_path / "a", LABELS, tile=(32, 32), extratags=[(42113, 2, 6, "255.0", True)])
    with tifffile.TiffFile(tmp_path / "a", mode="r+b") as file:
        for name in ("TileByteCounts", "TileOffsets"):
            tag = file.pages[0].tags[name]
            tag.overwrite((0, *tag.value[1:]))
    expected = LABELS.copy()
    expected[:32, :32] = 255
    assert (read_label(tmp_path / "a") == expected).all()
    assert (_stored(tmp_path / "a") == expected).all()


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32), "compression": "deflate"}])
def test_the_mask_inside_a_tiff_says_where_there_is_no_data(tmp_path, options):
    for values, photometric in ((LABELS, "minisblack"), (RGB, "rgb")):
        with tifffile.TiffWriter(tmp_path / "a") as file:
            file.write(values, photometric=photometric, metadata=None, **options)
            file.write(~EMPTY, subfiletype=4, photometric="mask", metadata=None)
            file.write(values[::2, ::2], photometric=photometric, subfiletype=1, metadata=None)
            file.write(~EMPTY[::2, ::2], subfiletype=5, photometric="mask", metadata=None)
        rgb, valid = read_picture(tmp_path / "a")
        assert (valid == ~EMPTY).all()
        assert not rgb[:20].any()
        rows = _parts(tmp_path / "a", lambda reader: reader.read)
        assert (np.concatenate([np.concatenate([p.rgb for p in row], 1) for row in rows]) == rgb).all()
        with RegionReader(tmp_path / "a") as reader:
            assert (reader.read(0, 0, 70, 90).valid == ~EMPTY).all()
            assert (reader.stored(0, 0, 70, 90).transparent == EMPTY).all()
        if values is LABELS:
            assert (read_label(tmp_path / "a") == np.where(EMPTY, 255, LABELS)).all()


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (4, 1)])
def test_jpeg_in_tiff_by_parts(tmp_path, options, subsampling):
    values = SMOOTH[..., :3]
    tifffile.imwrite(
        tmp_path / "a", values, compression="jpeg", photometric="ycbcr", subsampling=subsampling, **options
    )
    whole = read_raster(tmp_path / "a").values
    assert (whole == np.asarray(Image.open(tmp_path / "a").convert("RGB"))).all()
    assert (_stored(tmp_path / "a") == whole).all()


@pytest.mark.parametrize(("kept", "zeros"), [(0.7, False), (0.7, True), (0.99, False)])
@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw"])
def test_strips_that_end_early_are_not_filled(tmp_path, compression, kept, zeros):
    tifffile.imwrite(tmp_path / "a", SMOOTH, compression=compression, photometric="rgb")
    data = (tmp_path / "a").read_bytes()
    cut = int(len(data) * kept)
    _file(tmp_path, data[:cut] + bytes(len(data) - cut) * zeros)
    for read in (read_raster, _stored):
        with pytest.raises(FileProblem, match=r"copy (or download )?it again"):
            read(tmp_path / "a")


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 10, "compression": "lzw"}])
def test_a_tiff_whose_pixels_were_never_written(tmp_path, options):
    names = ("TileByteCounts", "TileOffsets") if "tile" in options else ("StripByteCounts", "StripOffsets")
    for text, value in ((None, None), ("7", 7)):
        tags = [] if text is None else [(42113, 2, 2, text, True)]
        tifffile.imwrite(tmp_path / "a", GREY, extratags=tags, **options)
        with tifffile.TiffFile(tmp_path / "a", mode="r+b") as file:
            for name in names:
                tag = file.pages[0].tags[name]
                tag.overwrite((0,) * tag.count)
        for read in (lambda path: read_raster(path).values, _stored):
            if value is None:
                with pytest.raises(FileProblem, match="holds no pixels, only the description of an image"):
                    read(tmp_path / "a")
            else:
                assert (read(tmp_path / "a") == value).all()


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("factor", [1, 257])
def test_palettes_of_tiff_in_8_and_16_bits(tmp_path, bits, factor):
    colours = RNG.integers(0, 256, (2**bits, 3))
    values = RNG.integers(0, 2**bits, (70, 90, 1))
    stored = tiff(values, bits, photometric=3, palette=colours)
    if factor == 1:
        wide = struct.pack(f"<{colours.size}H", *(colours.T.ravel() * 257))
        stored = stored.replace(wide, struct.pack(f"<{colours.size}H", *colours.T.ravel()))
    _file(tmp_path, stored)
    assert (read_picture(tmp_path / "a").rgb == colours[values[..., 0]]).all()


def test_a_smaller_second_picture_is_no_reduced_copy_unless_the_file_says_so(tmp_path):
    for kind, refused in ((0, True), (1, False)):
        with tifffile.TiffWriter(tmp_path / "a") as file:
            file.write(RGB, photometric="rgb", metadata=None)
            file.write(255 - RGB[::2, ::2], photometric="rgb", metadata=None, subfiletype=kind)
        if refused:
            with pytest.raises(FileProblem, match="holds 2 images of different sizes or types"):
                read_raster(tmp_path / "a")
        else:
            assert (read_raster(tmp_path / "a").values == RGB).all()


def test_channels_of_several_depths_are_named(tmp_path):
    data = tiff(RGB, 8, photometric=2)
    _file(tmp_path, data.replace(struct.pack("<HHH", 8, 8, 8), struct.pack("<HHH", 8, 8, 16), 1))
    with pytest.raises(FileProblem, match="has channels of 8, 8, 16 bits"):
        read_raster(tmp_path / "a")


def _bmp(values, bits, palette, count=0, head=40):
    rows = [np.packbits(((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).ravel()) for row in values]
    body = b"".join(row.tobytes() + bytes(-len(row) % 4) for row in rows[::-1])
    colours = b"".join(bytes([*map(int, colour[::-1])]) + b"\0" * (head > 12) for colour in palette)
    height, width = values.shape
    if head == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(body), 0, 0, count, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header) + len(colours)) + header + colours + body


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("colours", ["black and white", "white and black", "indices", "greys", "colours"])
def test_bmp_with_any_palette(tmp_path, bits, colours):
    few = colours in ("black and white", "white and black")
    levels = np.arange(2**bits)
    palette = {
        "black and white": np.array([[0, 0, 0], [255, 255, 255]]),
        "white and black": np.array([[255, 255, 255], [0, 0, 0]]),
        "indices": np.repeat(levels[:, None], 3, 1),
        "greys": np.repeat(levels[:, None] * 255 // (2**bits - 1), 3, 1),
        "colours": RNG.integers(0, 256, (2**bits, 3)),
    }[colours]
    values = RNG.integers(0, 2 if few else 2**bits, (13, 17))
    _file(tmp_path, _bmp(values, bits, palette, 2 * few))
    assert (read_label(tmp_path / "a") == values).all()
    assert (read_picture(tmp_path / "a").rgb == palette[values]).all()


@pytest.mark.parametrize("bits", [2, 5])
def test_bmp_that_is_not_read_is_not_called_damaged(tmp_path, bits):
    _file(tmp_path, _bmp(RNG.integers(0, 4, (13, 17)), bits, RNG.integers(0, 256, (2**bits, 3))))
    for read in (read_raster, read_header):
        with pytest.raises(FileProblem, match=r"Unsupported BMP pixel depth .*; save it as PNG"):
            read(tmp_path / "a")


def test_jpeg_of_other_kinds_is_not_called_damaged(tmp_path):
    values = SMOOTH.astype(np.uint16)
    kinds = {"a JPEG of 12 bits": imagecodecs.jpeg8_encode(values * 16, 95, bitspersample=12)}
    kinds["lossless JPEG"] = imagecodecs.ljpeg_encode(np.ascontiguousarray(values[..., 0]), bitspersample=12)
    kinds["JPEG-LS"] = imagecodecs.jpegls_encode(SMOOTH)
    for kind, data in kinds.items():
        with pytest.raises(FileProblem, match=f"{kind}.* which is not read; save it as PNG or TIFF"):
            read_raster(_file(tmp_path, data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0\xff\xd9"}])
def test_a_jpeg_whose_end_is_zeros_is_refused(tmp_path, options):
    data = _encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, **options)
    assert read_raster(_file(tmp_path, data)).lossy
    assert read_raster(_file(tmp_path, data + bytes(100))).lossy
    half = len(data) // 2
    with pytest.raises(FileProblem, match="ends before its last pixel"):
        read_raster(_file(tmp_path, data[:half] + bytes(len(data) - half)))


def test_animations_of_16_bits_are_refused(tmp_path):
    frames = RNG.integers(0, 65536, (2, 5, 7, 3))
    data = png(frames[0], 16)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    control = [chunk(b"fcTL", struct.pack(">IIIIIHHBB", n, 7, 5, 0, 0, 1, 10, 0, 0)) for n in (0, 1)]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in frames[1])
    second = control[1] + chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(rows))
    first = data.index(b"IDAT") - 4
    moving = (
        data[:first] + chunk(b"acTL", struct.pack(">II", 2, 0)) + control[0] + data[first:-12] + second + data[-12:]
    )
    for page, message in ((None, "holds 2 frames"), (0, "animation of 16 bits"), (1, "animation of 16 bits")):
        with pytest.raises(FileProblem, match=message):
            read_raster(_file(tmp_path, moving), page=page)


def test_webp_says_whether_it_is_lossy(tmp_path):
    for lossless in (False, True):
        for alpha in (False, True):
            image = Image.fromarray(SMOOTH).convert("RGBA" if alpha else "RGB")
            data = _encoded(image, "WEBP", lossless=lossless, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
            assert read_raster(_file(tmp_path, data)).lossy != lossless


@pytest.mark.parametrize("values", [[0, 1, 255], [0, 100, 200]])
def test_labels_in_a_grey_gif_whose_colours_were_renumbered(tmp_path, values):
    labels = np.array(values, np.uint8)[LABELS]
    plain = _encoded(Image.fromarray(LABELS), "GIF")
    assert (read_label(_file(tmp_path, plain)) == LABELS).all()
    with pytest.raises(FileProblem, match=r"GIF with a grey palette.*; save the labels as PNG"):
        read_label(_file(tmp_path, _encoded(Image.fromarray(labels), "GIF", optimize=True)))
    assert (read_picture(tmp_path / "a").rgb == labels[..., None]).all()


@pytest.mark.parametrize(
    "head",
    [
        b"P5\r\n3 2\r\n9\r\n",
        b"P5\r3 2\r9\r",
        b"P5 3 2 9 # note\n",
        b"P5\n3 2\n9\n# note\n# more\n",
        b"P5 3 2 9#note\n",
        b"P5\n3#note\n2\n9\n",
        b"P5\n#" + b"long " * 2000 + b"\n3 2\n9\n",
    ],
)
def test_blanks_and_comments_in_the_header_of_pgm(tmp_path, head):
    for values in ([[0, 1, 2], [3, 4, 5]], [[9, 1, 2], [3, 4, 0]]):
        path = _file(tmp_path, head + bytes(np.ravel(values).tolist()))
        assert read_raster(path).values.tolist() == values
        assert read_header(path).shape == (2, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P2\n2 1\n7\n-1 3", "expected numbers from 0, got '-1'"),
        (b"P2\n2 1\n7\n1 3.5", "expected numbers from 0, got '3.5'"),
        (b"P2\n2 1\n7\n1 3 4", "holds more than its 2x1 pixels"),
        (b"P1\n3 1\n1010", "holds more than its 3x1 pixels"),
        (b"P1\n3 1\n102", "holds the value 2"),
        (b"P5\n2 1\n7\n\1\2\3", "holds more than its 2x1 pixels"),
        (b"P5\n2 1\n7\r\n\1\0\n", "holds more than its 2x1 pixels"),
        (b"P4\n9 2\n\1\1\1", "ends before its last pixel"),
    ],
)
def test_netpbm_files_that_do_not_hold_what_they_say(tmp_path, data, message):
    with pytest.raises(FileProblem, match=message):
        read_raster(_file(tmp_path, data))


@pytest.mark.parametrize("end", [b"", b"\n", b"\0\0", b"\r\n"])
def test_blanks_after_the_last_pixel_mean_nothing(tmp_path, end):
    assert read_raster(_file(tmp_path, b"P5\n2 1\n7\n\1\2" + end)).values.tolist() == [[1, 2]]
    assert read_raster(_file(tmp_path, b"P2\n2 1\n7\n1 2 # end" + end)).values.tolist() == [[1, 2]]


def test_only_the_first_image_of_netpbm_files_is_read(tmp_path):
    path = _file(tmp_path, b"P5 2 1 7 \1\2P5 2 1 7 \3\4")
    with pytest.raises(FileProblem, match="holds several images"):
        read_raster(path)
    assert read_raster(path, page=0).values.tolist() == [[1, 2]]
    with pytest.raises(FileProblem, match="has no page 1 that is read"):
        read_raster(path, page=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page, no image"),
        (bytes(128) + b"DICM", "the format is DICOM"),
    ],
)
def test_files_that_are_no_pictures_are_named(tmp_path, data, message):
    with pytest.raises(FileProblem, match=message):
        read_raster(_file(tmp_path, data))


def test_a_folder_is_not_called_damaged(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(FileProblem, match="is a folder, not a file"):
        read_raster(tmp_path / "a.png")


@pytest.mark.parametrize("given", [{0.5: 1}, {0: 0.7}, {"1.5": 1}, {"0": 1, 0: 2}, {0: float("inf")}])
def test_value_maps_are_not_rounded(given):
    with pytest.raises(ValueError, match=r"expected (class indices|one class)"):
        ReadOptions(mask_values=given)
    assert ReadOptions(mask_values={1.0: 2, "3": 1}).mask_values == ((1, 2), (3, 1))
