from wss.ops.bilateral import BilateralFilter
from wss.ops.differentiable_mean_field import differentiable_mean_field
from wss.ops.mean_field import mean_field

__all__ = ["BilateralFilter", "differentiable_mean_field", "mean_field"]
