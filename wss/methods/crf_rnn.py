"""A CRF as the last layer of the network, trained end to end with partial cross-entropy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.networks.layers.crf import CRFLayer


class RefinedSegmenter(Segmenter):
    """A segmentation network with a CRF layer behind it.

    Args:
        spec: The network.
        num_classes: K, background included.
        crf: Takes logits and images, see ``CRFLayer``.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, crf: CRFLayer) -> None:
        super().__init__(spec, num_classes)
        self.crf = crf

    def forward(self, rgb: Tensor, every: bool = False, valid: Tensor | None = None) -> Any:
        """Log-probabilities (B,K,H,W) after the CRF, of RGB images (B,3,H,W) in 0..255.

        Args:
            rgb: Images.
            every: Leave the CRF out and give a list: the logits of the network itself, and those of each scale (``Segmenter``).
            valid: bool (B,H,W), False where a crop reaches beyond its image, which takes no part in the CRF.
        """
        outputs = super().forward(rgb, every)
        return outputs if every else self.crf(outputs, rgb, valid)


class CrfRnn(CrossEntropyMethod):
    """Partial cross-entropy of a network, then of network and CRF layer together.

    The term ``pce`` is that of the network's own output and runs no CRF; the term ``crf`` is that of the CRF's output. At test
    time the CRF always takes part, also after a first phase that has not trained it. Where the network sees several scales,
    the CRF refines their largest logits.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", section 4.3 and Table 4; Zheng et
    al. 2015, "Conditional Random Fields as Recurrent Neural Networks".
    Differs: the paper does not publish the CRF's settings; ours are those of Zheng et al.'s code.
    """

    name: Literal["crf-rnn"] = "crf-rnn"
    summary: ClassVar[str] = "partial cross-entropy, then end to end through a trainable CRF layer"
    differs: ClassVar[str] = (
        "the pipeline's CRF is for images of about 100x130; CRF-as-RNN's settings are the method's defaults"
    )
    term_names: ClassVar[frozenset[str]] = frozenset({"pce", "crf"})
    cross_entropy_terms: ClassVar[frozenset[str]] = term_names
    supervised_terms: ClassVar[frozenset[str]] = term_names
    multi_scale: ClassVar[bool] = True

    pos_weight: float = Field(default=3.0, ge=0)
    """Initial weight of the position kernel; the trained one may leave it, class by class."""
    pos_xy_std: float = Field(default=3.0, gt=0)
    """Its standard deviation in pixels."""
    bi_weight: float = Field(default=5.0, ge=0)
    """Initial weight of the bilateral kernel."""
    bi_xy_std: float = Field(default=160.0, gt=0)
    """Its standard deviation in pixels, for images of 375x500."""
    bi_rgb_std: float = Field(default=3.0, gt=0)
    """Its standard deviation in colour, 0-255 units."""
    normalisation: Literal["rows", "symmetric"] = "rows"
    """``rows``: averages, as CRF-as-RNN; ``symmetric``: as the ``crf`` stage."""
    iterations: int = Field(default=5, ge=1)
    """Mean-field iterations in training."""
    test_iterations: int = Field(default=10, ge=1)
    """Mean-field iterations at test time."""
    rate: float = Field(default=1.0, ge=0)
    """Learning rate of the CRF's parameters as a multiple of the phase's ``lr``; 0 keeps them fixed. They have no decay."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        crf = CRFLayer(
            num_classes,
            pos_weight=self.pos_weight,
            pos_xy_std=self.pos_xy_std,
            bi_weight=self.bi_weight,
            bi_xy_std=self.bi_xy_std,
            bi_rgb_std=self.bi_rgb_std,
            iterations=self.iterations,
            test_iterations=self.test_iterations,
            normalisation=self.normalisation,
            rate=self.rate,
        )
        return RefinedSegmenter(network, num_classes, crf)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        found = {"pce": pce}
        if "crf" in terms:
            refined = model.get_submodule("crf")(logits, batch.rgb, batch.valid)
            found["crf"] = self.cross_entropy(refined, batch)
        return found
