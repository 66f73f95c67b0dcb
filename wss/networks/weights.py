"""Pre-trained weights, from a file or by the name of published weights."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import re
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wss.errors import DataError, UsageError
from wss.networks.backbone import Backbone
from wss.networks.network import SegmentationNetwork
from wss.params import Params

PUBLISHED: dict[str, dict[str, str]] = {
    "imagenet": {
        "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
        "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
        "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    },
    "dinov2": {
        "dinov2_vits14": "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
    },
    "coco": {
        "resnet50": "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth",
        "resnet101": "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth",
    },
}
"""URLs of the weights that torchvision and DINOv2 publish, by name and backbone. ``imagenet`` is the first version of
each classifier, from which papers up to 2021 start. ``coco`` is the backbone of a DeepLabv3 trained on COCO images with
VOC's classes. The names of torchvision's files end with the first digits of their SHA-256."""

DIGESTS = {
    "dinov2_vits14_pretrain.pth": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
}
"""SHA-256 of published files whose names do not contain it."""

TIMEOUT_S = 60.0
PREFIXES = ("module.", "_orig_mod.", "network.", "backbone.")
"""Prefixes that wrappers add to parameter names: data parallel, compiled, whole models, segmentation networks."""
CLASSIFIERS = ("fc.", "classifier.", "features.18.", "aux_classifier.", "head.")
"""Prefixes of parameters for the task of the file. They are ignored unless the network has the same parameters."""


class Initialisation(Params):
    """Initial weights of a network. Checkpoints record it, because published scores depend on it."""

    kind: Literal["none", "imagenet", "dinov2", "coco", "file"] = "none"
    """Training data of the weights. ``none``: random weights. ``file``: a file with unknown training data."""
    source: str | None = None
    """Name of the file with the weights, without its folder."""
    sha256: str | None = None
    """SHA-256 of that file."""
    random: tuple[str, ...] = ()
    """Parts of the backbone that are not in the file and started from random weights."""


def load_pretrained(network: nn.Module, source: str | Path | None, *, cache: Path | None = None) -> Initialisation:
    """Load pre-trained weights into a network, in place.

    Weights are loaded into every backbone of the network. A network without backbone (a U-Net) gets all weights except
    its classifier, which stays random. The file holds the state dict of a backbone with torchvision's names, or of a
    segmentation network with that backbone. The dict may be wrapped in ``{"state_dict": ...}`` or ``{"model": ...}``.
    Names may start with ``module.``, and values may have half precision. Files with other names or shapes are converted
    if the backbone knows them (``Backbone.adapt``). The file is read as plain tensors: code in it never runs.

    Args:
        network: A segmentation network, a backbone, or a module that contains one.
        source: ``imagenet``, ``dinov2`` or ``coco`` downloads published weights once. ``none`` or None leaves the
            network unchanged. Any other value is the path of a file.
        cache: Folder of downloads; by default ``weights`` in ``$WSS_CACHE`` or ``~/.cache/wss``.

    Returns:
        The record for checkpoints. The kind of a file is ``imagenet`` or ``coco`` if its name contains the word or is
        the name of a published file, and ``dinov2`` if its SHA-256 is that of the published file.

    Raises:
        UsageError: No weights of that name are published for this network.
        DataError: The file is missing, damaged or from another network, or the download failed.
    """
    check_pretrained(network, source)
    if source is None or source == "none":
        return Initialisation()
    targets = _targets(network)
    if isinstance(source, str) and source in PUBLISHED:
        url = _published_url(source, targets[0])
        path, digest = download(url, cache or _default_cache())
    else:
        path = Path(source)
        digest = _sha256(path)
    state = read_state_dict(path)
    random = dict.fromkeys(part for target in targets for part in _load(target, state, path))
    return Initialisation(kind=_kind(path.name, digest), source=path.name, sha256=digest, random=tuple(random))


def check_pretrained(network: nn.Module, source: str | Path | None) -> None:
    """Raise an error if ``load_pretrained`` cannot find weights for a network, without reading or downloading them.

    Args:
        network: As in ``load_pretrained``; its tensors are not read.
        source: As in ``load_pretrained``.

    Raises:
        UsageError: No weights of that name are published for this network.
        DataError: The file does not exist.
    """
    if source is None or source == "none":
        return
    targets = _targets(network)
    if isinstance(source, str) and source in PUBLISHED:
        _published_url(source, targets[0])
    elif not Path(source).is_file():
        raise DataError(
            f"weights {source}: no such file; give the path of a torch state dict or one of the names "
            f"{', '.join(PUBLISHED)}, none"
        )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a torch or safetensors file by parameter name, without wrappers and their prefixes.

    Raises:
        DataError: The file is not a torch or safetensors file, holds other objects than tensors, or holds no tensors.
    """
    remedy = "save it again with torch.save(network.state_dict(), FILE)"
    if path.suffix == ".safetensors":
        return _without_prefixes(_read_safetensors(path))
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"weights {path}: expected plain tensors, got a pickle of other objects, not opened because it could run "
            f"code ({str(error).splitlines()[0]}); {remedy}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(f"weights {path}: cannot be read as a torch file ({error}); {remedy}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"weights {path}: expected a state dict, got {type(content).__name__}; {remedy}")
    wrong = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if wrong:
        raise DataError(f"weights {path}: expected tensors by name, got other values at {_some(wrong)}; {remedy}")
    return _without_prefixes(dict(content))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"weights {path}: cannot be read as a safetensors file ({error}); copy it again") from error
    if not state:
        raise DataError(f"weights {path}: holds no tensors")
    return state


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # twice, for wrappers in any order
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        state = inside or state
    return state


def download(url: str, folder: Path) -> tuple[Path, str]:
    """Download a file into a folder once, and check its SHA-256.

    Args:
        url: URL of the file. Its name ends in ``-<first digits of the SHA-256>.<suffix>``, or is a key of ``DIGESTS``.
        folder: Folder of the file, created if needed. The file appears there only when it is complete.

    Returns:
        The file and its SHA-256.

    Raises:
        DataError: The URL cannot be reached, the folder cannot be written, or the SHA-256 is wrong.
    """
    name = url.rsplit("/", 1)[-1]
    match = re.search(r"-([0-9a-f]{8,64})\.", name)
    known = DIGESTS.get(name) or (match and match[1])
    if not known:
        raise DataError(f"{url}: the file name does not carry a SHA-256 prefix to check the download with")
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and (digest := _sha256(path)).startswith(known):
            return path, digest
        handle, partial = tempfile.mkstemp(prefix=name + ".", suffix=".partial", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                while block := response.read(1 << 20):
                    file.write(block)
            digest = _sha256(Path(partial))
            if not digest.startswith(known):
                raise DataError(
                    f"{url}: expected a SHA-256 that begins with {known}, got {digest}; try again, or fetch it "
                    "by other means and give it with --weights FILE"
                )
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"cannot download {url} to {folder} ({error}); fetch that file on a machine with access and give it with "
            "--weights FILE, or train without it: --weights none"
        ) from error
    return path, digest


def downloaded(name: str, architecture: str) -> Path | None:
    """File with published weights if it has been downloaded, otherwise None."""
    path = _default_cache() / PUBLISHED[name][architecture].rsplit("/", 1)[-1]
    return path if path.is_file() else None


def _default_cache() -> Path:
    root = os.environ.get("WSS_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "wss") / "weights"


def _targets(network: nn.Module) -> list[nn.Module]:
    """Modules that get the weights: all backbones (of one architecture), or else all segmentation networks."""
    backbones = [module for module in network.modules() if isinstance(module, Backbone)]
    names = sorted({backbone.architecture for backbone in backbones})
    if len(names) > 1:
        raise UsageError(
            f"the network has backbones of several kinds ({', '.join(names)}); load weights into each one separately"
        )
    whole: list[nn.Module] = [module for module in network.modules() if isinstance(module, SegmentationNetwork)]
    targets: list[nn.Module] = list(backbones) if backbones else whole
    if not targets:
        raise UsageError(f"{type(network).__name__} contains neither a backbone nor a segmentation network")
    return targets


def _published_url(name: str, target: nn.Module) -> str:
    known = PUBLISHED[name]
    architecture = target.architecture if isinstance(target, Backbone) else type(target).__name__
    if architecture not in known:
        raise UsageError(
            f"no {name} weights are published for {architecture}, only for {', '.join(known)}; give --weights FILE or "
            "--weights none"
        )
    return known[architecture]


def _load(target: nn.Module, state: Mapping[str, Tensor], path: Path) -> tuple[str, ...]:
    """Load a file's parameters into one target. Return the parts that are not in the file and stay random."""
    own = target.state_dict()
    whole = not isinstance(target, Backbone)  # its classifier depends on the classes of the data set
    expected = {name for name in own if not (whole and name.startswith(CLASSIFIERS))}
    given, random = target.adapt(state) if isinstance(target, Backbone) else (dict(state), ())
    for name in [name for name in given if name.startswith(CLASSIFIERS)]:
        if name not in expected:
            del given[name]
    missing = sorted(name for name in expected - given.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(given.keys() - expected)
    mismatched = [
        f"{name} (file {tuple(given[name].shape)}, network {tuple(own[name].shape)})"
        for name in sorted(expected & given.keys())
        if given[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing from the file", missing),
            ("unknown to the network", unexpected),
            ("of another shape", mismatched),
        )
        if names
    ]
    if problems:
        label = target.architecture if isinstance(target, Backbone) else type(target).__name__
        raise DataError(
            f"weights {path} do not fit {label}; parameters {'; '.join(problems)}. Give weights of {label} with "
            "torchvision's names, or choose the network they were made for"
        )
    target.load_state_dict({**own, **given})
    return random


def _kind(name: str, digest: str) -> Literal["imagenet", "dinov2", "coco", "file"]:
    if digest == DIGESTS["dinov2_vits14_pretrain.pth"]:
        return "dinov2"
    name = name.lower()
    for kind in ("coco", "imagenet"):  # the name of a COCO file may contain "imagenet", but not the reverse
        if kind in name or any(name == url.rsplit("/", 1)[-1] for url in PUBLISHED[kind].values()):
            return kind
    return "file"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
