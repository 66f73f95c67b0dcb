"""Parameter groups of a network for training: backbone and head, weights, biases and normalisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.crf import CRFLayer


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same learning-rate multiple and weight decay.

    Attributes:
        head: True for parameters outside the backbone. The parameters of a CRF layer have False.
        bias: True for biases and the shifts of normalisation layers.
        decay: True if weight decay applies. It does not apply to biases, normalisation layers, scalars (alpha of a
            random walk) and the weights of a CRF layer, whose neutral values are not 0.
        parameters: At least one parameter.
        rate: Factor of the learning rate that the layer asks for.
    """

    head: bool
    bias: bool
    decay: bool
    parameters: tuple[nn.Parameter, ...]
    rate: float = 1.0


def parameter_groups(model: nn.Module) -> list[ParameterGroup]:
    """Split the parameters of a model into groups, in a fixed order and without empty groups.

    Each parameter is in exactly one group. The backbone is everything below a module named ``backbone``, at any depth.
    In a model without backbone (a U-Net) nothing is pre-trained. All its parameters count as backbone and have the base
    learning rate.

    Args:
        model: A segmentation network, or a module that contains one.
    """
    groups: dict[tuple[bool, bool, bool, float], list[nn.Parameter]] = {
        (head, bias, decay, 1.0): []
        for head in (False, True)
        for bias, decay in ((False, True), (False, False), (True, False))
    }
    heads = _has_backbone(model)
    seen: set[int] = set()
    for name, module in model.named_modules():
        head = heads and "backbone" not in name.split(".")
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if isinstance(module, CRFLayer):
                groups.setdefault((False, False, False, module.rate), []).append(parameter)
                continue
            bias = leaf == "bias" or leaf.endswith("_bias")
            normalises = isinstance(module, _BatchNorm | nn.GroupNorm | nn.LayerNorm)
            groups[head, bias, not (bias or normalises or parameter.ndim == 0), 1.0].append(parameter)
    return [
        ParameterGroup(head, bias, decay, tuple(parameters), rate)
        for (head, bias, decay, rate), parameters in groups.items()
        if parameters
    ]


def freeze_batch_norm(model: nn.Module, frozen: bool = True) -> None:
    """Freeze the backbone's batch normalisation at its stored statistics, or unfreeze it.

    It stays frozen in later ``train()`` calls. Heads still update their statistics. In a model without backbone all
    batch normalisation is frozen. Unfrozen modules follow the mode of the model again.

    Args:
        model: A segmentation network, or a module that contains one.
        frozen: True freezes, False unfreezes.
    """
    heads = _has_backbone(model)
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm2d) and not (heads and "backbone" not in name.split(".")):
            module.frozen = frozen
            module.train(model.training)


def _has_backbone(model: nn.Module) -> bool:
    return any("backbone" in name.split(".") for name, _ in model.named_modules())
