"""Small outdoor scenes drawn from random numbers: the images of the embedded sample data set.

A scene is painted from back to front at twice its final size. Each object has an instance number, from which its mask
is made. Then light, reduction, blur and noise are applied. Colours are deliberately a weak cue for the class: cars,
balls and clothes have any colour, walls that of sand or stone, water that of the sky, and tree crowns that of grass.
Classes differ in shape, texture and surroundings.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("background", "water", "tree", "house", "car", "person", "ball")
WATER, TREE, HOUSE, CAR, PERSON, BALL = range(1, 7)

Colour = NDArray[np.float32]
"""float32 (3,), RGB in 0..255."""

_FRACTION_BITS = 4  # cv2 draws with fixed-point coordinates: 4 bits are sixteenths of a pixel


class Scene(NamedTuple):
    """A finished image with its ground truth.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W), indices into ``CLASSES``.
        boxes: int32 (N, 5), ``class, x0, y0, x1, y1`` (inclusive) of the visible part of each thing.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: NDArray[np.int32]


class Sprite:
    """One thing on a transparent canvas, drawn in scene units (1/96 of the image's height), y downwards."""

    def __init__(self, shape: tuple[int, int], unit: float, label: int) -> None:
        self.label = label
        self.unit = unit
        self.colour: NDArray[np.float32] = np.zeros((*shape, 3), np.float32)
        self.cover: NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon."""
        corners = np.rint(np.array(points) * self.unit * 2**_FRACTION_BITS).astype(np.int32)
        cv2.fillPoly(self.colour, [corners], colour.tolist(), cv2.LINE_8, _FRACTION_BITS)
        cv2.fillPoly(self.cover, [corners], 1, cv2.LINE_8, _FRACTION_BITS)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, tilt: float = 0.0) -> None:
        """Fill an ellipse, its first axis turned by ``tilt`` radians."""
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        along, across = rx * np.cos(turn), ry * np.sin(turn)
        xs = x + along * np.cos(tilt) - across * np.sin(tilt)
        ys = y + along * np.sin(tilt) + across * np.cos(tilt)
        self.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), colour)

    def limb(self, start: tuple[float, float], end: tuple[float, float], thickness: float, colour: Colour) -> None:
        """Draw a straight bar with round ends."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = float(np.hypot(dx, dy)) + 1e-6
        nx, ny = -dy / length * thickness / 2, dx / length * thickness / 2
        (ax, ay), (bx, by) = start, end
        self.polygon([(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)], colour)
        for x, y in (start, end):
            self.ellipse(x, y, thickness / 2, thickness / 2, colour)

    def paste(self, picture: NDArray[np.float32]) -> None:
        """Put the thing on top of a picture, float32 (H, W, 3)."""
        np.copyto(picture, self.colour, where=self.cover[..., None] > 0)

    def modulate(self, factor: NDArray[np.float32]) -> None:
        """Multiply the colours with a texture, float32 (H, W)."""
        self.colour *= factor[..., None]


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw one scene.

    Args:
        rng: Source of every choice.
        height: Rows of the picture, at least 32.
        width: Columns of the picture, at least 32.
    """
    shape = (2 * height, 2 * width)
    unit = shape[0] / 96
    across = shape[1] / unit
    horizon = float(rng.uniform(18, 46))
    sun = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.6))

    picture, sky = _background(rng, shape, unit, horizon)
    sprites = _things(rng, shape, unit, across, horizon, sky)
    ids = np.zeros(shape, np.int32)
    for index, sprite in enumerate(sprites, 1):
        ids[sprite.cover > 0] = index
    seen = np.bincount(ids[::2, ::2].ravel(), minlength=len(sprites) + 1)
    whole = np.array([0] + [int(sprite.cover[::2, ::2].sum()) for sprite in sprites])
    enough = max(6.0, 20 * (height / 96) ** 2)

    # Objects that are almost completely hidden are left out, because nobody could label them.
    shown = [s for i, s in enumerate(sprites, 1) if seen[i] >= enough and seen[i] > 0.25 * whole[i]]
    ids[:] = 0
    for index, sprite in enumerate(shown, 1):
        if sprite.label != WATER:
            _cast_shadow(picture, sprite, sun)
        sprite.paste(picture)
        ids[sprite.cover > 0] = index
    small = ids[::2, ::2]
    labels = np.array([0] + [sprite.label for sprite in shown], np.uint8)
    return Scene(_photograph(rng, picture), labels[small], _boxes(small, labels))


def _boxes(ids: NDArray[np.int32], labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Bounding boxes of instances 1, 2, ..., as rows ``class, x0, y0, x1, y1``."""
    rows = []
    for index in range(1, len(labels)):
        ys, xs = np.nonzero(ids == index)
        if len(ys):
            rows.append((int(labels[index]), xs.min(), ys.min(), xs.max(), ys.max()))
    return np.array(rows, np.int32).reshape(-1, 5)


def _noise(rng: np.random.Generator, shape: tuple[int, int], size: float, stretch: float = 1.0) -> NDArray[np.float32]:
    """Smooth noise in about -1..1 with blobs ``size`` canvas pixels high and ``stretch`` times as wide."""
    rows = max(2, round(shape[0] / size) + 1)
    columns = max(2, round(shape[1] / size / stretch) + 1)
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _rgb(*values: float) -> Colour:
    return np.array(values, np.float32)


def _pick(rng: np.random.Generator, colours: list[Colour], spread: float = 14.0) -> Colour:
    """One of some colours, varied."""
    chosen = colours[int(rng.integers(len(colours)))]
    varied: Colour = np.clip(chosen + rng.normal(0, spread, 3), 5, 250).astype(np.float32)
    return varied


def _any_colour(rng: np.random.Generator) -> Colour:
    """Paint or cloth: vivid, white, grey or black."""
    if rng.random() < 0.35:
        return _pick(rng, [_rgb(235, 235, 230), _rgb(130, 130, 130), _rgb(45, 45, 50), _rgb(175, 160, 130)])
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.35, 0.9), rng.uniform(0.45, 0.95)
    rainbow = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    vivid: Colour = (255 * value * (1 - saturation + saturation * rainbow)).astype(np.float32)
    return vivid


def _background(
    rng: np.random.Generator, shape: tuple[int, int], unit: float, horizon: float
) -> tuple[NDArray[np.float32], Colour]:
    """Sky with clouds, hills, ground with stones and perhaps a path; also the sky's colour, which water mirrors."""
    height, width = shape
    rows = np.arange(height, dtype=np.float32)[:, None, None] / unit
    sky = _pick(rng, [_rgb(110, 160, 220), _rgb(150, 180, 205), _rgb(190, 195, 200), _rgb(215, 175, 150)])
    picture = np.broadcast_to(sky + (rows / horizon) * 0.35 * (245 - sky), (height, width, 3)).astype(np.float32)
    clouds = np.clip(_noise(rng, shape, 14 * unit, 2.5) + 0.5 * _noise(rng, shape, 5 * unit, 2) - 0.2, 0, 1)
    picture += (0.6 * clouds[..., None]) * (240 - picture)

    for _ in range(int(rng.integers(0, 3))):
        ridge = horizon - rng.uniform(1, 8) - rng.uniform(1, 6) * _noise(rng, (1, width), rng.uniform(12, 40) * unit)
        hill = _pick(rng, [_rgb(80, 110, 75), _rgb(110, 120, 120), _rgb(95, 95, 70), _rgb(120, 130, 150)])
        texture = 1 + 0.12 * _noise(rng, shape, 2.5 * unit)
        behind = rows[..., 0] > ridge
        picture[behind] = hill * texture[behind][:, None]

    start = min(height - 2, int(horizon * unit))
    area = (height - start, width)
    ground = _pick(rng, [_rgb(95, 135, 65), _rgb(130, 140, 80), _rgb(195, 175, 135), _rgb(135, 132, 130)], 16)
    other = _pick(rng, [_rgb(110, 125, 70), _rgb(150, 125, 95), _rgb(165, 160, 150)], 16)
    patches = 0.6 * np.clip(0.5 + 1.2 * _noise(rng, area, rng.uniform(8, 26) * unit, 2.5), 0, 1)
    grain = 1 + rng.uniform(0.06, 0.2) * _noise(rng, area, 1.3 * unit) + 0.1 * _noise(rng, area, 4 * unit, 2)
    picture[start:] = (ground + patches[..., None] * (other - ground)) * grain[..., None]

    clutter = Sprite(shape, unit, 0)
    across = width / unit
    if rng.random() < 0.4:
        far, near = rng.uniform(0, across), rng.uniform(0, across)
        breadth = rng.uniform(8, 22)
        path = _pick(rng, [_rgb(120, 118, 118), _rgb(190, 170, 140), _rgb(150, 110, 85)])
        clutter.polygon([(far - 1, horizon), (far + 1, horizon), (near + breadth, 97), (near - breadth, 97)], path)
    for _ in range(int(rng.integers(0, 6))):
        y = rng.uniform(horizon + 4, 94)
        radius = (0.6 + 3.5 * (y - horizon) / (96 - horizon)) * rng.uniform(0.6, 1.6)
        stone = _pick(rng, [_rgb(125, 122, 118), _rgb(150, 130, 110), _rgb(90, 88, 85)])
        x = rng.uniform(0, across)
        clutter.ellipse(x, y, radius * rng.uniform(1, 1.7), radius, 0.7 * stone)
        clutter.ellipse(x + 0.2 * radius, y - 0.25 * radius, 0.9 * radius, 0.65 * radius, stone)
    clutter.modulate(1 + 0.15 * _noise(rng, shape, 1.5 * unit))
    clutter.paste(picture)
    return picture, sky


def _things(
    rng: np.random.Generator, shape: tuple[int, int], unit: float, across: float, horizon: float, sky: Colour
) -> list[Sprite]:
    """Water, then the standing things from far to near; sizes follow the distance."""
    sprites = []
    if rng.random() < 0.45:
        sprites.append(_water(rng, Sprite(shape, unit, WATER), across, horizon, sky))
    counts = {TREE: (0.2, 0.35, 0.3, 0.15), HOUSE: (0.4, 0.4, 0.2), CAR: (0.4, 0.4, 0.2)}
    counts |= {PERSON: (0.3, 0.35, 0.25, 0.1), BALL: (0.35, 0.35, 0.3)}
    drawers = {TREE: _tree, HOUSE: _house, CAR: _car, PERSON: _person, BALL: _ball}
    # How high a thing is at the lower border and at the horizon, in units.
    heights = {TREE: (80, 28), HOUSE: (66, 26), CAR: (32, 11), PERSON: (64, 17), BALL: (30, 10)}
    placed = []
    for label, chances in counts.items():
        for _ in range(int(rng.choice(len(chances), p=chances))):
            nearness = float(rng.uniform(0.05, 0.55) if label in (TREE, HOUSE) else rng.uniform(0.15, 0.95))
            placed.append((nearness, label))
    for nearness, label in sorted(placed):
        near, far = heights[label]
        size = (far + nearness * (near - far)) * float(rng.uniform(0.8, 1.2))
        x, y = float(rng.uniform(2, across - 2)), horizon + nearness * (96 - horizon)
        sprites.append(drawers[label](rng, Sprite(shape, unit, label), x, y, size))
    return sprites


def _water(rng: np.random.Generator, sprite: Sprite, across: float, horizon: float, sky: Colour) -> Sprite:
    """A pond, or a sea from the horizon on, coloured like the sky with flat ripples."""
    shape, unit = sprite.cover.shape, sprite.unit
    colour = 0.55 * sky + 0.45 * _pick(rng, [_rgb(60, 100, 130), _rgb(80, 110, 105), _rgb(110, 115, 120)], 10)
    if rng.random() < 0.5:
        xs = np.linspace(-2, across + 2, 30)
        shore = rng.uniform(horizon + 10, 80) + rng.uniform(2, 5) * np.sin(xs / rng.uniform(8, 20) + rng.uniform(0, 6))
        shore += rng.uniform(-0.15, 0.15) * (xs - across / 2)
        top = [(across + 2, horizon), (-2.0, horizon)]
        sprite.polygon(list(zip(xs.tolist(), shore.tolist(), strict=True)) + top, colour)
    else:
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        wobble = 1 + 0.18 * np.sin(2 * turn + rng.uniform(0, 6)) + 0.1 * np.sin(5 * turn + rng.uniform(0, 6))
        x, y = rng.uniform(0.1, 0.9) * across, rng.uniform(horizon + 14, 84)
        rx, ry = rng.uniform(20, 48), min(rng.uniform(7, 15), y - horizon - 2)
        xs, ys = x + rx * wobble * np.cos(turn), y + ry * wobble * np.sin(turn)
        sprite.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), colour)
    canvas = (shape[0], shape[1])
    ripples = _noise(rng, canvas, 1.4 * unit, 6) + 0.6 * _noise(rng, canvas, 3 * unit, 5)
    sprite.modulate(1 + ripples * np.float32(rng.uniform(0.08, 0.16)))
    return sprite


def _tree(rng: np.random.Generator, sprite: Sprite, x: float, y: float, size: float) -> Sprite:
    """A trunk with branches under a round or pointed crown of leaves."""
    bark = _pick(rng, [_rgb(95, 70, 50), _rgb(110, 100, 90), _rgb(70, 55, 45)])
    leaves = _pick(rng, [_rgb(60, 105, 45), _rgb(100, 130, 60), _rgb(150, 120, 50), _rgb(45, 85, 60)])
    thick = size * rng.uniform(0.045, 0.08)
    fork = y - size * rng.uniform(0.28, 0.5)
    sprite.limb((x, y), (x + rng.normal(0, 0.03) * size, fork), thick, bark)
    for side in (-1, 1):
        sprite.limb((x, fork), (x + side * 0.16 * size, fork - 0.14 * size), 0.6 * thick, bark)
    if rng.random() < 0.3:
        for step in range(4):
            middle, half = fork + 0.1 * size - 0.17 * size * step, size * (0.24 - 0.045 * step)
            tip = (x, middle - 0.28 * size)
            sprite.polygon([(x - half, middle), tip, (x + half, middle)], leaves * (0.8 + 0.1 * step))
    else:
        crown = y - 0.68 * size
        for _ in range(int(rng.integers(7, 12))):
            angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            cx, cy = x + 0.2 * size * away * np.cos(angle), crown + 0.2 * size * away * np.sin(angle)
            radius = size * rng.uniform(0.09, 0.16)
            sprite.ellipse(cx, cy, radius, radius * rng.uniform(0.75, 1), leaves * rng.uniform(0.75, 1.2))
    canvas = (sprite.cover.shape[0], sprite.cover.shape[1])
    sprite.modulate(1 + 0.28 * _noise(rng, canvas, 1.6 * sprite.unit) + 0.15 * _noise(rng, canvas, 5 * sprite.unit))
    return sprite


def _house(rng: np.random.Generator, sprite: Sprite, x: float, y: float, size: float) -> Sprite:
    """Walls with rows of windows and a door under a roof."""
    wall = _pick(rng, [_rgb(215, 205, 185), _rgb(165, 100, 80), _rgb(150, 150, 150), _rgb(190, 165, 120)])
    roof = _pick(rng, [_rgb(130, 65, 50), _rgb(80, 75, 75), _rgb(110, 90, 75)])
    glass = _pick(rng, [_rgb(60, 70, 85), _rgb(120, 145, 165), _rgb(200, 190, 120)])
    half = size * rng.uniform(0.4, 0.75)
    eaves = y - 0.6 * size
    sprite.box(x - half, eaves, x + half, y, wall)
    canvas = (sprite.cover.shape[0], sprite.cover.shape[1])
    courses = np.sin(np.arange(canvas[0], dtype=np.float32) / sprite.unit * rng.uniform(2.2, 3.2))[:, None]
    bricks = rng.uniform(0.0, 0.1) * courses + 0.07 * _noise(rng, canvas, 2 * sprite.unit)
    sprite.modulate((1 + bricks).astype(np.float32))
    inset = rng.uniform(0.0, 0.5) * half
    over = 1.1 * half
    sprite.polygon([(x - over, eaves), (x - inset, y - size), (x + inset, y - size), (x + over, eaves)], roof)
    if rng.random() < 0.5:
        sprite.box(x + 0.45 * half, y - 1.05 * size, x + 0.62 * half, y - 0.7 * size, 0.8 * roof)
    columns, rows = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    for row in range(rows):
        for column in range(columns):
            wx = x - half + 2 * half * (column + 0.5) / columns
            wy = eaves + 0.6 * size * (row + 0.45) / rows
            w, h = 0.32 * half / columns + 0.2, 0.15 * size / rows
            if row == rows - 1 and column == columns // 2:
                sprite.box(wx - w, wy - h, wx + w, y, 0.7 * roof)
            else:
                sprite.box(wx - 1.2 * w, wy - 1.2 * h, wx + 1.2 * w, wy + 1.2 * h, np.minimum(1.15 * wall, 250))
                sprite.box(wx - w, wy - h, wx + w, wy + h, glass)
    return sprite


def _car(rng: np.random.Generator, sprite: Sprite, x: float, y: float, size: float) -> Sprite:
    """A car from the side: body, cabin with windows, wheels, lamps."""
    paint = _any_colour(rng)
    glass = _pick(rng, [_rgb(50, 60, 75), _rgb(150, 175, 190)])
    way = float(rng.choice([-1.0, 1.0]))
    long = size * rng.uniform(1.0, 1.35)
    top, waist, floor = y - size, y - 0.56 * size, y - 0.16 * size

    def at(offset: float, level: float) -> tuple[float, float]:
        return x + way * offset * long, level

    back = rng.uniform(0.55, 0.9)
    sprite.polygon([at(-back, waist), at(-0.45, top), at(0.25, top), at(0.6, waist)], 0.9 * paint)
    sprite.polygon([at(-0.7, waist), at(-0.4, top + 0.1 * size), at(-0.1, top + 0.1 * size), at(-0.1, waist)], glass)
    sprite.polygon([at(-0.02, waist), at(-0.02, top + 0.1 * size), at(0.22, top + 0.1 * size), at(0.5, waist)], glass)
    body = [at(-1, waist), at(0.75, waist), at(1, waist + 0.14 * size), at(1, floor), at(-1, floor)]
    sprite.polygon(body, paint)
    middle = (waist + floor) / 2
    sprite.polygon([at(-1, middle), at(1, middle + 0.04 * size), at(1, floor), at(-1, floor)], 0.75 * paint)
    sprite.polygon([at(0.9, waist + 0.14 * size), at(1, waist + 0.14 * size), at(1, middle)], _rgb(240, 230, 170))
    for offset in (-0.58, 0.58):
        wx, wy = at(offset, y - 0.2 * size)
        sprite.ellipse(wx, wy, 0.22 * size, 0.22 * size, _rgb(28, 28, 30))
        sprite.ellipse(wx, wy, 0.1 * size, 0.1 * size, _rgb(150, 150, 150))
    sprite.modulate(1 + 0.05 * _noise(rng, (sprite.cover.shape[0], sprite.cover.shape[1]), 4 * sprite.unit))
    return sprite


def _person(rng: np.random.Generator, sprite: Sprite, x: float, y: float, size: float) -> Sprite:
    """A walking or standing figure: head, hair, torso, thin arms and legs."""
    shirt, trousers = _any_colour(rng), _any_colour(rng) * 0.75
    skin = _pick(rng, [_rgb(225, 180, 150), _rgb(180, 130, 95), _rgb(110, 75, 55)], 8)
    hair = _pick(rng, [_rgb(50, 38, 30), _rgb(150, 110, 60), _rgb(120, 120, 118)])
    hip, shoulder, head = y - 0.47 * size, y - 0.81 * size, y - 0.91 * size
    stride = rng.uniform(0.03, 0.17) * size
    thick = size * rng.uniform(0.075, 0.1)
    for side in (-1, 1):
        knee = (x + 0.6 * side * stride, y - 0.24 * size)
        sprite.limb((x + 0.35 * side * thick, hip), knee, 1.15 * thick, trousers)
        sprite.limb(knee, (x + side * stride, y - 0.03 * size), 0.9 * thick, trousers)
        sprite.limb(
            (x + side * stride, y - 0.02 * size),
            (x + side * stride + 0.04 * size, y - 0.02 * size),
            0.05 * size,
            0.4 * hair,
        )
    wide = rng.uniform(0.095, 0.13) * size
    torso = [(x - wide, shoulder), (x + wide, shoulder), (x + 0.75 * wide, hip), (x - 0.75 * wide, hip)]
    sprite.polygon(torso, shirt)
    for side in (-1, 1):
        swing = rng.uniform(0.0, 0.13) * size
        elbow = (x + side * (wide + 0.4 * swing + 0.02 * size), shoulder + 0.18 * size)
        lift = rng.uniform(-0.18, 0.17) * size if rng.random() < 0.4 else 0.16 * size
        sprite.limb((x + side * 0.9 * wide, shoulder + 0.03 * size), elbow, 0.75 * thick, 0.9 * shirt)
        sprite.limb(elbow, (x + side * (wide + swing), elbow[1] + lift), 0.65 * thick, skin)
    sprite.limb((x, shoulder), (x, head), 0.6 * thick, skin)
    sprite.ellipse(x, head - 0.015 * size, 0.065 * size, 0.085 * size, hair)
    sprite.ellipse(x, head + 0.01 * size, 0.055 * size, 0.065 * size, skin)
    sprite.modulate(1 + 0.08 * _noise(rng, (sprite.cover.shape[0], sprite.cover.shape[1]), 2 * sprite.unit))
    return sprite


def _ball(rng: np.random.Generator, sprite: Sprite, x: float, y: float, size: float) -> Sprite:
    """A ball of two colours in gores or bands, bright on one side."""
    radius = size / 2
    cy = y - radius
    first, second = _any_colour(rng), _any_colour(rng)
    sprite.ellipse(x, cy, radius, radius, first)
    tilt = rng.uniform(0, np.pi)
    if rng.random() < 0.6:
        for gore in range(3):
            turns = tilt + np.linspace(0, np.pi / 3, 5) + gore * 2 * np.pi / 3
            rim = [(x + radius * float(np.cos(t)), cy + radius * float(np.sin(t))) for t in turns]
            sprite.polygon([(x, cy), *rim], second)
    else:
        sprite.ellipse(x, cy, 0.97 * radius, 0.35 * radius, second, tilt)
    down = np.arange(sprite.cover.shape[0], dtype=np.float32)[:, None] / sprite.unit - (cy - 0.4 * radius)
    right = np.arange(sprite.cover.shape[1], dtype=np.float32) / sprite.unit - (x - 0.35 * radius)
    sprite.modulate(np.clip(1.15 - 0.45 * np.hypot(down, right) / radius, 0.45, 1.15))
    return sprite


def _cast_shadow(picture: NDArray[np.float32], sprite: Sprite, sun: float) -> None:
    """Darken where the thing keeps the sun off the ground: its outline laid down flat, sheared away from the sun."""
    foot = float(np.flatnonzero(sprite.cover.any(1))[-1])
    flat = 0.28
    lay_down = np.array([[1, -sun * 0.5, sun * 0.5 * foot], [0, -flat, foot * (1 + flat) - 1]], np.float32)
    shadow = cv2.warpAffine(sprite.cover.astype(np.float32), lay_down, sprite.cover.shape[::-1])
    picture *= (1 - 0.38 * cv2.GaussianBlur(shadow, (0, 0), 1.2))[..., None]


def _photograph(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Light the scene unevenly and take its picture: half the size, a colour cast, blur, sensor noise."""
    shape = (picture.shape[0], picture.shape[1])
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    down = np.linspace(-slope * float(np.sin(angle)), slope * float(np.sin(angle)), shape[0], dtype=np.float32)
    right = np.linspace(-slope * float(np.cos(angle)), slope * float(np.cos(angle)), shape[1], dtype=np.float32)
    light = rng.uniform(0.78, 1.1) + down[:, None] + right
    light *= 1 - rng.uniform(0, 0.35) * np.clip(_noise(rng, shape, shape[0] / 2.5) - 0.1, 0, 1)
    cast = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    image = cv2.resize(picture * light[..., None], (shape[1] // 2, shape[0] // 2), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image * cast, (0, 0), float(rng.uniform(0.2, 0.8)))
    image = image + rng.uniform(3, 9) * rng.standard_normal(image.shape, np.float32)
    developed: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return developed
