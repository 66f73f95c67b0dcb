"""RAWKS: a boundary network that propagates scribbles by random walks, trained with the segmentation network."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.losses import rawks_loss
from wss.methods.coarse import cell_means, coarse_labels
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec, build_network
from wss.ops import colour_gradient, hitting_probabilities, reachable

_FAINT, _WALL = 0.01, 1e3
"""Limits of the image's own boundaries. Within them the network can still raise a low one and lower a high one."""


class RawksNetwork(Segmenter):
    """The segmentation network Q, which makes the predictions, and the boundary network B.

    Args:
        spec: Architecture of both networks.
        num_classes: K, background included.
        stride: Side in pixels of the grid cells on which the random walks run.
        edge_strength: See ``Rawks``.
        edge_power: See ``Rawks``.
    """

    def __init__(
        self, spec: NetworkSpec, num_classes: int, stride: int, edge_strength: float, edge_power: float
    ) -> None:
        super().__init__(spec, num_classes)
        self.boundary_network = build_network(spec.model_copy(update={"deep_supervision": 0.0}), 1)
        self.stride = stride
        self.edge_strength = edge_strength
        self.edge_power = edge_power

    def boundary(self, rgb: Tensor, stride: int | None = None) -> Tensor:
        """Boundary scores B >= 0, float32 (B,ceil(H/stride),ceil(W/stride)), of images (B,3,H,W) in 0..255.

        Args:
            rgb: Images.
            stride: Side of the scored cells in pixels; None is the stride of training. A walk through a cell crosses
                ``stride`` pixels, so smaller cells have smaller scores.
        """
        stride = stride or self.stride
        scores = functional.softplus(self._on_grid(self.boundary_network, rgb, stride))[:, 0]
        return scores * (self._seen(rgb, stride) if self.edge_strength > 0 else stride / self.stride)

    @torch.no_grad()
    def _seen(self, rgb: Tensor, stride: int) -> Tensor:
        """Boundaries from the image's colour gradient, on the grid."""
        seen = self.edge_strength * colour_gradient(rgb.float()) ** self.edge_power
        return (stride * cell_means(seen, stride)).clamp(_FAINT, _WALL)

    def logits(self, rgb: Tensor) -> Tensor:
        """Logits of Q on the grid of the walks, float32 (B,K,ceil(H/stride),ceil(W/stride))."""
        return self._on_grid(self.network, rgb, self.stride)

    def _on_grid(self, network: nn.Module, rgb: Tensor, stride: int) -> Tensor:
        height, width = rgb.shape[2:]
        whole = (0, -width % stride, 0, -height % stride)  # aligns the cells with those of the labels
        maps = network(functional.pad(self.normalise(rgb), whole, mode="replicate")).float()
        size = [-(-side // stride) for side in (height, width)]
        return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


class Rawks(CrossEntropyMethod):
    """Random-walk label propagation learned with the network.

    The term ``rawks`` trains Q and B together on equation (11). The term ``fixed`` is the same loss with a constant P,
    so only Q is trained. It is the second phase of the protocol "train P, Q, then Q"; freeze ``boundary_network`` in
    such a phase. The term ``pce`` is partial cross-entropy.

    Source: Vernaza, Chandraker 2017, "Learning Random-Walk Label Propagation for Weakly-Supervised Semantic Segmentation",
        (11) and section 4.
    Differs: alpha, the nonlinearity of B (softplus) and the learning rates are not published. The paper learns B from
        scratch; with ``edge_strength`` above 0 it starts from the colour gradients of the image.
    """

    name: Literal["rawks"] = "rawks"
    summary: ClassVar[str] = "random-walk label propagation learned together with the network"
    differs: ClassVar[str] = (
        "alpha, learning rates and lengths are ours: the paper gives none; the pipeline walks at stride 1, not stride 4"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"rawks", "fixed", "pce"})
    supervised_terms: ClassVar[frozenset[str]] = term_names

    alpha: float = Field(default=1.0, ge=0)
    """Rate at which uncertain propagated labels lose weight. A larger value ignores uncertain pixels more. Not
    published."""
    stride: int = Field(default=4, ge=1)
    """Side in pixels of the grid cells on which random walks run. A larger value is faster and coarser. The paper's
    networks have outputs at a quarter of the resolution."""

    edge_strength: float = Field(default=0.0, ge=0)
    """If above 0, the boundary network's output is multiplied by ``edge_strength`` x (colour gradient)^``edge_power``.
    B then starts near the boundaries of the propagation ``random-walk``. 0 is the paper's B, which does not use the
    gradient."""
    edge_power: float = Field(default=2.0, gt=0)
    """Exponent of the colour gradient. A larger value gives weak gradients less influence. With 2 and a strength of
    300, walks stay uncertain at weak boundaries, so the weights of the loss have an effect. With 4 and 1e6 nearly all
    pixels are certain from the start."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """Build both networks, see ``RawksNetwork``."""
        return RawksNetwork(network, num_classes, self.stride, self.edge_strength, self.edge_power)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        both = cast(RawksNetwork, model)
        losses = {}
        if "pce" in terms:
            losses["pce"] = self.cross_entropy(model(batch.rgb), batch)
        if "rawks" in terms or "fixed" in terms:
            logits = both.logits(batch.rgb)
            learns = "rawks" in terms
            both.boundary_network.train(both.training and learns)  # a fixed network also keeps its statistics
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                boundary = both.boundary(batch.rgb)
            scribble = coarse_labels(batch.labels, self.stride, logits.shape[1])
            valid = cell_means(batch.valid.float(), self.stride) > 0
            with torch.autocast(logits.device.type, enabled=False):
                boundary = boundary.masked_fill(~valid, torch.inf)
                walk = hitting_probabilities(boundary, scribble, logits.shape[1])
                valid = valid & reachable(boundary, scribble)
                if "rawks" in terms:
                    losses["rawks"] = rawks_loss(walk, logits, alpha=self.alpha, valid=valid)
                if "fixed" in terms:
                    losses["fixed"] = rawks_loss(walk.detach(), logits, alpha=self.alpha, valid=valid)
        return losses
