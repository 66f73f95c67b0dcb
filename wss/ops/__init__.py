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
