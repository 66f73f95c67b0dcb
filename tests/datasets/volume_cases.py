"""Volumes that tests write."""

import numpy as np

from wss.datasets.check import check
from wss.datasets.volume_file import open_volume


def codes(source):
    return {(f.severity, f.code) for f in check(source)}


def stored(folder):
    volume = open_volume(folder)
    return np.stack([volume.raster(0, number).values for number in range(volume.grid.shape[0])])
