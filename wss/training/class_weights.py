"""Weights of classes from the labels that a network is trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def median_frequency_weights(labels: Iterable[NDArray[np.integer]], num_classes: int) -> tuple[float, ...]:
    """Median-frequency balancing: the median of the frequencies of all classes, divided by that of the class.

    The frequency of a class is its share of the labelled pixels of those images that have a label of it. Its median is taken
    over the classes that are labelled at all. A class that is never labelled gets the weight 1, which no pixel has.

    Args:
        labels: Integers (H,W) of each image, 255 where unlabelled.
        num_classes: K.

    Returns:
        K numbers above 0, rounded to 6 digits.

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
