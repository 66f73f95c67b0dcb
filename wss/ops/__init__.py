"""Operators: filters, walks, mean-field inference, clustering. Each has a reference written from its equation in the tests.

Examples:
    >>> import torch, wss
    >>> photo = wss.sample(3)
    >>> image = torch.from_numpy(photo.image).permute(2, 0, 1)[None].float()  # (1,3,96,128), 0..255
    >>> scribble = torch.from_numpy(photo.scribble)[None].long()  # (1,96,128), 255 = unlabelled
    >>> boundary = 5 * wss.ops.colour_gradient(image)  # (1,96,128), at least 0
    >>> probs = wss.ops.hitting_probabilities(boundary, scribble, 7)
    >>> probs.shape, bool(torch.allclose(probs.sum(1), torch.ones(1, 96, 128)))
    (torch.Size([1, 7, 96, 128]), True)
    >>> lattice = wss.ops.BilateralFilter(image, sigma_rgb=15, sigma_xy=20)
    >>> lattice.filter(probs).shape
    torch.Size([1, 7, 96, 128])
"""

from wss.ops.bilateral import BilateralFilter
from wss.ops.colour_gradient import colour_gradient
from wss.ops.differentiable_mean_field import differentiable_mean_field
from wss.ops.eigenvectors import leading_eigenvectors
from wss.ops.hitting import hitting_probabilities, reachable
from wss.ops.mean_field import mean_field
from wss.ops.nearest import nearest, vote
from wss.ops.segments import Segments, segment_labels, segment_prototypes, split_segments
from wss.ops.similarity_walk import similarity_walk
from wss.ops.spanning_tree import SpanningTree, spanning_tree, tree_filter
from wss.ops.spherical_kmeans import spherical_kmeans
from wss.ops.transform import Transform, draw_transform
from wss.ops.transition import feature_walk_step, transform_transition, transition_matrix

__all__ = [
    "BilateralFilter",
    "Segments",
    "SpanningTree",
    "Transform",
    "colour_gradient",
    "differentiable_mean_field",
    "draw_transform",
    "feature_walk_step",
    "hitting_probabilities",
    "leading_eigenvectors",
    "mean_field",
    "nearest",
    "reachable",
    "segment_labels",
    "segment_prototypes",
    "similarity_walk",
    "spanning_tree",
    "spherical_kmeans",
    "split_segments",
    "transform_transition",
    "transition_matrix",
    "tree_filter",
    "vote",
]
