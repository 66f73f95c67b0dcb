"""Finds where a computation looks at values of tensors, which on a GPU makes the host wait for the device."""

import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import wss

ROOT = Path(wss.__file__).parent
CALLS = {
    *("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__"),
    *(
        "nonzero",
        "argwhere",
        "masked_select",
        "unique",
        "unique_consecutive",
        "tensor",
        "as_tensor",
        "new_tensor",
        "from_numpy",
    ),
    *("bincount", "repeat_interleave"),
}
OPERATORS = {
    *("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::_unique2"),
    *("aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::equal"),
}


class HostWaits:
    """Within it, ``found`` gathers (file of wss and function, call) of every look at values."""

    def __init__(self):
        self.found = set()
        self._modes = (_Functions(self.found), _Operators(self.found))

    def __enter__(self):
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def places(self):
        return {place for place, _ in self.found}


def _place():
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            return f"{path.relative_to(ROOT)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "outside"


class _Functions(TorchFunctionMode):
    def __init__(self, found):
        super().__init__()
        self._found = found

    def __torch_function__(self, function, types, arguments=(), named=None):
        name = getattr(function, "__name__", "")
        if name in CALLS and not (name == "repeat_interleave" and isinstance(arguments[1], int)):
            self._found.add((_place(), name))
        return function(*arguments, **(named or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        name = operator.name().split(".")[0]
        by_mask = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in arguments[1]
        )
        if name in OPERATORS or by_mask:
            self._found.add((_place(), name + (" by a mask" if by_mask else "")))
        return operator(*arguments, **(named or {}))
