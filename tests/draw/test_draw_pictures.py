import io

import numpy as np
import pytest
from draw_client import make_folder
from PIL import Image

from wss.draw import pictures
from wss.draw.pictures import level_count


def _array(data):
    return np.array(Image.open(io.BytesIO(data)))


def _saved(folder, image, name="a"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def _pattern(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, (x + y) % 256], -1).astype(np.uint8)


def test_tiles_of_level_0_are_the_pixels(tmp_path, open_page):
    image = _pattern(600, 1100)
    page = open_page(_saved(tmp_path / "p", image))
    info = page.get(f"/api/images/{page.image()}")
    assert (info["width"], info["height"], info["levels"], info["bits"], info["range"]) == (1100, 600, 3, 8, None)
    rebuilt = np.zeros_like(image)
    for y in range(2):
        for x in range(3):
            tile = _array(page.get(f"/api/images/{page.image()}/tile/0/{x}/{y}"))
            rebuilt[y * 512 : y * 512 + 512, x * 512 : x * 512 + 512] = tile
    np.testing.assert_array_equal(rebuilt, image)


def test_levels_halve_and_round_up(tmp_path, open_page):
    page = open_page(_saved(tmp_path / "p", np.full((601, 1101, 3), (10, 200, 90), np.uint8)))
    first = _array(page.get(f"/api/images/{page.image()}/tile/1/1/0"))
    assert first.shape == (301, 551 - 512, 3)
    last = _array(page.get(f"/api/images/{page.image()}/tile/2/0/0"))
    assert last.shape == (151, 276, 3) and np.abs(last.astype(int) - (10, 200, 90)).max() <= 3
    thumbnail = _array(page.get(f"/api/images/{page.image()}/thumbnail"))
    assert max(thumbnail.shape) == 160


@pytest.mark.parametrize(("size", "count"), [((1, 1), 1), ((512, 512), 1), ((513, 1), 2), ((10_000, 10_000), 6)])
def test_the_last_level_fits_into_a_tile(size, count):
    assert level_count(*size) == count


def test_16_bits_are_windowed_by_the_server(tmp_path, open_page):
    values = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 30
    page = open_page(_saved(tmp_path / "p", values))
    image = page.image()
    info = page.get(f"/api/images/{image}")
    assert info["bits"] == 16 and info["range"] == [0, int(values.max())]
    tile = _array(page.get(f"/api/images/{image}/tile/0/0/0?lo=3000&hi=6000"))
    expected = np.clip(np.rint((values.astype(float) - 3000) * 255 / 3000), 0, 255)
    assert np.abs(tile.astype(float) - expected).max() <= 1
    usual = _array(page.get(f"/api/images/{image}/tile/0/0/0"))
    from wss.datasets.images import read_image

    np.testing.assert_array_equal(usual, read_image(tmp_path / "p/a.png"))


def test_large_images_are_mapped_from_files_and_made_once(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(pictures, "IN_MEMORY", 10_000)
    image = _pattern(700, 900)
    folder = _saved(tmp_path / "p", image)
    page = open_page(folder)
    pyramid = page.studio.pictures.pyramid("a")
    assert all(isinstance(level, np.memmap) for level in pyramid.levels) and pyramid.nbytes == 0
    np.testing.assert_array_equal(_array(page.get(f"/api/images/{page.image()}/tile/0/1/1")), image[512:, 512:])
    monkeypatch.setattr(pictures, "read_raster", lambda *a, **k: pytest.fail("decoded again"))
    again = open_page(folder)
    np.testing.assert_array_equal(_array(again.get(f"/api/images/{again.image()}/tile/0/1/1")), image[512:, 512:])


def test_memory_of_many_images_is_bounded(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr(pictures, "KEPT_BYTES", 25_000)
    page = open_page(make_folder(tmp_path / "p", names=[f"i{n}" for n in range(6)]))
    for name in page.studio.project.names:
        page.studio.pictures.pyramid(name)
    kept = page.studio.pictures._kept
    assert sum(p.nbytes for p in kept.values()) <= 25_000 and "i5" in kept and "i0" not in kept


def test_a_damaged_image_is_named_and_others_stay(tmp_path, open_page):
    folder = make_folder(tmp_path / "p")
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(data[: len(data) // 2])
    page = open_page(folder)
    assert "b.png" in page.get(f"/api/images/{page.image('b')}", 422)["error"]
    assert page.get(f"/api/images/{page.image('a')}")["width"] == 64
