"""Pixel-to-segment contrastive learning, one pixel and one segment at a time, from the equations of Ke et al. 2021."""

import math


def segsort_plus(pixel, prototypes, own, positive, negative, concentration):
    """(3) for one pixel: sets of segment indices, the own segment not counting among the positive ones; where that leaves none,
    (2) with the own segment alone. None where the own segment is not positive either."""
    others = [t for t in positive if t != own]
    numerator = others or [t for t in positive if t == own]
    if not numerator:
        return None
    weight = {t: math.exp(concentration * sum(a * b for a, b in zip(mu, pixel, strict=True))) for t, mu in prototypes}
    top = sum(weight[t] for t in numerator)
    bottom = top + sum(weight[t] for t in negative)
    return -math.log(top / bottom)


def affinity_labels(prototypes, label, image=None, threshold=None):
    """The expanded labelled set: each segment without a label (255) takes that of the segment with the highest cosine among those
    that have one, of its own image if images are given, and if the cosine is at least the threshold."""
    result = list(label)
    for s, mu in enumerate(prototypes):
        if label[s] != 255:
            continue
        cosines = {
            t: sum(a * b for a, b in zip(mu, other, strict=True))
            for t, other in enumerate(prototypes)
            if label[t] != 255 and (image is None or image[t] == image[s])
        }
        nearest = max(cosines, key=cosines.get, default=None)
        if nearest is not None and (threshold is None or cosines[nearest] >= threshold):
            result[s] = label[nearest]
    return result


def mean_loss(embeddings, prototypes, own, positive, negative, concentration):
    """The mean of ``segsort_plus`` over the pixels that have one, 0 without any."""
    numbered = list(enumerate(prototypes))
    values = []
    for pixel, segment in zip(embeddings, own, strict=True):
        if segment < 0:
            continue
        plus = {t for t in range(len(prototypes)) if positive[segment][t]}
        minus = {t for t in range(len(prototypes)) if negative[segment][t]} - plus
        value = segsort_plus(pixel, numbered, segment, plus, minus, concentration)
        if value is not None:
            values.append(value)
    return sum(values) / len(values) if values else 0.0
