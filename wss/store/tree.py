"""Conversion of nested values (state dicts of networks and optimisers) to plain JSON plus named arrays, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wss.errors import StoreError

Arrays = dict[str, NDArray[np.generic]]


def flatten(tree: Any) -> tuple[Any, Arrays]:
    """Split a tree of dicts, lists, tuples, tensors, arrays, numbers, strings and None.

    Returns:
        The tree as JSON values, in which each container, tensor and array is tagged; and the arrays by number.
    """
    arrays: Arrays = {}

    def walk(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            kind = str(tensor.dtype).removeprefix("torch.")
            raw = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            name = f"{len(arrays):06d}"
            arrays[name] = raw.numpy()
            return {"tensor": name, "dtype": kind}
        if isinstance(value, np.ndarray):
            name = f"{len(arrays):06d}"
            arrays[name] = value
            return {"array": name}
        if isinstance(value, Mapping):
            return {"dict": [[walk(key), walk(item)] for key, item in value.items()]}
        if isinstance(value, tuple | list):
            return {type(value).__name__: [walk(item) for item in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a {type(value).__name__} cannot be stored in a checkpoint")

    return walk(tree), arrays


def unflatten(tree: Any, arrays: Mapping[str, NDArray[np.generic]]) -> Any:
    """Inverse of ``flatten``. Tensors are on the CPU."""
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = [(k, v) for k, v in tree.items() if k != "dtype"]
    if kind == "tensor":
        tensor = torch.from_numpy(np.array(arrays[value]))
        return tensor.view(torch.bfloat16) if tree["dtype"] == "bfloat16" else tensor
    if kind == "array":
        return np.array(arrays[value])
    if kind == "dict":
        return {unflatten(key, arrays): unflatten(item, arrays) for key, item in value}
    if kind in ("list", "tuple"):
        items = [unflatten(item, arrays) for item in value]
        return tuple(items) if kind == "tuple" else items
    raise StoreError(f"a checkpoint holds an unknown kind of value, {kind!r}; it was written by a newer wss")
