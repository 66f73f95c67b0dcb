"""BPG: predictions refined with detail from the image, and edge maps that teach where regions end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import boundary_regression_loss
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.networks.layers.boundary import BoundaryRegression, background_level, foreground_background
from wss.networks.layers.refinement import PredictionRefinement


class BoundaryGuided(Segmenter):
    """A segmentation network with the branches of BPG beside each other on its logits.

    Args:
        spec: The network.
        num_classes: K, background included.
        refine: With a refinement branch.
        regressed: Maps that the boundary branch sees; 0 for no such branch.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, *, refine: bool, regressed: int) -> None:
        super().__init__(spec, num_classes)
        self.refinement = PredictionRefinement(self.network.output_stride) if refine else None
        self.boundary = BoundaryRegression(regressed) if regressed else None

    def forward(self, rgb: Tensor, coarse: bool = False) -> Tensor:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255.

        Args:
            rgb: Images.
            coarse: Give the network's own logits, (B,K,h,w) at its stride.
        """
        logits: Tensor = self.network(self.normalise(rgb)).float()
        return logits if coarse else self.refine(logits, rgb)

    def refine(self, logits: Tensor, rgb: Tensor) -> Tensor:
        """Logits (B,K,H,W) of the network's own: refined, or interpolated where there is no refinement branch."""
        if self.refinement is None:
            return functional.interpolate(logits, rgb.shape[2:], mode="bilinear", align_corners=False)
        refined: Tensor = self.refinement(logits, self.normalise(rgb))
        return refined


class Bpg(CrossEntropyMethod):
    """Boundary perception guidance.

    The term ``pce`` is partial cross-entropy of the refined prediction, ``boundary`` the error of the edges regressed from the
    network's own logits; its weight is the paper's lambda, or 30 times that (see below). Edges are learned from in training only.

    With ``boundary: level`` there is no boundary branch: the edges are 4 p (1 - p), p being the probability of the background.
    That is 1 where the network cannot tell background from objects and 0 where it is sure. A branch with convolutions of its
    own can draw the edges from other traces in the logits and leave the borders of the prediction where they are.

    ``refine`` and ``boundary`` are the ablations of the paper: False and ``none`` train the plain network. Without a boundary
    branch the term ``boundary`` is 0, so that these two settings are all that an ablation changes.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", (2) to (4),
        Tables 1 and 2.
    Differs: the paper writes both losses as sums over pixels; we take means, over labelled pixels and over all (see
        ``boundary_regression_loss``). By its formulas its lambda of 1 is then a weight of one over the labelled share of the
        pixels, about 30 for scribbles; by its figures, which are means, it is a weight of 1. The paper does not say which
        logits edges are regressed from when there is a refinement: we take its two branches as parallel, both on the network's
        logits. ``boundary: level`` is ours.
    """

    name: Literal["bpg"] = "bpg"
    summary: ClassVar[str] = "refined predictions and edges regressed from them; needs edge maps"
    differs: ClassVar[str] = (
        "edges are those of the embedded detector instead of HED (--set edges.detector=hed --set edges.weights=FILE)"
    )
    stored_features: ClassVar[bool] = True
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "boundary"})
    needs: ClassVar[frozenset[str]] = frozenset({"edges"})

    refine: bool = True
    """Refine predictions up to full resolution with detail from the image (PRN)."""
    boundary: Literal["none", "fg-bg", "all", "level"] = "fg-bg"
    """What edges are regressed from: nothing; by convolutions (BRN) from the largest foreground logit and the background's, or
    from all logits; or, without convolutions, from the doubt about the background (``level``)."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        regressed = {"none": 0, "fg-bg": 2, "all": num_classes, "level": 0}[self.boundary]
        return BoundaryGuided(network, num_classes, refine=self.refine, regressed=regressed)

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """See ``Method.check``: the classes that the boundary branch tells apart are there."""
        super().check(terms, num_classes, background)
        if "boundary" in terms and self.boundary in ("fg-bg", "level"):
            foreground_background(torch.empty(1, num_classes, 1, 1), background)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``.

        Raises:
            UsageError: ``boundary`` is ``fg-bg`` or ``level`` and the data set has no background class.
        """
        guided = cast(BoundaryGuided, model)
        logits = model(batch.rgb, coarse=True)
        found = {"pce": self.cross_entropy(guided.refine(logits, batch.rgb), batch)}
        if "boundary" in terms:
            found["boundary"] = logits.new_zeros(())
            if self.boundary != "none":
                edges = self.regressed_edges(guided, logits, batch.background, batch.rgb.shape[2:])
                found["boundary"] = boundary_regression_loss(edges, batch.maps["edges"], valid=batch.valid)
        return found

    def regressed_edges(
        self, model: BoundaryGuided, logits: Tensor, background: int | None, size: Sequence[int]
    ) -> Tensor:
        """Edge maps, float32 (B,H,W) in 0..1, that the boundary branch regresses.

        Args:
            model: A network with a boundary branch, or any of this method where ``boundary`` is ``level``.
            logits: Its own logits (B,K,h,w), before refinement.
            background: Index of the background class.
            size: H and W.

        Raises:
            UsageError: No boundary branch; or ``boundary`` is ``fg-bg`` or ``level`` and there is no background class.
        """
        if self.boundary == "level":
            return background_level(logits, background, size)
        if model.boundary is None:
            raise UsageError("this network was trained without a boundary branch: it regresses no edges")
        maps = logits if self.boundary == "all" else foreground_background(logits, background)
        edges: Tensor = model.boundary(maps, size)
        return edges
