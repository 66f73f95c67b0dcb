"""Class weights computed from training labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def median_frequency_weights(labels: Iterable[NDArray[np.integer]], num_classes: int) -> tuple[float, ...]:
    """Median-frequency balancing: weight = median of all class frequencies / frequency of the class.

    The frequency of a class is its share of the labelled pixels, in the images that have a label of this class. The median is
    over the classes that occur in the labels. A class that never occurs gets the weight 1, which no pixel uses.

    Args:
        labels: Integers (H,W) of each image, 255 where unlabelled.
        num_classes: K, the number of classes.

    Returns:
        K weights above 0, rounded to 6 significant digits.

    Source: Eigen and Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-scale Convolutional
        Architecture", section 6.3.2.
    Differs: unlabelled pixels do not count.
    """
    own, beside = np.zeros(num_classes), np.zeros(num_classes)
    for image in labels:
        counts = np.bincount(image.ravel(), minlength=256)[:num_classes]
        own += counts
        beside[counts > 0] += counts.sum()
    known = own > 0
    frequency = np.divide(own, beside, out=np.ones(num_classes), where=known)
    if not known.any():
        return (1.0,) * num_classes
    weights = np.where(known, np.median(frequency[known]) / frequency, 1.0)
    return tuple(float(f"{weight:.6g}") for weight in weights)
