from wss.ops.bilateral import BilateralFilter
from wss.ops.differentiable_mean_field import differentiable_mean_field
from wss.ops.mean_field import mean_field
from wss.ops.random_walk import hitting_probabilities, reachable

__all__ = ["BilateralFilter", "differentiable_mean_field", "hitting_probabilities", "mean_field", "reachable"]
