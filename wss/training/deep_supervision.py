"""Deep supervision: the labels also train the coarser levels of a U-Net's decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional

from wss.losses import partial_cross_entropy
from wss.methods import Batch, Method, Phase
from wss.networks import UNet
from wss.networks.unet import Side


def supervised_weight(method: Method, phase: Phase) -> float:
    """Largest weight of the method's supervised terms in this phase; 0 if the phase has none."""
    return max((phase.terms.get(name, 0.0) for name in method.supervised_terms), default=0.0)


@contextmanager
def recorded_sides(model: nn.Module) -> Iterator[list[Side]]:
    """Record the side logits of the first forward pass inside the block, for models that contain a U-Net with side classifiers.

    Yields:
        An empty list. The forward pass fills it, coarse to fine. It stays empty if the model has no side classifiers.
    """
    network = next((part for part in model.modules() if isinstance(part, UNet) and len(part.side_classifiers)), None)
    sides: list[Side] = []
    if network is None:
        yield sides
        return
    network.recorded = sides
    try:
        yield sides
    finally:
        network.recorded = None


def deep_supervision(sides: Sequence[Side], batch: Batch) -> Tensor:
    """Weighted sum of partial cross-entropies of side logits. Each level has half the weight of the next finer one.

    Args:
        sides: Side logits with their strides, coarse to fine. The images may have been padded at the right and at the bottom.
        batch: The batch, with labels (B,H,W).

    Returns:
        A scalar: sum over levels i = 0, 1, ..., fine to coarse, of 2^-i times the cross-entropy. 0 without sides.

    Source: Lee et al. 2015, "Deeply-Supervised Nets", arXiv:1409.5185; the weights halve as in Isensee et al. 2021, "nnU-Net".
    Differs: logits are interpolated to the labels' size; nnU-Net reduces the labels, which loses thin scribbles.
    """
    height, width = batch.labels.shape[1:]
    loss = batch.rgb.new_zeros(())
    for level, (logits, stride) in enumerate(reversed(sides)):
        size = (logits.shape[2] * stride, logits.shape[3] * stride)
        whole = functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        loss = loss + 0.5**level * partial_cross_entropy(whole[:, :, :height, :width], batch.labels)
    return loss
