"""Files of every depth, layout and orientation are read as they are stored, held against files written byte by byte."""

import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from raster_cases import SIZE

from tests.datasets.image_files import png, tiff
from wss.datasets.finding import FileProblem
from wss.datasets.images import PixelOptions, read_image, read_label
from wss.datasets.raster import read_header, read_raster
from wss.errors import DataError, UsageError
from wss.params import validate

CHANNELS = {"grey": 1, "grey-alpha": 2, "rgb": 3, "rgba": 4, "indexed": 1}


TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How Pillow turns an image whose orientation is 2 to 8."""


def _values(bits, channels, seed=0):
    rng = np.random.default_rng(seed)
    if bits == "float":
        return rng.normal(size=(*SIZE, channels)).astype(np.float32)
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits == 16 else np.uint32
    return rng.integers(0, 2**bits, (*SIZE, channels), dtype=np.int64).astype(dtype)


def _turned(values, orientation):
    """Each channel turned by Pillow, by way of the places of pixels."""
    if orientation == 1:
        return values
    places = Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.int32).reshape(SIZE))
    order = np.array(places.transpose(TRANSPOSE[orientation]))
    return values.reshape(-1, *values.shape[2:])[order]


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, "float"])
def test_tiff_of_every_kind(tmp_path, bits, kind):
    if kind == "indexed" and (bits == "float" or bits > 8):
        pytest.skip("TIFF has palettes of up to 8 bits in practice")
    values = _values(bits, CHANNELS[kind])
    alpha = kind in ("grey-alpha", "rgba")
    if alpha:
        values[:4, :, -1] = 0
    colours = np.random.default_rng(1).integers(0, 256, (256, 3)) if kind == "indexed" else None
    photometrics = {"grey": (0, 1), "grey-alpha": (0, 1), "rgb": (2,), "rgba": (2,), "indexed": (3,)}[kind]
    path = tmp_path / "a.tif"
    layouts = itertools.product(photometrics, (False, True), (False, True), (1, 5, 8), "<>", range(1, 9))
    for photometric, tiled, planar, compression, order, orientation in layouts:
        if (planar and values.shape[2] == 1) or (orientation > 1 and (compression == 5 or tiled)):
            continue  # nothing that the rest does not have
        layout = {"tiled": tiled, "planar": planar, "compression": compression, "orientation": orientation}
        palette = colours[: 2**bits] if colours is not None else None
        written = tiff(
            values,
            32 if bits == "float" else bits,
            order=order,
            photometric=photometric,
            alpha=alpha,
            palette=palette,
            **layout,
        )
        path.write_bytes(written)
        found = read_raster(path)
        expected = _turned(values, orientation)
        if alpha:
            assert (found.transparent == (expected[..., -1] == 0)).all(), layout
            expected = expected[..., :-1]
        expected = expected[..., 0] if expected.shape[2] == 1 else expected
        assert found.values.shape == expected.shape, layout
        assert (found.values == expected).all(), layout
        wanted = {0: "white-is-zero", 1: "grey", 2: "rgb", 3: "palette"}[photometric]
        assert found.colours == wanted
        if palette is not None:
            assert (found.palette == palette).all()
        assert read_header(path).shape == expected.shape[:2]


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_of_every_kind(tmp_path, bits, kind):
    if (kind == "indexed" and bits > 8) or (kind not in ("grey", "indexed") and bits < 8):
        pytest.skip("PNG has no such files")
    values = _values(bits, CHANNELS[kind])
    alpha = values[..., -1] if kind in ("grey-alpha", "rgba") else None
    if alpha is not None:
        alpha[:4] = 0
        values = values[..., :-1]
    values = values[..., 0] if values.shape[2] == 1 else values
    palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3)) if kind == "indexed" else None
    (tmp_path / "a.png").write_bytes(png(values, bits, palette, alpha=alpha))
    found = read_raster(tmp_path / "a.png")
    assert (found.values == values).all()
    assert found.values.dtype.kind in "bu"
    assert found.colours == {"grey": "grey", "grey-alpha": "grey", "indexed": "palette"}.get(kind, "rgb")
    assert (found.transparent is None) == (alpha is None)
    if alpha is not None:
        assert (found.transparent == (alpha == 0)).all()
    if palette is not None:
        assert (found.palette[: 2**bits] == palette).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_colour_of_png(tmp_path, bits):
    values = _values(bits, 1)[..., 0]
    (tmp_path / "grey.png").write_bytes(png(values, bits, clear=int(values[0, 0]).to_bytes(2, "big")))
    found = read_raster(tmp_path / "grey.png")
    assert (found.values == values).all()
    assert (found.transparent == (values == values[0, 0])).all()
    if bits >= 8:
        values = _values(bits, 3)
        values[:3] = values[0, 0]
        clear = b"".join(int(v).to_bytes(2, "big") for v in values[0, 0])
        (tmp_path / "rgb.png").write_bytes(png(values, bits, clear=clear))
        found = read_raster(tmp_path / "rgb.png")
        assert (found.values == values).all()
        assert (found.transparent == (values == values[0, 0]).all(-1)).all()
    if bits <= 8:
        values = _values(bits, 1)[..., 0]
        palette = np.zeros((2**bits, 3))
        (tmp_path / "p.png").write_bytes(png(values, bits, palette, clear=b"\xff\x00"))
        assert (read_raster(tmp_path / "p.png").transparent == (values == 1)).all()


@pytest.mark.parametrize("most", [1, 3, 15, 100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pgm_and_ppm_of_every_largest_value(tmp_path, kind, most):
    channels = 3 if kind in ("P3", "P6") else 1
    values = np.random.default_rng(0).integers(0, most + 1, (*SIZE, channels))
    head = f"{kind} # comment\n{SIZE[1]}\n# more\n{SIZE[0]} {most}\n".encode()
    if kind in ("P2", "P3"):
        body = " ".join(map(str, values.ravel())).encode()
    else:
        body = values.astype(np.uint8 if most < 256 else ">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(head + body)
    found = read_raster(tmp_path / "a.pgm")
    expected = values if channels == 3 else values[..., 0]
    assert (found.values == expected).all()
    rgb = read_image(tmp_path / "a.pgm")
    assert (rgb == np.rint(values * 255 / most)).all()
    if channels == 1 and most < 256:
        assert (read_label(tmp_path / "a.pgm") == expected).all()


@pytest.mark.parametrize("kind", ["P1", "P4"])
def test_pbm_keeps_its_bits(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 2, SIZE)
    body = (
        "".join(map(str, values.ravel())).encode()
        if kind == "P1"
        else np.packbits(values.astype(np.uint8), axis=1).tobytes()
    )
    (tmp_path / "a.pgm").write_bytes(f"{kind}\n{SIZE[1]} {SIZE[0]}\n".encode() + body)
    assert (read_label(tmp_path / "a.pgm") == values).all()
    assert (read_image(tmp_path / "a.pgm")[..., 0] == 255 * (1 - values)).all()  # 1 is black


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_orientation_of_photographs(tmp_path, suffix, orientation):
    image = Image.fromarray(
        np.kron(np.random.default_rng(0).integers(0, 255, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(tmp_path / f"a.{suffix}") as again:
        expected = np.array(ImageOps.exif_transpose(again).convert("RGB"))
    assert (read_image(tmp_path / f"a.{suffix}") == expected).all()
    header = read_header(tmp_path / f"a.{suffix}")
    assert (header.shape, header.orientation) == (expected.shape[:2], orientation)


def test_palette_of_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, SIZE, dtype=np.uint16)
    colours = np.random.default_rng(1).integers(0, 256, (3, 65536), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=colours * 256)
    assert (read_image(tmp_path / "a.tif") == colours.T[values]).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", ["png", "tif", "white.tif"])
def test_labels_of_few_bits_are_not_multiplied(tmp_path, bits, suffix):
    values = _values(bits, 1)[..., 0]
    path = tmp_path / f"a.{suffix}"
    photometric = 0 if suffix == "white.tif" else 1
    path.write_bytes(png(values, bits) if suffix == "png" else tiff(values[..., None], bits, photometric=photometric))
    assert (read_label(path) == values).all()


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_labels_of_every_type_that_holds_whole_numbers(tmp_path, dtype):

    values = np.random.default_rng(0).integers(0, 100, SIZE).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert (read_label(tmp_path / "a.tif") == values).all()
    assert read_label(tmp_path / "a.tif").dtype == np.uint8


def test_labels_that_no_label_can_be(tmp_path):

    path = tmp_path / "a.tif"
    for value, dtype, message in (
        (0.5, "float32", "expected whole numbers, got 0.5"),
        (np.nan, "float32", "expected whole numbers, got nan"),
        (-1, "int16", "expected labels from 0 to 255, got -1 to 3"),
        (65535, "uint16", "expected labels from 0 to 255, got 1 to 65535"),
    ):
        tifffile.imwrite(path, np.array([[1, 3], [value, 2]], dtype))
        with pytest.raises(DataError, match=message):
            read_label(path)
    assert read_label(path, ignore=[65535]).tolist() == [[1, 3], [255, 2]]


def test_values_say_what_any_stored_value_means(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 65535], [300, 7]], np.uint16))
    values = [(0, 0), (65535, 1), (300, 255)]
    assert read_label(tmp_path / "a.tif", values=values).tolist() == [[0, 1], [255, 7]]
    assert read_label(tmp_path / "a.tif", values=values, ignore=[7, 65535]).tolist() == [[0, 1], [255, 255]]
    tifffile.imwrite(tmp_path / "b.tif", np.array([[-1, 2.0]], np.float32))
    assert read_label(tmp_path / "b.tif", values=[(-1, 0)]).tolist() == [[0, 2]]


def test_transparent_labels_stay_unlabelled_where_255_is_a_class(tmp_path):
    labels = np.array([[255, 255], [0, 0]], np.uint8)
    (tmp_path / "a.png").write_bytes(png(labels, 8, alpha=np.array([[0, 9], [9, 0]])))
    assert read_label(tmp_path / "a.png", values=[(0, 0), (255, 1)]).tolist() == [[255, 1], [0, 255]]


def test_the_page_is_for_stacks_of_labels_only(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", np.full((4, 5), 3, np.uint8))
    assert (read_label(tmp_path / "one.tif", page=2) == 3).all()


def test_transparent_labels_are_unlabelled(tmp_path):
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    alpha = np.array([[0, 0], [255, 255]], np.uint8)
    (tmp_path / "la.png").write_bytes(png(labels, 8, alpha=alpha))
    assert read_label(tmp_path / "la.png").tolist() == [[255, 255], [1, 0]]
    palette = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    (tmp_path / "rgba.png").write_bytes(png(palette[labels] * (alpha[..., None] > 0), 8, alpha=alpha))
    assert read_label(tmp_path / "rgba.png", palette=palette).tolist() == [[255, 255], [1, 0]]
    (tmp_path / "p.png").write_bytes(png(labels, 8, palette, clear=b"\x00"))
    assert read_label(tmp_path / "p.png").tolist() == [[255, 1], [1, 255]]


def test_labels_without_data_by_the_tag_of_the_file(tmp_path):
    values = np.array([[0, 7], [1, 7]], np.uint8)[..., None]
    (tmp_path / "a.tif").write_bytes(tiff(values, 8, tags=[(42113, "s", b"7\0")]))
    assert read_label(tmp_path / "a.tif").tolist() == [[0, 255], [1, 255]]


def test_stacks_need_a_page(tmp_path):

    stack = np.random.default_rng(0).integers(0, 255, (3, *SIZE), dtype=np.uint8)
    for name, options in {
        "plain": {},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "metadata": {"axes": "TYX"}},
        "one page": {"metadata": {"axes": "ZYX"}, "contiguous": True},
    }.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", **options)
        for read in (read_image, read_label):
            with pytest.raises(DataError, match=r"holds 3 pages, .*choose one of 0 to 2 with the option page"):
                read(path)
        assert (read_label(path, page=2) == stack[2]).all()
        assert (read_raster(path, page=1).values == stack[1]).all()
        with pytest.raises(DataError, match="has no page 3"):
            read_label(path, page=3)
    Image.fromarray(stack[0]).save(tmp_path / "a.gif", save_all=True, append_images=[Image.fromarray(stack[1])])
    with pytest.raises(DataError, match="holds 2 frames"):
        read_image(tmp_path / "a.gif")
    assert read_image(tmp_path / "a.gif", PixelOptions(page=1)).shape == (*SIZE, 3)


def test_small_copies_of_a_picture_are_no_pages(tmp_path):

    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.full((64, 64), 7, np.uint8), subifds=1)
        file.write(np.full((32, 32), 7, np.uint8), subfiletype=1)
    assert (read_label(tmp_path / "a.tif") == np.full((64, 64), 7)).all()


def test_bands_are_chosen(tmp_path):

    values = np.random.default_rng(0).integers(0, 255, (*SIZE, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "five.tif", values, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "composite.tif", np.moveaxis(values, -1, 0), imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "nir.tif", values[..., :4], photometric="rgb", extrasamples=["unspecified"])
    for name, count in (("five", 5), ("composite", 5), ("nir", 4)):
        path = tmp_path / f"{name}.tif"
        with pytest.raises(DataError, match=rf"has {count} bands of uint8.*wss init -o 'bands=\[3,2,1\]'"):
            read_image(path)
        assert (read_image(path, PixelOptions(bands=(4, 3, 1))) == values[..., [3, 2, 0]]).all()
        assert (read_image(path, PixelOptions(bands=(2,))) == values[..., [1, 1, 1]]).all()
        with pytest.raises(DataError, match=f"has {count} bands, and the option bands names 9"):
            read_image(path, PixelOptions(bands=(9, 1, 2)))
    with pytest.raises(DataError, match=r"expected class indices, got 5 channels of uint8 \(bands\)"):
        read_label(tmp_path / "five.tif")
    for bands in ((1, 2), (0, 1, 2), ()):
        with pytest.raises(UsageError, match="expected one band or three"):
            validate(PixelOptions, {"bands": bands}, "here")


@pytest.mark.parametrize(
    ("begin", "name"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n", "JPEG 2000"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x5c\x01\x00\x00", "NIfTI"),
        (b"%PDF-1.4", "PDF"),
    ],
)
def test_other_formats_are_named(tmp_path, begin, name):
    (tmp_path / "a.png").write_bytes(begin.ljust(200, b"\1"))
    with pytest.raises(FileProblem, match=f"the format is {name}, which is not read"):
        read_image(tmp_path / "a.png")


def test_colours_and_types_that_are_not_read_are_named(tmp_path):

    tifffile.imwrite(tmp_path / "lab.tif", np.zeros((*SIZE, 3), np.uint8), photometric="cielab")
    with pytest.raises(FileProblem, match="colours of the kind CIELAB, which is not read"):
        read_image(tmp_path / "lab.tif")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros(SIZE, np.complex64))
    with pytest.raises(FileProblem, match="values of the type complex64, which are not read"):
        read_image(tmp_path / "c.tif")


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("tiled", [False, True])
def test_damaged_tiff_is_refused(tmp_path, compression, tiled):
    values = _values(8, 3)
    whole = tiff(values, 8, photometric=2, tiled=tiled, compression=compression)
    for end in (9, 40, len(whole) // 2, len(whole) - 5):
        (tmp_path / "a.tif").write_bytes(whole[:end])
        with pytest.raises(FileProblem, match=r"a\.tif: .*copy or download it again"):
            read_image(tmp_path / "a.tif")
