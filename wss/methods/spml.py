"""SPML: pixels embedded so that those of one meaning are close, and a classifier that reads their classes off."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.methods.segmenter import Segmenter
from wss.networks import NetworkSpec
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import initialise, initialise_classifier


class EmbeddingSegmenter(Segmenter):
    """A network that embeds pixels on the unit sphere, with a softmax classifier on the embedding.

    The last layer of the network, which usually gives logits, gives the embedding instead: of a DeepLab-v2 the summed ASPP, of
    others one convolution of their features.

    Args:
        spec: The network.
        num_classes: K, background included.
        dimension: Channels of the embedding.
        stride: Of the embedding, in pixels.
        dropout: In front of the classifier's last convolution.

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", section 3.2,
        A.4: DeepLab with ResNet-101, unit-length embeddings of 64 channels, a softmax classifier on the fixed embedding. The
        classifier's form, a 3x3 convolution to twice the channels with batch normalisation, ReLU and dropout and then one of
        1x1, and the doubling of the embedding from stride 8 to 4 are those of the authors' code.
    Differs: networks of other strides are brought to ``stride`` too: finer ones by averaging, coarser ones by bilinear
        interpolation.
    """

    def __init__(
        self, spec: NetworkSpec, num_classes: int, *, dimension: int = 64, stride: int = 4, dropout: float = 0.65
    ) -> None:
        super().__init__(spec, dimension)
        self.stride = stride
        self.classifier = nn.Sequential(
            nn.Conv2d(dimension, 2 * dimension, 3, padding=1, bias=False),
            BatchNorm2d(2 * dimension),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(2 * dimension, num_classes, 1),
        )
        initialise(self.classifier)
        initialise_classifier(self.classifier[-1])

    def embed(self, rgb: Tensor) -> Tensor:
        """Embedding, float32 (B,C,ceil(H/stride),ceil(W/stride)) of length 1, of images (B,3,H,W) in 0..255."""
        height, width = rgb.shape[2:]
        unit = max(self.stride, self.network.output_stride)
        whole = (0, -width % unit, 0, -height % unit)  # so that cells lie where those of the labels do
        features: Tensor = self.network(functional.pad(self.normalise(rgb), whole, mode="replicate")).float()
        if self.stride > self.network.output_stride:
            features = functional.avg_pool2d(features, self.stride // self.network.output_stride)
        elif self.stride < self.network.output_stride:
            scale = self.network.output_stride // self.stride
            features = functional.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=False)
        features = features[:, :, : -(-height // self.stride), : -(-width // self.stride)]
        return functional.normalize(features, dim=1)

    def classify(self, embedding: Tensor, size: torch.Size) -> Tensor:
        """Logits, float32 (B,K,*size), of an embedding (B,C,h,w) of images of that size."""
        logits: Tensor = self.classifier(embedding).float()
        logits = functional.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return logits[:, :, : size[0], : size[1]]

    def forward(self, rgb: Tensor, embedded: bool = False) -> Tensor:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255; no gradient flows from them into the embedding.

        Args:
            rgb: Images.
            embedded: Give the embedding instead.
        """
        embedding = self.embed(rgb)
        return embedding if embedded else self.classify(embedding.detach(), rgb.shape[2:])
