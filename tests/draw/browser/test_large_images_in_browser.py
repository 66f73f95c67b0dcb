"""A large image from afar to the single pixel: what is shown is what the file holds and what is stored."""

import cv2
import numpy as np
import pytest
from drawing_page import DrawPage, Server

from wss.draw.painting import Window, paint

HEIGHT, WIDTH = 5000, 6000
PLACE = (3100, 2600)
"""Around it, strokes are drawn at the pixel."""
STEPS = [
    np.array(step)
    for step in ((-2, 0), (-1, 0), (1, 0), (2, 0), (0, -2), (0, -1), (0, 1), (0, 2), (-1, -1), (1, 1), (-1, 1), (1, -1))
]
"""From a pixel to those around it."""


@pytest.fixture(scope="module")
def picture():
    """Squares of two colours, with lines of single pixels and a fine chequer; uint8 (H,W,3)."""
    squares = np.random.default_rng(0).integers(0, 2, (HEIGHT // 125, WIDTH // 125))
    inside = np.kron(squares, np.ones((125, 125), np.uint8))
    y, x = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    red = np.where(inside, 190, 60) + 30 * (x % 5 == 0)
    green = np.where(inside, 90, 120) + 40 * (y % 7 == 0)
    blue = 40 + 25 * ((x // 3 + y // 3) % 2) + (x % 16)
    return np.stack(np.broadcast_arrays(red, green, blue), -1).astype(np.uint8)


@pytest.fixture(scope="module")
def large(browser, picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "large.png"), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    (folder.parent / "classes.txt").write_text("background\nlight\ndark\n")
    server = Server(folder.parent).start()
    yield server
    server.kill()


def _look_at(page, x, y, zoom):
    """Zoom so that an image pixel has ``zoom`` CSS pixels, with a place in the middle; wait until all tiles are there."""
    script = """async ([x, y, zoom]) => {
        const { view, zoomTo, toScreen, panBy } = await import('/page/view.js');
        zoomTo(zoom);
        const [left, top] = toScreen(x, y);
        panBy(view.width / 2 - left, view.height / 2 - top);
    }"""
    page.evaluate(script, [x, y, zoom])
    page.page.wait_for_timeout(500)  # the question for another part waits until the view rests
    page.page.wait_for_load_state("networkidle")


def _wait_mask(page):
    page.page.wait_for_selector('#pane[data-busy="false"]')
    page.wait_mask()


def _pixels(page, layer):
    """Places of image pixels of which the middle is on the screen, int (N,2), and their colour in a layer, (N,4)."""
    script = """async (layer) => {
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        const { view, toImage, toScreen } = await import('/page/view.js');
        const canvas = document.querySelector(`#pane .layer-${layer}`);
        const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const ratio = window.devicePixelRatio;
        const [x0, y0] = toImage(0, 0).map(Math.ceil);
        const [x1, y1] = toImage(view.width - 1, view.height - 1).map(Math.floor);
        const found = [];
        for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) {
            const [left, top] = toScreen(x + 0.5, y + 0.5);
            const at = 4 * (Math.floor(top * ratio) * canvas.width + Math.floor(left * ratio));
            found.push([x, y, ...all.slice(at, at + 4)]);
        }
        return found;
    }"""
    found = np.array(page.evaluate(script, layer))
    return found[:, :2], found[:, 2:]


def _set_width(page, width):
    page.evaluate("async (width) => { (await import('/page/store.js')).state.width = width; }", width)


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_large_image_is_drawn_on_to_the_pixel(browser, large, picture, ratio):
    context = browser.new_context(viewport={"width": 1000, "height": 640}, device_scale_factor=ratio)
    page = DrawPage(context, large, "large")
    page.page.set_default_timeout(180_000)  # reading 30 million pixels takes long on a busy machine
    if ratio == 1:
        page.choose("light")
        page.drag((1010, 1010), (1100, 1100))
        page.choose("dark")
        page.drag((4800, 4000), (4850, 4050))
        page.wait_saved()
    _wait_mask(page)
    note = lambda: page.page.inner_text("#mask-note")  # noqa: E731
    assert "copy of 1500 x 1250 pixels. Zoom in" in note()
    for zoom in (1, 4, 48):
        _look_at(page, *PLACE, zoom)
        _wait_mask(page)
        assert "Draw two classes near what you see" in note()  # the mask of the copy stays, and says what it is
        assert page.mask_at(*PLACE) in ("light", "dark")
        places, colours = _pixels(page, "image")
        np.testing.assert_array_equal(colours[:, :3], picture[places[:, 1], places[:, 0]])
    x, y = PLACE
    for zoom, width in ((24, 1), (12, 2), (16, 5)):
        _look_at(page, x + 0.5, y + 0.5, zoom)
        _set_width(page, width)
        page.choose("light")
        page.drag((x - 8.3, y - 6.4), (x + 7.8, y - 1.2))
        page.choose("dark")
        page.drag((x + 8, y + 6.4), (x - 7.8, y + 7.6))
        page.wait_saved()
        _wait_mask(page)
        assert "the marked part" in note()
        page.page.mouse.move(2, 2)
        objects = page.objects()
        assert [one["width"] for one in objects[-2:]] == [width, width]
        assert objects[-2]["points"][0] == pytest.approx([x - 8.3, y - 6.4], abs=1 / zoom)
        places, colours = _pixels(page, "ink")
        low = places.min(0)
        wide, high = places.max(0) - low + 1
        stored = paint(objects, (HEIGHT, WIDTH), Window(*low.tolist(), int(wide), int(high))).ravel()
        assert {0, 255} <= set(np.unique(colours[:, 3])) | {0} and (stored != 255).sum() > 20
        np.testing.assert_array_equal(colours[:, 3] == 255, stored != 255)
        _, painted = _pixels(page, "mask")
        compared = 0
        for place, colour, label in list(zip(places, painted, stored, strict=True))[::31]:
            name = page.mask_at(*(place + 0.5).tolist())
            if label != 255:
                assert name == ("light", "dark")[label - 1]
            nearby = {page.mask_at(*(place + 0.5 + step).tolist()) for step in STEPS}
            if nearby != {name}:
                continue  # the outline of the mask has colours of its own
            compared += 1
            expected = page.evaluate(
                "async (name) => (await import('/page/store.js')).state.project.classes.find((c) => c.name === name).color",
                name,
            )
            shown = "#" + "".join(f"{value:02x}" for value in colour[:3].tolist())
            assert _near(shown, expected)
        assert compared > 5
        page.press("Control+z", "Control+z")
        page.wait_saved()
    assert page.errors == []
    context.close()


def _near(one, other):
    """Colours of half transparent pixels are kept with rounding."""
    values = [[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in (one, other)]
    return max(abs(a - b) for a, b in zip(*values, strict=True)) <= 3


@pytest.mark.parametrize("brush", [0.5, 1, 2, 3, 4, 6.5, 9])
def test_shown_pixels_of_a_stroke_are_those_that_are_painted(browser, large, brush):
    """Random strokes, also through corners of pixels and along the borders, which the page does not let them leave."""
    shape = (40, 60)
    rng = np.random.default_rng(round(10 * brush))
    objects = []
    for number in range(30):
        points = rng.uniform(0, (60, 40), (1 + number % 4, 2))
        points = np.round(2 * points) / 2 if number % 3 == 0 else np.round(points, 2)
        objects.append({"id": f"s{number}", "kind": "stroke", "class": 0, "width": brush, "points": points.tolist()})
    script = """async ([objects, size]) => {
        const { runsOf } = await import('/page/brush.js');
        return objects.map((object) => runsOf(object, size));
    }"""
    page = browser.new_page()
    page.goto(large.address)
    for item, runs in zip(objects, page.evaluate(script, [objects, [shape[1], shape[0]]]), strict=True):
        found = np.full(shape, 255, np.uint8)
        for y, first, last in runs:
            assert (found[y, first : last + 1] == 255).all()
            found[y, first : last + 1] = 0
        np.testing.assert_array_equal(found, paint([item], shape))
    page.close()
