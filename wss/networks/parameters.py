"""The parts of a network that training treats differently: backbone and head, weights, biases and normalisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.crf import CRFLayer


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning-rate multiple and a weight decay.

    Attributes:
        head: Outside the backbone; a CRF layer is neither.
        bias: Biases and the shifts of normalisation layers.
        decay: Weight decay is meant for them: neither biases nor scales of normalisation layers nor single numbers (how far a
            random walk goes) nor a CRF's weights, which are at rest where the CRF was set, not at 0.
        parameters: At least one.
        rate: Multiple of the learning rate that their layer asks for.
    """

    head: bool
    bias: bool
    decay: bool
    parameters: tuple[nn.Parameter, ...]
    rate: float = 1.0


def parameter_groups(model: nn.Module) -> list[ParameterGroup]:
    """Split the parameters of a model, each in exactly one group, in a fixed order and without empty groups.

    The backbone is what lies below a module called ``backbone``, however deep. A model without any (a U-Net) has
    nothing pre-trained to be careful with: all of it counts as backbone and learns at the base rate.

    Args:
        model: A segmentation network or whatever contains one.
    """
    found: dict[tuple[bool, bool, bool, float], list[nn.Parameter]] = {
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
                found.setdefault((False, False, False, module.rate), []).append(parameter)
                continue
            bias = leaf == "bias" or leaf.endswith("_bias")
            normalises = isinstance(module, _BatchNorm | nn.GroupNorm | nn.LayerNorm)
            found[head, bias, not (bias or normalises or parameter.ndim == 0), 1.0].append(parameter)
    return [
        ParameterGroup(head, bias, decay, tuple(parameters), rate)
        for (head, bias, decay, rate), parameters in found.items()
        if parameters
    ]


def freeze_batch_norm(model: nn.Module, frozen: bool = True) -> None:
    """Hold the backbone's batch normalisation at its stored statistics, through later ``train()`` calls, or release it.

    Heads keep learning their statistics. In a model without a backbone every batch normalisation is held. Released
    modules follow the mode of the model again.

    Args:
        model: A segmentation network or whatever contains one.
        frozen: False releases.
    """
    heads = _has_backbone(model)
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm2d) and not (heads and "backbone" not in name.split(".")):
            module.frozen = frozen
            module.train(model.training)


def _has_backbone(model: nn.Module) -> bool:
    return any("backbone" in name.split(".") for name, _ in model.named_modules())
