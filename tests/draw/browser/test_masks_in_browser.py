"""Modules of the page that compute, called in the browser with values that are known."""

import base64
import struct
import zlib

import numpy as np
import pytest


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _paeth(left, up, corner):
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def _filtered(rows, kind):
    """Rows after a filter of the PNG specification, written down from its definition."""
    rows = rows.astype(int)
    out = np.zeros_like(rows)
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            left = rows[y, x - 1] if x else 0
            up = rows[y - 1, x] if y else 0
            corner = rows[y - 1, x - 1] if x and y else 0
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
            out[y, x] = (value - guess) % 256
    return out.astype(np.uint8)


def png_of(values, depth=8, kind=0, colour=0):
    """A PNG of one channel whose rows all have one filter."""
    height, width = values.shape
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
    packed = _filtered(np.packbits(bits, axis=1), kind)
    raw = b"".join(bytes([kind]) + row.tobytes() for row in packed)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    palette = _chunk(b"PLTE", bytes(3 * 2**depth)) if colour == 3 else b""
    data = zlib.compress(raw)
    parts = _chunk(b"IDAT", data[:9]) + _chunk(b"IDAT", data[9:])
    return b"\x89PNG\r\n\x1a\n" + header + palette + parts + _chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def page(browser, server):
    page = browser.new_page()
    page.goto(server.address)
    yield page
    page.close()


@pytest.mark.parametrize(
    ("depth", "kind", "colour"),
    [(8, 0, 3), (8, 1, 0), (8, 2, 3), (8, 3, 0), (8, 4, 3), (4, 0, 3), (2, 2, 3), (1, 4, 0)],
)
def test_png_values_are_those_that_are_stored(page, depth, kind, colour):
    values = np.random.default_rng(kind + 10 * depth).integers(0, 2**depth, (7, 13))
    script = """async (text) => {
        const { decodePng, fromBase64 } = await import('/page/png.js');
        const found = await decodePng(fromBase64(text));
        return [found.width, found.height, [...found.values]];
    }"""
    text = base64.b64encode(png_of(values, depth, kind, colour)).decode()
    width, height, found = page.evaluate(script, text)
    assert (height, width) == values.shape
    np.testing.assert_array_equal(np.reshape(found, values.shape), values)


def test_a_png_that_ends_early_is_refused(page):
    script = """async (text) => {
        const { decodePng, fromBase64 } = await import('/page/png.js');
        return decodePng(fromBase64(text)).then(() => 'taken', (error) => String(error));
    }"""
    whole = png_of(np.zeros((40, 40)))
    assert "Error" in page.evaluate(script, base64.b64encode(whole[:60]).decode())


def test_the_class_of_a_place_in_a_mask_of_a_part(page):
    script = """async (places) => {
        const { maskAt } = await import('/page/masks.js');
        const mask = { width: 2, height: 2, values: [4, 5, 6, 7] };
        return places.map(([x, y]) => maskAt(mask, { x: 100, y: 50, width: 20, height: 10 }, x, y));
    }"""
    places = [[100, 50], [109.9, 54.9], [110, 54], [105, 55], [119.9, 59.9], [120, 55], [99.9, 55], [105, 49.9]]
    assert page.evaluate(script, places) == [4, 4, 5, 6, 7, 255, 255, 255]


def test_masks_are_painted_in_the_colours_of_their_classes(page):
    script = """async (options) => {
        const { paintMask } = await import('/page/masks.js');
        const unsure = { width: 1, height: 1, values: [255] };
        const mask = { width: 4, height: 1, values: [1, 1, 1, 255], unsure };
        const classes = [{ index: 1, name: 'sky', color: '#0a141e', pattern: 0 }];
        return [...paintMask(mask, classes, options).getContext('2d').getImageData(0, 0, 4, 1).data];
    }"""
    fill = page.evaluate(script, {"style": "fill", "patterns": False, "unsure": False})
    assert fill == 3 * [10, 20, 30, 255] + [0, 0, 0, 0]
    outline = page.evaluate(script, {"style": "outline", "patterns": False, "unsure": False})
    assert outline[3] == 0 and outline[4:8] == [255, 255, 255, 170] and outline[8:12] == [10, 20, 30, 255]
    heat = page.evaluate(script, {"style": "fill", "patterns": False, "unsure": True})
    assert heat[:4] == [255, 150, 0, 255]


def test_the_nearest_object_is_found(page):
    script = """async (places) => {
        const { objectAt } = await import('/page/hit.js');
        const objects = [
            { id: 'line', kind: 'stroke', width: 4, points: [[0, 10], [20, 10]] },
            { id: 'box', kind: 'box', x0: 40, y0: 0, x1: 60, y1: 30 },
            { id: 'point', kind: 'point', x: 10, y: 10, width: 2 },
            { id: 'region', kind: 'region', rle: { size: [40, 80], counts: [70 * 40, 5, 35, 5, 40 * 8 - 5] } },
        ];
        return places.map(([x, y]) => objectAt(objects, x, y, 1)?.id ?? null);
    }"""
    places = [[10, 10], [2, 12.9], [2, 13.1], [40, 15], [50, 15], [70.5, 4.5], [71.5, 4.5], [70.5, 5.5], [72.5, 2]]
    expected = ["point", "line", None, "box", None, "region", "region", None, None]
    assert page.evaluate(script, places) == expected
