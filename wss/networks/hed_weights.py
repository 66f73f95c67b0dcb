"""Loader of HED's weights from the file formats in common use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wss.errors import DataError
from wss.networks.caffe import read_caffemodel
from wss.networks.hed import DEPTHS, HED, MEAN_BGR
from wss.networks.weights import read_state_dict

_ORDINALS = ("One", "Two", "Thr", "Fou", "Fiv")
_CONVERSION = re.compile(r"(?:module|net)(Vgg|Score)(One|Two|Thr|Fou|Fiv)\w*?(?:\.(\d+))?\.(weight|bias)")


def load_hed(network: HED, path: Path) -> str:
    """Load weights into HED, in place.

    Args:
        network: HED with either alignment.
        path: The authors' ``.caffemodel``, a torch state dict of the common PyTorch conversion (``moduleVggOne.0.weight``
            or ``netVggOne.0.weight``), or a file that this package wrote.

    Returns:
        Format of the file: ``caffe``, ``conversion`` or ``wss``.

    Raises:
        DataError: The file is missing, damaged, or does not hold weights of HED.
    """
    if path.suffix == ".caffemodel":
        kind, state = "caffe", _from_caffe(path)
    else:
        state = read_state_dict(path)
        kind = "wss"
        if any(name.startswith(("moduleVgg", "netVgg")) for name in state):
            kind, state = "conversion", _from_conversion(state)
    _load(network, state, path)
    return kind


def load_vgg16(network: HED, path: Path) -> None:
    """Load the convolutions of a VGG16 trained on ImageNet (torchvision's names) into HED's stages, in place.

    Torchvision's network takes RGB, normalised by a mean and standard deviations. HED takes BGR in 0..255 minus a mean.
    The first convolution is converted, so that it computes the same values except at the border.

    Raises:
        DataError: The file is missing, damaged, or does not hold a VGG16.
    """
    source = read_state_dict(path)
    places = [index for index in range(30) if f"features.{index}.weight" in source]
    own = network.state_dict()
    targets = [f"stages.{stage}.{2 * layer}" for stage, depth in enumerate(DEPTHS) for layer in range(depth)]
    if len(places) != len(targets):
        raise DataError(f"weights {path}: expected the {len(targets)} convolutions of VGG16, got {len(places)}")
    for target, place in zip(targets, places, strict=True):
        for leaf in ("weight", "bias"):
            value = source[f"features.{place}.{leaf}"].float()
            if value.shape != own[f"{target}.{leaf}"].shape:
                raise DataError(f"weights {path}: features.{place}.{leaf} is {tuple(value.shape)}, not VGG16's")
            own[f"{target}.{leaf}"] = value
    first = own["stages.0.0.weight"]
    deviation = 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = 255 * torch.tensor([0.485, 0.456, 0.406])
    scaled = first / deviation
    shift = torch.tensor(MEAN_BGR[::-1]) - mean
    own["stages.0.0.weight"] = scaled.flip(1)
    own["stages.0.0.bias"] = own["stages.0.0.bias"] + (scaled.sum((2, 3)) * shift).sum(1)
    network.load_state_dict(own)


def _from_caffe(path: Path) -> dict[str, Tensor]:
    names = {f"conv{s + 1}_{n + 1}": f"stages.{s}.{2 * n}" for s, depth in enumerate(DEPTHS) for n in range(depth)}
    names |= {f"score-dsn{n + 1}": f"scores.{n}" for n in range(len(DEPTHS))}
    names["new-score-weighting"] = "fuse"
    layers = read_caffemodel(path)
    state: dict[str, Tensor] = {}
    for layer, own in names.items():
        for leaf, blob in zip(("weight", "bias"), layers.get(layer, ()), strict=False):
            state[f"{own}.{leaf}"] = torch.from_numpy(blob)
    return state


def _from_conversion(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the conversion's parameters. Its stages 2 to 5 start with a pooling, which shifts their indices by 1."""
    state: dict[str, Tensor] = {}
    for name, value in given.items():
        match = _CONVERSION.fullmatch(name)
        if match is not None:
            part, ordinal, place, leaf = match.groups()
            number = _ORDINALS.index(ordinal)
            if part == "Score":
                state[f"scores.{number}.{leaf}"] = value
            elif place is not None:
                state[f"stages.{number}.{int(place) - bool(number)}.{leaf}"] = value
        elif name in (f"{prefix}Combine.0.{leaf}" for prefix in ("module", "net") for leaf in ("weight", "bias")):
            state[f"fuse.{name.rsplit('.', 1)[1]}"] = value
    return state


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys())
    if missing:
        raise DataError(
            f"weights {path}: {len(missing)} of HED's parameters are missing, {', '.join(missing[:3])} first"
        )
    values = {}
    for name, wanted in own.items():
        value = state[name]
        if value.squeeze().shape != wanted.squeeze().shape:  # old Caffe files give every array four axes
            raise DataError(f"weights {path}: {name} is {tuple(value.shape)}, HED's is {tuple(wanted.shape)}")
        values[name] = value.reshape(wanted.shape).float()
    network.load_state_dict(values)
