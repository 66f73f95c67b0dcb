"""Tree energy: partial cross-entropy, and a loss that pulls predictions to their averages along spanning trees."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wss.labels import UNLABELLED
from wss.losses import tree_energy_loss, tree_targets
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter


class TreeEnergy(CrossEntropyMethod):
    """Partial cross-entropy on labelled pixels and the tree energy loss on unlabelled pixels.

    The term ``tree`` (weight 0.4 in the published settings) is computed at the network's output stride. It uses the
    logits there, the image reduced to that size, and the features before the classifier.

    Source: Liang et al. 2022, "Tree Energy Loss: Towards Sparsely Annotated Semantic Segmentation", arXiv:2203.10739.
    Differs: targets are constants. In the published code gradients flow through both filters and train an extra branch
        of the network, which gives the features of the high-level tree. Here the tree uses the network's own features,
        scaled to unit length; ``sigma_feature`` is the scale of their distances.
    """

    name: Literal["tree-energy"] = "tree-energy"
    summary: ClassVar[str] = "partial cross-entropy plus soft labels: predictions averaged along spanning trees"
    stored_features: ClassVar[bool] = True
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "tree"})
    uses_unlabelled: ClassVar[bool] = True

    sigma_colour: float = Field(default=0.02, gt=0)
    """Scale of squared colour differences along the tree, for colours as normalised for the network. A larger value
    averages over less similar colours. Published: 0.02 (VOC), 0.002 (Cityscapes)."""
    sigma_feature: float = Field(default=1.0, gt=0)
    """Scale of squared differences along the tree between features of unit length. A larger value averages over less
    similar features. Not published."""

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        segmenter = cast(Segmenter, model)
        images = segmenter.normalise(batch.rgb)
        features = segmenter.network.forward_features(images)
        logits = segmenter.network.classify(features).float()
        whole = functional.interpolate(logits, batch.rgb.shape[2:], mode="bilinear", align_corners=False)
        losses = {"pce": self.cross_entropy(whole, batch)}
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
            losses["tree"] = tree_energy_loss(
                probs, targets, counted=valid & _nearest(batch.labels == UNLABELLED, size)
            )
        return losses


def _nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A bool mask (B,H,W) resized to ``size`` by nearest neighbours."""
    return functional.interpolate(mask[:, None].float(), size, mode="nearest")[:, 0] > 0
