"""BPG: a branch refines predictions with image detail, another learns region boundaries from edge maps."""

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
    """A segmentation network with the two branches of BPG, which both take its logits.

    Args:
        spec: The network.
        num_classes: K, background included.
        refine: Add the refinement branch.
        regressed: Number of input channels of the boundary branch; 0 adds no boundary branch.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, *, refine: bool, regressed: int) -> None:
        super().__init__(spec, num_classes)
        self.refinement = PredictionRefinement(self.network.output_stride) if refine else None
        self.boundary = BoundaryRegression(regressed) if regressed else None

    def forward(self, rgb: Tensor, coarse: bool = False) -> Tensor:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255.

        Args:
            rgb: Images.
            coarse: Return the network's own logits instead, (B,K,h,w) at its stride.
        """
        logits: Tensor = self.network(self.normalise(rgb)).float()
        return logits if coarse else self.refine(logits, rgb)

    def refine(self, logits: Tensor, rgb: Tensor) -> Tensor:
        """Logits (B,K,H,W) from the network's own logits: refined, or interpolated if there is no refinement branch."""
        if self.refinement is None:
            return functional.interpolate(logits, rgb.shape[2:], mode="bilinear", align_corners=False)
        refined: Tensor = self.refinement(logits, self.normalise(rgb))
        return refined


class Bpg(CrossEntropyMethod):
    """Boundary perception guidance.

    The term ``pce`` is the partial cross-entropy of the refined prediction. The term ``boundary`` is the error of the
    edges that are regressed from the network's own logits. Its weight is the paper's lambda, or 30 times lambda (see
    below). Edge maps are needed in training only.

    With ``boundary: level`` there is no boundary branch. The edges are 4 p (1 - p), with p the probability of the
    background: 1 where the network cannot tell background from objects, 0 where it is certain. A branch with its own
    convolutions can read the edges from other patterns in the logits; then the borders of the prediction need not move.

    ``refine`` and ``boundary`` are the ablations of the paper: False and ``none`` train the plain network. With
    ``boundary: none`` the term ``boundary`` is 0, so an ablation changes only these two settings.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", (2) to (4),
        Tables 1 and 2.
    Differs: the paper writes both losses as sums over pixels. We take means, over labelled pixels for ``pce`` and over
        all pixels for ``boundary`` (see ``boundary_regression_loss``). By the paper's formulas its lambda of 1 then
        equals a weight of 1 / (labelled share of the pixels), about 30 for scribbles. By its reported numbers, which
        are means, it equals a weight of 1. The paper does not say from which logits the edges are regressed if there is
        a refinement branch. We take the two branches as parallel, both on the network's logits. ``boundary: level`` is
        ours.
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
    """Refine predictions to full resolution with detail from the image (PRN). False interpolates them."""
    boundary: Literal["none", "fg-bg", "all", "level"] = "fg-bg"
    """Input from which edges are regressed. ``none``: no edges. ``fg-bg``: convolutions (BRN) on the largest foreground
    logit and the background logit. ``all``: convolutions on all logits. ``level``: no convolutions; edges are where the
    probability of the background is near 1/2."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        regressed = {"none": 0, "fg-bg": 2, "all": num_classes, "level": 0}[self.boundary]
        return BoundaryGuided(network, num_classes, refine=self.refine, regressed=regressed)

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """See ``Method.check``: ``fg-bg`` and ``level`` need a background class and a foreground class."""
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
        losses = {"pce": self.cross_entropy(guided.refine(logits, batch.rgb), batch)}
        if "boundary" in terms:
            losses["boundary"] = logits.new_zeros(())
            if self.boundary != "none":
                edges = self.regressed_edges(guided, logits, batch.background, batch.rgb.shape[2:])
                losses["boundary"] = boundary_regression_loss(edges, batch.maps["edges"], valid=batch.valid)
        return losses

    def regressed_edges(
        self, model: BoundaryGuided, logits: Tensor, background: int | None, size: Sequence[int]
    ) -> Tensor:
        """Edge maps regressed from the logits, float32 (B,H,W) in 0..1.

        Args:
            model: A network with a boundary branch. With ``boundary: level`` any network of this method.
            logits: The network's own logits (B,K,h,w), before refinement.
            background: Index of the background class.
            size: H and W.

        Raises:
            UsageError: The network has no boundary branch, or ``boundary`` is ``fg-bg`` or ``level`` and there is no
                background class.
        """
        if self.boundary == "level":
            return background_level(logits, background, size)
        if model.boundary is None:
            raise UsageError("this network was trained without a boundary branch: it regresses no edges")
        maps = logits if self.boundary == "all" else foreground_background(logits, background)
        edges: Tensor = model.boundary(maps, size)
        return edges
