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
from wss.ops.crf_kernel import CrfKernel


class RefinedSegmenter(Segmenter):
    """A segmentation network followed by a CRF layer.

    Args:
        spec: The network.
        num_classes: K, background included.
        crf: The CRF layer. It takes logits and images, see ``CRFLayer``.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, crf: CRFLayer) -> None:
        super().__init__(spec, num_classes)
        self.crf = crf

    def forward(self, rgb: Tensor, every: bool = False, valid: Tensor | None = None) -> Any:
        """Log-probabilities (B,K,H,W) after the CRF, of RGB images (B,3,H,W) in 0..255.

        Args:
            rgb: Images.
            every: Skip the CRF and return a list: the logits of the network, and those of each scale (see
                ``Segmenter``).
            valid: bool (B,H,W), False on padding beyond the image. Padding takes no part in the CRF.
        """
        outputs = super().forward(rgb, every)
        return outputs if every else self.crf(outputs, rgb, valid)


class CrfRnn(CrfKernel, CrossEntropyMethod):
    """Partial cross-entropy of a network, then of the network and a CRF layer together.

    The term ``pce`` is the partial cross-entropy of the network's own output; it does not run the CRF. The term ``crf``
    is the partial cross-entropy of the CRF's output. At test time the CRF always runs, even after a first phase that
    did not train it. If the network sees several scales, the CRF refines the maximum of their logits.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", section 4.3 and Table 4; Zheng et
    al. 2015, "Conditional Random Fields as Recurrent Neural Networks".
    Differs: the paper does not publish the CRF's settings; the defaults are those of Zheng et al.'s code.
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
    """Initial weight of the position kernel. Training changes it for each class."""
    pos_xy_std: float = Field(default=3.0, gt=0)
    """Standard deviation of the position kernel in pixels."""
    bi_weight: float = Field(default=5.0, ge=0)
    """Initial weight of the bilateral kernel. Training changes it for each class."""
    bi_xy_std: float = Field(default=160.0, gt=0)
    """Spatial standard deviation of the bilateral kernel in pixels, for images of 375x500."""
    bi_rgb_std: float = Field(default=3.0, gt=0)
    """Colour standard deviation of the bilateral kernel, 0-255 units."""
    normalisation: Literal["rows", "symmetric"] = "rows"
    """Normalisation of the filter. ``rows``: weighted averages, as in CRF-as-RNN. ``symmetric``: as in the stage
    ``crf``."""
    iterations: int = Field(default=5, ge=1)
    """Number of mean-field iterations in training."""
    test_iterations: int = Field(default=10, ge=1)
    """Number of mean-field iterations at test time."""
    rate: float = Field(default=1.0, ge=0)
    """Learning rate of the CRF's parameters as a multiple of the phase's ``lr``. 0 keeps them fixed. They have no
    weight decay."""

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        crf = CRFLayer(
            num_classes,
            **self.kernels(),
            iterations=self.iterations,
            test_iterations=self.test_iterations,
            normalisation=self.normalisation,
            rate=self.rate,
        )
        return RefinedSegmenter(network, num_classes, crf)

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        logits, pce = self.cross_entropy_of(model, batch)
        losses = {"pce": pce}
        if "crf" in terms:
            refined = model.get_submodule("crf")(logits, batch.rgb, batch.valid)
            losses["crf"] = self.cross_entropy(refined, batch)
        return losses
