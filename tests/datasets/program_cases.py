"""Files of annotation programs that tests write."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from wss.datasets.classlist import ClassList
from wss.datasets.drawn import open_drawings

CLASSES = ClassList(("background", "cell", "wall"), np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8), 0)


SHAPE = (40, 50)


def raster(path, program, image="a", **options):
    return open_drawings(path, program, CLASSES, **options).read(image).scribble


def agree(found, wanted):
    """Share of pixels in both among those in either."""
    return (found & wanted).sum() / (found | wanted).sum()


def inside_of(outline, shape=SHAPE):
    """Pixels whose centre is inside an outline that begins at the outer edge of the first pixel."""
    contour = np.array(outline, np.float32).reshape(-1, 1, 2)
    return np.array(
        [
            [cv2.pointPolygonTest(contour, (x + 0.5, y + 0.5), False) > 0 for x in range(shape[1])]
            for y in range(shape[0])
        ]
    )


def images_of(folder, *names, shape=SHAPE):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(folder / name)
