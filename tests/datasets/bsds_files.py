"""A data set in the layout of BSDS500, made of coloured blocks."""

import numpy as np
from PIL import Image
from scipy.io import savemat


def blocks(rng, size=(48, 64)):
    """An image of four coloured rectangles and its segments."""
    height, width = size
    y, x = int(rng.integers(15, height - 15)), int(rng.integers(15, width - 15))
    segments = np.zeros(size, np.int64)
    segments[y:] += 1
    segments[:, x:] += 2
    colours = rng.integers(0, 256, (4, 3))
    noise = rng.normal(0, 6, (*size, 3))
    return np.clip(colours[segments] + noise, 0, 255).astype(np.uint8), segments


def lines(segments):
    marked = np.zeros(segments.shape, bool)
    marked[:-1] |= segments[:-1] != segments[1:]
    marked[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    return marked


def write_ground_truth(path, annotations):
    cells = np.empty((1, len(annotations)), object)
    for index, segments in enumerate(annotations):
        cells[0, index] = {
            "Segmentation": (segments + 1).astype(np.uint16),
            "Boundaries": lines(segments).astype(np.uint8),
        }
    savemat(path, {"groundTruth": cells})


def write_bsds(root, counts, size=(48, 64)):
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        (root / "images" / split).mkdir(parents=True)
        (root / "groundTruth" / split).mkdir(parents=True)
        for number in range(count):
            image, segments = blocks(rng, size)
            Image.fromarray(image).save(root / "images" / split / f"{split}{number}.png")
            write_ground_truth(root / "groundTruth" / split / f"{split}{number}.mat", [segments, segments % 2])
    return root
