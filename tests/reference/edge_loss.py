"""The edge loss pixel by pixel, from the equation."""

import math


def edge_loss_reference(logits, edges, valid, negative_weight, side_weight):
    batch, maps, height, width = logits.shape
    total = [0.0] * maps
    counted = int(valid.sum())
    for b in range(batch):
        pixels = [(y, x) for y in range(height) for x in range(width) if valid[b, y, x]]
        positives = sum(bool(edges[b, y, x]) for y, x in pixels)
        alpha = negative_weight * positives / max(len(pixels), 1)
        beta = (len(pixels) - positives) / max(len(pixels), 1)
        for s in range(maps):
            for y, x in pixels:
                p = 1 / (1 + math.exp(-float(logits[b, s, y, x])))
                total[s] -= beta * math.log(p) if edges[b, y, x] else alpha * math.log(1 - p)
    means = [t / max(counted, 1) for t in total]
    return means[-1] + side_weight * sum(means[:-1])
