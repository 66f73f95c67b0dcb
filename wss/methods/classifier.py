"""Image classification from tags; the class score maps of the network locate the classes."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.losses import mean_over_batch
from wss.methods.method import Batch, Method
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec


class ClassMaps(Segmenter):
    """A segmentation network that gives class maps (B,K,H,W): one 1x1 convolution without bias replaces its classifier.

    The means of the maps over the image are the logits of image classification. One forward pass therefore gives the
    class activation maps and the classes. The convolution starts at zero and the background is not trained, so the
    background's map stays zero. Where no class has a positive score, the largest map is the background's: a rough
    segmentation.

    Source: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", arXiv:1512.04150, (1) and (2).
    """

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__(spec, num_classes)
        self.network.classifier = nn.Conv2d(self.network.feature_channels, num_classes, 1, bias=False)
        nn.init.zeros_(self.network.classifier.weight)


class Classifier(Method):
    """Multi-label classification: global average pooling of class maps, binary cross-entropy with the image's tags.

    Every network can be used. Of a DeepLab-v2 only the backbone remains, because its pyramid is the classifier that is
    replaced. In a DeepLabv3+ every pixel sees the mean of the image, which blurs the position of a class. A map shows
    what distinguishes images with the class from images without it. If nearly every image has the class, its map is
    positive everywhere and useless.
    """

    name: Literal["classifier"] = "classifier"
    summary: ClassVar[str] = "image classification from tags, for class activation maps (`wss cam`)"
    term_names: ClassVar[frozenset[str]] = frozenset({"bce"})
    needs: ClassVar[frozenset[str]] = frozenset({"tags"})

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``ClassMaps``."""
        return ClassMaps(network, num_classes)

    def check(self, terms: Collection[str], num_classes: int, background: int | None) -> None:
        """See ``Method.check``: at least one class besides the background is needed."""
        if num_classes < 1 + (background is not None):
            raise UsageError("a classifier needs at least one class besides the background")

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``.

        Raises:
            UsageError: The background is the only class.
        """
        scores, tags = pooled(model(batch.rgb), batch.valid), batch.image_tags
        foreground = [k for k in range(tags.shape[1]) if k != batch.background]
        if not foreground:
            raise UsageError("a classifier needs at least one class besides the background")
        wanted = tags[:, foreground].to(scores.dtype)
        loss = functional.binary_cross_entropy_with_logits(scores[:, foreground], wanted, reduction="none")
        return {"bce": mean_over_batch(loss)}


def pooled(maps: Tensor, valid: Tensor) -> Tensor:
    """Class scores (B,K): means of class maps (B,K,H,W) over the pixels where ``valid``, bool (B,H,W), is True."""
    inside = valid[:, None].to(maps.dtype)
    return (maps * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
