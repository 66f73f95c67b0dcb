"""Tree energy: partial cross-entropy, and predictions drawn to their averages along spanning trees."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.losses import tree_energy_loss, tree_targets
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter


class TreeEnergy(CrossEntropyMethod):
    """Partial cross-entropy on labelled pixels and the tree energy loss on the others.

    The term ``tree`` (0.4 in the published settings) is computed at the network's output stride, from its logits there, the image
    reduced to that size, and the features that are classified.

    Source: Liang et al. 2022, "Tree Energy Loss: Towards Sparsely Annotated Semantic Segmentation", arXiv:2203.10739.
    Differs: targets are constants; in the published code gradients pass through both filters, and a branch of the network is
        trained by them to give the features of the high-level tree. Here these are the network's own, scaled to unit length, and
        ``sigma_feature`` says what counts as near.
    """

    name: Literal["tree-energy"] = "tree-energy"
    summary: ClassVar[str] = "partial cross-entropy with averages along spanning trees as soft labels beside it"
    stored_features: ClassVar[bool] = True
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "tree"})
    uses_unlabelled: ClassVar[bool] = True

    sigma_colour: float = Field(default=0.02, gt=0)
    """Scale of squared differences between colours, as normalised for the network, along the tree. Published: 0.02 (VOC), 0.002
    (Cityscapes)."""
    sigma_feature: float = Field(default=1.0, gt=0)
    """Scale of squared differences between features of unit length along the tree; not published."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        segmenter = cast(Segmenter, model)
        images = segmenter.normalise(batch.rgb)
        features = segmenter.network.forward_features(images)
        logits = segmenter.network.classify(features).float()
        whole = functional.interpolate(logits, batch.rgb.shape[2:], mode="bilinear", align_corners=False)
        found = {"pce": self.cross_entropy(whole, batch)}
        if "tree" in terms:
            size = (logits.shape[2], logits.shape[3])
            probs = logits.softmax(1)
            valid = _nearest(batch.valid, size)
            targets = tree_targets(
                probs,
                functional.interpolate(images, size, mode="bilinear", align_corners=False),
                functional.normalize(features.detach().float(), dim=1),
                sigma_colour=self.sigma_colour,
                sigma_feature=self.sigma_feature,
                valid=valid,
            )
            found["tree"] = tree_energy_loss(probs, targets, counted=valid & _nearest(batch.labels == 255, size))
        return found


def _nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A bool mask (B,H,W) at another size."""
    return functional.interpolate(mask[:, None].float(), size, mode="nearest")[:, 0] > 0
