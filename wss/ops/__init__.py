from wss.ops.bilateral import BilateralFilter
from wss.ops.mean_field import mean_field

__all__ = ["BilateralFilter", "mean_field"]
