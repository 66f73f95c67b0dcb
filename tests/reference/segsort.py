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


def mean_loss(embeddings, prototypes, own, positive, negative, concentration, alone="own"):
    """The mean of ``segsort_plus`` over the pixels that have one, 0 without any."""
    numbered = list(enumerate(prototypes))
    values = []
    for pixel, segment in zip(embeddings, own, strict=True):
        if segment < 0:
            continue
        plus = {t for t in range(len(prototypes)) if positive[segment][t]}
        minus = {t for t in range(len(prototypes)) if negative[segment][t]} - plus
        if alone == "skip":
            plus -= {segment}
        value = segsort_plus(pixel, numbered, segment, plus, minus, concentration)
        if value is not None:
            values.append(value)
    return sum(values) / len(values) if values else 0.0
