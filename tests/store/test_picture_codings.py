"""Images of a store take the fewest bytes that give exactly the same pixels."""

import io
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image

from wss.errors import StoreError
from wss.store import SAMPLES, Store, StoreWriter
from wss.store.codec import CODINGS, encode_image
from wss.store.pictures import decode_picture, picture_file


def _smooth(*, grey=False, size=(40, 52)):
    y, x = np.indices(size)
    waves = [np.sin(y / (5 + n)) + np.cos(x / (7 - n)) for n in range(3)]
    image = np.stack(waves if not grey else waves[:1] * 3, -1)
    return np.rint((image + 2) * 63).astype(np.uint8)


def _file(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _read(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def _write(path, payloads):
    writer = StoreWriter(path, SAMPLES, {"key": "k", "params": "{}", "inputs": "{}"})
    for name, payload in payloads.items():
        writer.append(name, {"image": payload})
    writer.finish({})
    return Store(path, SAMPLES)


def _coding(path, index=0):
    with h5py.File(path) as file:
        return CODINGS[file["image/coding"][index]], int(file["image/length"][index])


def _as_it_was(found, image):
    np.testing.assert_array_equal(found, image)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert not found.flags.writeable


def test_grey_is_kept_once(tmp_path):
    image, colour = _smooth(grey=True), _smooth()
    store = _write(tmp_path / "x.h5", {"grey": image, "colour": colour})
    assert _coding(store.path, 0) == ("grey", image.size // 3)
    assert _coding(store.path, 1) == ("raw", colour.size)
    for name, array in (("grey", image), ("colour", colour)):
        _as_it_was(store.get("image", name), array)
        assert store.shape("image", name) == array.shape
    nearly = image.copy()
    nearly[3, 4, 1] ^= 1
    store = _write(tmp_path / "y.h5", {"nearly": nearly})
    assert _coding(store.path)[0] == "raw"
    _as_it_was(store.get("image", "nearly"), nearly)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (_smooth(), {"quality": 90}),
        (_smooth(), {"quality": 75, "subsampling": 2, "progressive": True}),
        (_smooth(grey=True)[..., 0], {"quality": 90}),
        (_smooth(size=(17, 33)), {"quality": 60}),
        (_smooth(), {"kind": "PNG"}),
        (_smooth(grey=True)[..., 0], {"kind": "PNG"}),
    ],
)
def test_files_that_decode_to_the_pixels_are_kept(tmp_path, image, options):
    file = _file(image, **options)
    pixels = _read(file)
    assert picture_file(pixels, file) == file
    store = _write(tmp_path / "x.h5", {"a": encode_image(pixels, file)})
    assert _coding(store.path) == ("encoded", len(file))
    _as_it_was(store.get("image", "a"), pixels)
    _as_it_was(pickle.loads(pickle.dumps(store)).get("image", "a"), pixels)
    assert store.verify()


@pytest.mark.parametrize("change", ["turned", "stretched", "cropped", "bands", "no image", "another format"])
def test_other_files_become_png(change):
    file = _file(_smooth(), quality=90)
    pixels = _read(file)
    if change == "turned":
        pixels = np.ascontiguousarray(np.rot90(pixels))
    elif change == "stretched":
        pixels = np.minimum(pixels.astype(int) * 2, 255).astype(np.uint8)
    elif change == "cropped":
        pixels = pixels[1:].copy()
    elif change == "bands":
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    elif change == "no image":
        file = b"\xff\xd8\xff and nothing more"
    else:
        file = _file(_smooth(), "BMP")
        assert (_read(file) == _smooth()).all()
        pixels = _smooth()
    kept = picture_file(pixels, file)
    assert kept.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_picture(np.frombuffer(kept, np.uint8), pixels.shape), pixels)


def test_orientations_of_exif_are_ignored_in_what_is_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = _file(_smooth(), quality=90, exif=exif)
    pixels = _read(file)  # as stored, not upright
    assert picture_file(pixels, file) == file
    assert picture_file(np.ascontiguousarray(np.rot90(pixels, -1)), file) != file


def test_a_file_that_is_larger_than_the_pixels_is_not_kept():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert encode_image(noise, picture_file(noise)).coding == "raw"
    assert encode_image(_smooth(), picture_file(_smooth())).coding == "encoded"
    assert encode_image(_smooth(grey=True)).coding == "grey"


def test_the_digest_is_that_of_the_pixels(tmp_path):
    grey = _smooth(grey=True)
    pixels = _read(_file(_smooth(), quality=90))
    plain = _write(tmp_path / "a.h5", {"a": pixels, "b": grey})
    coded = _write(
        tmp_path / "b.h5",
        {"a": encode_image(pixels, _file(_smooth(), quality=90)), "b": encode_image(grey, picture_file(grey))},
    )
    assert plain.digest == coded.digest
    assert coded.path.stat().st_size < plain.path.stat().st_size


@pytest.mark.parametrize("place", [0, 300])
def test_damage_is_told(tmp_path, place):
    pixels = _read(_file(_smooth(), quality=90))
    store = _write(tmp_path / "x.h5", {"a": encode_image(pixels, picture_file(pixels))})
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["image/data"][place : place + 9] = 0
    store = Store(store.path)
    assert not store.verify()
    if place == 0:
        with pytest.raises(StoreError, match=r"image 'a', image: damaged .*run the same command again"):
            store.get("image", "a")
