"""Minima of labelling energies by trying every labelling."""

import itertools

import numpy as np


def energy(unary, edges, weights, labels):
    total = sum(unary[i][x] for i, x in enumerate(labels))
    return total + sum(w for (i, j), w in zip(edges, weights, strict=True) if labels[i] != labels[j])


def minimum(unary, edges, weights):
    """The least energy over all K^N labellings."""
    choices = itertools.product(range(unary.shape[1]), repeat=len(unary))
    return min(energy(unary, edges, weights, labels) for labels in choices)


def best_expansion(unary, edges, weights, labels):
    """The least energy over all expansion moves, of any label and any set of nodes."""
    moves = itertools.product((False, True), repeat=len(labels))
    moved = (np.where(move, label, labels) for move in moves for label in range(unary.shape[1]))
    return min(energy(unary, edges, weights, m) for m in moved)
