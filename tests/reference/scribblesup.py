"""ScribbleSup's energy from its equations, in loops."""

import math


def borders(superpixels):
    """Number of pairs of neighbouring pixels across the border of each pair of superpixels."""
    found = {}
    height, width = superpixels.shape
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < height and u < width and superpixels[y, x] != superpixels[v, u]:
                    pair = tuple(sorted((int(superpixels[y, x]), int(superpixels[v, u]))))
                    found[pair] = found.get(pair, 0) + 1
    return found


def pairwise(image, superpixels, sigma_colour, sigma_texture, cumulative):
    """exp(-|c_i - c_j|^2 / sigma_colour^2 - |t_i - t_j|^2 / sigma_texture^2) of each pair of neighbours."""
    colours, textures = _histograms(image, superpixels)
    if cumulative:
        colours, textures = ([_running(h) for h in sets] for sets in (colours, textures))
    else:  # the joined histogram sums to 1
        colours, textures = ([[[v / len(h) for v in p] for p in h] for h in sets] for sets in (colours, textures))
    return {
        (i, j): math.exp(
            -_squared(colours[i], colours[j]) / sigma_colour**2 - _squared(textures[i], textures[j]) / sigma_texture**2
        )
        for i, j in borders(superpixels)
    }


def energy(labels, superpixels, scribble, probs, costs, total):
    """Unary costs, summed (``total``) or averaged over each superpixel, and ``costs`` of neighbours with unlike labels."""
    found = sum(cost for (i, j), cost in costs.items() if labels[i] != labels[j])
    for number, label in enumerate(labels):
        inside = superpixels == number
        drawn = scribble[inside & (scribble != 255)]
        if drawn.size:
            found += 0 if label == drawn[0] else math.inf
        else:
            values = [-math.log(p) for p in probs[label][inside]]
            found += sum(values) if total else sum(values) / len(values)
    return found


def _histograms(image, superpixels):
    """Per superpixel three histograms of colour and two of differences, each summing to 1."""
    height, width = superpixels.shape
    grey = [[sum(w * int(c) for w, c in zip((0.299, 0.587, 0.114), p, strict=True)) for p in row] for row in image]
    colours = [[[0.0] * 25 for _ in range(3)] for _ in range(superpixels.max() + 1)]
    textures = [[[0.0] * 10 for _ in range(2)] for _ in range(superpixels.max() + 1)]
    for y in range(height):
        for x in range(width):
            number = superpixels[y, x]
            share = 1 / float((superpixels == number).sum())
            for channel in range(3):
                colours[number][channel][int(image[y, x, channel]) * 25 // 256] += share
            right, left = grey[y][min(x + 1, width - 1)], grey[y][max(x - 1, 0)]
            below, above = grey[min(y + 1, height - 1)][x], grey[max(y - 1, 0)][x]
            for direction, difference in enumerate((right - left, below - above)):
                place = (max(-1.0, min(1.0, difference / 64)) + 1) / 2 * 10
                textures[number][direction][min(int(place), 9)] += share
    return colours, textures


def _running(histograms):
    return [[sum(h[: k + 1]) for k in range(len(h))] for h in histograms]


def _squared(first, second):
    return sum((a - b) ** 2 for p, q in zip(first, second, strict=True) for a, b in zip(p, q, strict=True))
