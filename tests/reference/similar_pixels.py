"""Spherical k-means, segments, walks between similar pixels and nearest neighbours of SPML from the equations, by loops."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np


def points(embeddings: np.ndarray, location_scale: float) -> np.ndarray:
    """(H,W,C+2), unit length, of embeddings (C,H,W)."""
    channels, height, width = embeddings.shape
    result = np.zeros((height, width, channels + 2))
    for y, x in np.ndindex(height, width):
        place = [y / (height - 1) - 0.5 if height > 1 else 0, x / (width - 1) - 0.5 if width > 1 else 0]
        point = np.array([*embeddings[:, y, x], *(location_scale * p for p in place)])
        result[y, x] = point / np.linalg.norm(point)
    return result


def spherical_kmeans(
    embeddings: np.ndarray, rows: int, columns: int, iterations: int, location_scale: float, valid: np.ndarray
) -> np.ndarray:
    """Of one image, embeddings (C,H,W), valid (H,W)."""
    height, width = valid.shape
    e = points(embeddings, location_scale)
    pixels = [p for p in np.ndindex(height, width) if valid[p]]
    clusters = np.full(valid.shape, -1)

    def cell(position: int, length: int, cells: int) -> int:
        return math.floor(position * (cells - 1) / (length - 1) + 0.5) if length > 1 else 0

    for y, x in pixels:
        clusters[y, x] = cell(y, height, rows) * columns + cell(x, width, columns)
    means: dict[int, np.ndarray] = {}
    for _ in range(iterations):
        for s in range(rows * columns):
            members = [e[p] for p in pixels if clusters[p] == s]
            if members:
                total = sum(members)
                means[s] = total / max(float(np.linalg.norm(total)), 1e-12)
        for p in pixels:
            clusters[p] = max(means, key=lambda s: (float(means[s] @ e[p]), -s))
    return clusters


def objective(embeddings: np.ndarray, clusters: np.ndarray, location_scale: float) -> float:
    """Sum of the cosines between pixels and the means of their clusters, which k-means never lowers."""
    e = points(embeddings, location_scale)
    return float(sum(np.linalg.norm(e[clusters == s].sum(0)) for s in np.unique(clusters) if s >= 0))


def segments(maps: list[np.ndarray], used: np.ndarray) -> np.ndarray:
    """Ids (B,H,W): pixels of one image that agree in all maps (B,H,W) have the same."""
    result = np.full(used.shape, -1)
    names = {p: (p[0], *(int(m[p]) for m in maps)) for p in np.ndindex(used.shape) if used[p]}
    order = {name: number for number, name in enumerate(sorted(set(names.values())))}
    for p, name in names.items():
        result[p] = order[name]
    return result


def majority(labels: np.ndarray, ids: np.ndarray, ignore_index: int) -> list[int]:
    """The commonest label of each segment, the lowest of several."""
    result = []
    for s in range(int(ids.max()) + 1):
        votes = Counter(int(k) for k in labels[ids == s] if k != ignore_index)
        result.append(min(votes, key=lambda k: (-votes[k], k)) if votes else ignore_index)
    return result


def similarity_walk(
    embeddings: np.ndarray, scores: np.ndarray, gamma: float, beta: float, steps: int, normalised: str
) -> np.ndarray:
    """M (K,H,W) after M <- T' M, in extended precision, with T formed, of embeddings (C,H,W)."""
    e = embeddings.reshape(len(embeddings), -1).astype(np.longdouble)
    count = e.shape[1]
    similarity = np.exp(gamma * (e.T @ e))
    transition = np.zeros((count, count), np.longdouble)
    for i, j in itertools.product(range(count), repeat=2):
        if normalised == "before":
            transition[i, j] = (similarity[i, j] / similarity[i].sum()) ** beta
        else:
            transition[i, j] = similarity[i, j] ** beta / (similarity[:, j] ** beta).sum()
    result = scores.reshape(len(scores), -1).astype(np.longdouble).T
    for _ in range(steps):
        result = transition.T @ result
    return (result / result.sum(1, keepdims=True)).T.reshape(scores.shape).astype(np.float64)


def nearest_labels(queries: np.ndarray, prototypes: np.ndarray, labels: np.ndarray, k: int) -> list[int]:
    """The majority among the k most similar prototypes; among equals the greater sum of similarities."""
    result = []
    for query in queries:
        found = sorted(range(len(prototypes)), key=lambda s: -float(prototypes[s] @ query))[:k]
        votes: dict[int, tuple[int, float]] = {}
        for s in found:
            count, total = votes.get(int(labels[s]), (0, 0.0))
            votes[int(labels[s])] = (count + 1, total + float(prototypes[s] @ query))
        result.append(max(votes, key=lambda c: votes[c]))
    return result
