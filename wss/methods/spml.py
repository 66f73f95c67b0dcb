"""SPML: a contrastive pixel embedding by superpixel, label and co-occurring classes, with a classifier on top."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wss.labels import UNLABELLED
from wss.losses import segsort_loss
from wss.losses.segsort import LARGEST_CONCENTRATION
from wss.methods.coarse import cell_centres, cell_means, coarse_labels
from wss.methods.cross_entropy import CrossEntropyMethod
from wss.methods.memory_bank import MemoryBank
from wss.methods.method import Batch
from wss.methods.segmenter import Segmenter, lazy_walk
from wss.networks import NetworkSpec
from wss.networks.layers.batch_norm import BatchNorm2d
from wss.networks.layers.convolution import initialise, initialise_classifier
from wss.networks.layers.dropout import Dropout
from wss.ops import nearest, segment_labels, segment_prototypes, spherical_kmeans, split_segments
from wss.ops.segments import Segments
from wss.ops.spherical_kmeans import with_places

CONTRASTS = frozenset({"similarity", "annotation", "cooccurrence", "affinity"})


class EmbeddingSegmenter(Segmenter):
    """A network that embeds pixels on the unit sphere, with a softmax classifier on the embedding.

    The last layer of the network, which usually gives logits, gives the embedding instead. In a DeepLab-v2 this layer
    is the summed ASPP, in other networks a convolution of the features.

    Args:
        spec: The network.
        num_classes: K, background included.
        dimension: Channels of the embedding.
        stride: Stride of the embedding in pixels.
        classifier: ``linear`` or ``convolution``, see ``Spml.classifier``.
        dropout: Dropout rate before the last layer of the classifier ``convolution``.
        bank_batches: Number of batches that ``bank`` keeps in training.

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", section 3.2,
        A.4: DeepLab with ResNet-101, unit-length embeddings of 64 channels, a softmax classifier on the fixed embedding. The
        classifier ``convolution`` and the upsampling of the embedding from stride 8 to 4 are those of the authors'
        code.
    Differs: networks of any stride are brought to ``stride``: by averaging if they are finer, by bilinear interpolation
        if they are coarser.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        num_classes: int,
        *,
        dimension: int = 64,
        stride: int = 4,
        classifier: Literal["linear", "convolution"] = "linear",
        dropout: float = 0.65,
        bank_batches: int = 2,
    ) -> None:
        super().__init__(spec, dimension)
        self.num_classes = num_classes
        self.bank = MemoryBank(bank_batches)
        self.stride = stride
        self.classifier: nn.Module
        if classifier == "linear":
            self.classifier = LinearClassifier(dimension, num_classes)
        else:
            self.classifier = nn.Sequential(
                nn.Conv2d(dimension, 2 * dimension, 3, padding=1, bias=False),
                BatchNorm2d(2 * dimension),
                nn.ReLU(inplace=True),
                Dropout(dropout),
                nn.Conv2d(2 * dimension, num_classes, 1),
            )
            initialise(self.classifier)
            initialise_classifier(self.classifier[-1])

    def embed(self, rgb: Tensor) -> Tensor:
        """Embedding, float32 (B,C,ceil(H/stride),ceil(W/stride)) of length 1, of images (B,3,H,W) in 0..255."""
        height, width = rgb.shape[2:]
        unit = max(self.stride, self.network.output_stride)
        whole = (0, -width % unit, 0, -height % unit)  # aligns the cells with those of the labels
        features: Tensor = self.network(functional.pad(self.normalise(rgb), whole, mode="replicate")).float()
        if self.stride > self.network.output_stride:
            features = functional.avg_pool2d(features, self.stride // self.network.output_stride)
        elif self.stride < self.network.output_stride:
            scale = self.network.output_stride // self.stride
            features = functional.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=False)
        features = features[:, :, : -(-height // self.stride), : -(-width // self.stride)]
        return functional.normalize(features, dim=1)

    def walk_before_classifying(self, *, stride: int, scale: float, alpha: float) -> None:
        """See ``Segmenter.walk_before_classifying``; here the embedding walks."""
        self.classifier = nn.Sequential(lazy_walk(stride, self.stride, scale, alpha), self.classifier)

    def classify(self, embedding: Tensor, size: torch.Size) -> Tensor:
        """Logits, float32 (B,K,H,W), of an embedding (B,C,h,w); ``size`` is H and W of the images."""
        logits: Tensor = self.classifier(embedding).float()
        logits = functional.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return logits[:, :, : size[0], : size[1]]

    def forward(self, rgb: Tensor, embedded: bool = False) -> Tensor:
        """Logits (B,K,H,W) float32 of RGB images (B,3,H,W) in 0..255. Their gradient does not flow into the embedding.

        Args:
            rgb: Images.
            embedded: Return the embedding instead.
        """
        embedding = self.embed(rgb)
        return embedding if embedded else self.classify(embedding.detach(), rgb.shape[2:])


class LinearClassifier(nn.Module):
    """Logits of unit-length embeddings by one 1x1 convolution.

    The components of a unit-length embedding are about 1 / sqrt(C), which would need very large weights. They are first
    scaled to about 1, the usual size of a layer's inputs.

    Args:
        dimension: C.
        num_classes: K.
    """

    def __init__(self, dimension: int, num_classes: int) -> None:
        super().__init__()
        self.scale = dimension**0.5
        self.logits = nn.Conv2d(dimension, num_classes, 1)
        initialise_classifier(self.logits)

    def forward(self, embedding: Tensor) -> Tensor:
        """Embeddings (B,C,h,w) to logits (B,K,h,w)."""
        logits: Tensor = self.logits(self.scale * embedding)
        return logits


class Spml(CrossEntropyMethod):
    """Semi-supervised pixel-wise metric learning.

    The first four terms contrast pixels with segments (``wss.losses.segsort_loss``) and train the embedding. The last
    term trains only the classifier. The weights of the terms are the paper's lambda.

        ``similarity``: segments of the same superpixel are positive, other segments of the image are negative.
            Positions in the image are compared together with the embeddings.
        ``annotation``: segments with the same label are positive, segments with another label are negative, within and
            across images. Segments without a label do not count.
        ``cooccurrence``: segments of the same image, and of images that share a class other than the background, are
            positive. All other segments are negative.
        ``affinity``: like ``annotation``, but each segment without a label first takes the label of the nearest
            labelled segment. By default it takes a label only from a segment of the same image whose cosine is at least
            0.95; otherwise it stays unlabelled.
        ``classifier``: partial cross-entropy of the classifier on the embedding. In a phase with only this term the
            embedding is fixed, including batch normalisation.

    Segments are clusters of each image's embedding by spherical k-means on a grid of cells. Superpixels split them, and
    on request (``labels``) the labels too. A memory bank keeps the segments of the last batches for the terms across
    images.

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", section 3, Table
        5. The paper leaves open where positions are used; as in the authors' code, only ``similarity`` uses them.
    Differs: in the authors' code labels split segments, and scribbles are widened by 3 pixels. Here a cell of the grid
        has the most frequent label of its labelled pixels, and ``labels`` chooses whether labels split segments. The
        classes of an image are its tags, or the classes of its labelled pixels if the labels have no tags. In the paper
        ``affinity`` gives every segment the label of the nearest labelled segment of the batch and the memory bank, at
        any distance: ``affinity_within: batch`` and ``affinity_threshold: null``. If few segments are labelled, many of
        these labels are wrong. The restriction to the image and the cosine of 0.95 are from the authors' code for
        DensePose. That code compares a tenth of the embedding together with positions and colours, and takes segments
        that stay unlabelled as positive to all. Here embeddings are compared, as in the paper, and segments that stay
        unlabelled do not count.
    """

    name: Literal["spml"] = "spml"
    summary: ClassVar[str] = (
        "contrastive embedding by superpixel, label, co-occurring classes or features; needs superpixels"
    )
    differs: ClassVar[str] = (
        "affinity stays in an image and above a cosine of 0.95 (published: affinity_within batch, affinity_threshold null)"
    )
    term_names: ClassVar[frozenset[str]] = CONTRASTS | {"classifier"}
    cross_entropy_terms: ClassVar[frozenset[str]] = frozenset({"classifier"})
    supervised_terms: ClassVar[frozenset[str]] = (
        frozenset()
    )  # labelled pixels train the classifier alone, not the embedding
    needs: ClassVar[frozenset[str]] = frozenset({"superpixels", "classes"})

    dimension: int = Field(default=64, ge=1)
    """Channels of the embedding. Published: 64, for DensePose 32."""
    stride: Literal[1, 2, 4, 8] = 4
    """Stride of the embedding in pixels. Published: 4."""
    cell: Literal[1, 2, 4, 8] | None = None
    """Side in pixels of the cells that are clustered and contrasted, a multiple of ``stride``. None is ``stride``. A
    larger cell takes the mean direction of its embeddings, which saves time if the embedding is fine."""
    grid: int = Field(default=6, ge=1)
    """Initial number of rows and of columns of clusters for k-means. Published: 6, for DensePose 12."""
    iterations: int = Field(default=10, ge=0)
    """Number of k-means iterations."""
    bank_batches: int = Field(default=2, ge=0)
    """Number of batches in the memory bank. 0 compares within the current batch only."""
    labels: Literal["majority", "split"] = "majority"
    """``majority``, as in the paper: labels do not split segments; a segment has the most frequent label of its
    labelled pixels. ``split``, as in the authors' code: pixels with different labels, and unlabelled pixels, are
    separate segments."""
    kappa_similarity: float = Field(default=16.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``similarity``. A larger value gives the nearest segments more weight."""
    kappa_annotation: float = Field(default=6.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``annotation``. A larger value gives the nearest segments more weight."""
    kappa_cooccurrence: float = Field(default=12.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``cooccurrence``. Published: 12 for scribbles, 8 for points, boxes and tags."""
    kappa_affinity: float = Field(default=12.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``affinity``. A larger value gives the nearest segments more weight."""
    affinity_within: Literal["image", "batch"] = "image"
    """Segments from which ``affinity`` takes labels: those of the same image, or those of the whole batch and the
    memory bank. Published: ``batch``."""
    affinity_threshold: float | None = Field(default=0.95, ge=-1, le=1)
    """Smallest cosine between two segments at which ``affinity`` passes on a label. None has no limit. Published:
    None."""
    classifier: Literal["linear", "convolution"] = "linear"
    """``linear``: a 1x1 convolution of the embedding times sqrt(``dimension``). ``convolution``, as in the authors'
    code: a 3x3 convolution to twice the channels with batch normalisation, ReLU and dropout, then a 1x1 convolution; it
    takes longer."""
    dropout: float = Field(default=0.65, ge=0, lt=1)
    """Dropout rate of the classifier ``convolution``. Not published. The authors' code has 0.75, on pseudo-labels
    0.65."""

    @model_validator(mode="after")
    def _cells_hold_whole_steps(self) -> Spml:
        if self.cell is not None and self.cell < self.stride:
            raise ValueError(f"cell must be a multiple of stride, {self.stride}; got {self.cell}")
        return self

    def build(self, network: NetworkSpec, num_classes: int) -> nn.Module:
        """See ``Method.build``."""
        return EmbeddingSegmenter(
            network,
            num_classes,
            dimension=self.dimension,
            stride=self.stride,
            classifier=self.classifier,
            dropout=self.dropout,
            bank_batches=self.bank_batches,
        )

    def losses(self, model: nn.Module, batch: Batch, terms: Collection[str]) -> dict[str, Tensor]:
        """See ``Method.losses``."""
        segmenter = cast(EmbeddingSegmenter, model)
        learns = bool(CONTRASTS & set(terms))
        segmenter.network.train(segmenter.training and learns)  # a fixed network also keeps its statistics
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            embedding = model(batch.rgb, embedded=True)
        losses = {}
        if learns:
            with torch.autocast(embedding.device.type, enabled=False):
                losses = self._contrasts(self.cells(embedding), segmenter, batch, terms)
        if "classifier" in terms:
            logits = segmenter.classify(embedding.detach(), batch.rgb.shape[2:])
            losses["classifier"] = self.cross_entropy(logits, batch)
        return losses

    def doubts(self, network: NetworkSpec, terms: Collection[str]) -> str | None:
        """See ``Method.doubts``: image pooling satisfies co-occurrence, as all pixels of an image share its mean."""
        if "cooccurrence" not in terms or not network.image_pooling:
            return None
        return (
            f"network {network.name} adds a mean over the whole image to the features of each pixel; co-occurrence "
            "then separates images, not their contents; the paper's network is deeplab-v2 (train.network.name=deeplab-v2)"
        )

    def carried(self, model: nn.Module) -> dict[str, Any]:
        """See ``Method.carried``: the memory bank."""
        return {"bank": cast(EmbeddingSegmenter, model).bank.state}

    def carry(self, model: nn.Module, state: dict[str, Any]) -> None:
        """See ``Method.carry``."""
        segmenter = cast(EmbeddingSegmenter, model)
        segmenter.bank.restore(state["bank"], segmenter.mean.device)

    def cells(self, embedding: Tensor) -> Tensor:
        """Unit-length embedding of cells, (B,C,h,w), from the embedding at ``stride``."""
        side = (self.cell or self.stride) // self.stride
        return embedding if side == 1 else functional.normalize(cell_means(embedding, side), dim=1)

    def segments(self, embedding: Tensor, batch: Batch, num_classes: int) -> tuple[Segments, SegmentFacts]:
        """Compute the segments of a batch, and the properties that decide which are positive or negative.

        Args:
            embedding: (B,C,h,w), the embedding of cells.
            batch: A batch with superpixels and the classes of its images.
            num_classes: K.
        """
        side = self.cell or self.stride
        superpixels = cell_centres(batch.maps["superpixels"], side)
        labels = coarse_labels(batch.labels, side, num_classes)
        valid = cell_centres(batch.valid, side)
        clusters = spherical_kmeans(embedding.detach(), grid=self.grid, iterations=self.iterations, valid=valid)
        parts = (superpixels, labels) if self.labels == "split" else (superpixels,)
        segments = split_segments(clusters, *parts, valid=valid)
        classes = batch.image_tags[segments.image]
        known = classes.any(1)
        if batch.background is not None:
            classes = classes.index_fill(1, classes.new_full((1,), batch.background, dtype=torch.int64), False)
        region = labels.new_zeros(segments.count + 1)
        region.scatter_(0, torch.where(segments.ids < 0, segments.count, segments.ids).flatten(), superpixels.flatten())
        label = segment_labels(labels, segments, num_classes)
        return segments, SegmentFacts(segments.image, region[:-1], label, classes, known)

    def _contrasts(
        self, embedding: Tensor, model: EmbeddingSegmenter, batch: Batch, terms: Collection[str]
    ) -> dict[str, Tensor]:
        segments, facts = self.segments(embedding, batch, model.num_classes)
        prototypes = segment_prototypes(embedding, segments)
        bank = model.bank
        everything = bank.after("prototypes", prototypes)
        label, classes, known = (bank.after(name, getattr(facts, name)) for name in ("label", "classes", "known"))
        own = segments.ids.flatten()
        pixels = _rows(embedding)
        losses = {}
        if "similarity" in terms:
            placed = with_places(embedding)
            losses["similarity"] = segsort_loss(
                _rows(placed),
                segment_prototypes(placed, segments),
                own,
                *similarity(facts.image, facts.region),
                concentration=self.kappa_similarity,
            )
        if "annotation" in terms:
            relation = annotation(label, segments.count)
            losses["annotation"] = segsort_loss(pixels, everything, own, *relation, concentration=self.kappa_annotation)
        if "cooccurrence" in terms:
            relation = cooccurrence(facts.image, classes, known)
            losses["cooccurrence"] = segsort_loss(
                pixels, everything, own, *relation, concentration=self.kappa_cooccurrence
            )
        nearby = facts.label
        if "affinity" in terms:
            if self.affinity_within == "image":
                nearby = spread(prototypes, facts.label, facts.image, threshold=self.affinity_threshold)
                expanded = bank.after("nearby", nearby)
            else:
                expanded = spread(everything, label, threshold=self.affinity_threshold)
            relation = annotation(expanded, segments.count)
            losses["affinity"] = segsort_loss(pixels, everything, own, *relation, concentration=self.kappa_affinity)
        if model.training:
            kept = {name: getattr(facts, name) for name in ("label", "classes", "known")}
            bank.push(prototypes=prototypes, nearby=nearby, **kept)
        return losses


@dataclass(frozen=True)
class SegmentFacts:
    """Properties of segments, one row per segment.

    Attributes:
        image: int64 (S,), index of the image.
        region: int64 (S,), id of the superpixel.
        label: int64 (S,), 255 = unlabelled.
        classes: bool (S,K), the classes in the image, without the background.
        known: bool (S,), True if at least one class of the image is known (the background counts).
    """

    image: Tensor
    region: Tensor
    label: Tensor
    classes: Tensor
    known: Tensor


Relation = tuple[Tensor, Tensor]
"""Positive and negative segments: two bool (S,T), a row for the pixels of each segment. T includes the memory bank."""


def similarity(image: Tensor, region: Tensor) -> Relation:
    """Low-level image similarity: segments of the same superpixel are positive, others of the image negative."""
    same = image[:, None] == image
    alike = region[:, None] == region
    return same & alike, same & ~alike


def annotation(label: Tensor, count: int) -> Relation:
    """Semantic annotation: segments with the same label are positive, with another label negative.

    Args:
        label: int64 (T,), labels of all segments, 255 = unlabelled. The current batch comes first.
        count: S, number of segments of the current batch.
    """
    labelled = label != UNLABELLED
    both = labelled[:count, None] & labelled
    alike = label[:count, None] == label
    return both & alike, both & ~alike


def cooccurrence(image: Tensor, classes: Tensor, known: Tensor) -> Relation:
    """Semantic co-occurrence: segments of images that share a class are positive, others negative.

    Args:
        image: int64 (S,), the image of each segment of the current batch.
        classes: bool (T,K), the classes in the image of each segment.
        known: bool (T,), False for segments of images without any known class. They are ignored.
    """
    count = len(image)
    shared = classes[:count].float() @ classes.float().T > 0
    shared[:, :count] |= image[:, None] == image
    both = known[:count, None] & known
    return both & shared, both & ~shared


def spread(prototypes: Tensor, label: Tensor, image: Tensor | None = None, *, threshold: float | None = None) -> Tensor:
    """Give each unlabelled segment the label of the nearest labelled segment.

    Args:
        prototypes: float (T,C) of unit length. They receive no gradient.
        label: int64 (T,), 255 = unlabelled.
        image: int64 (T,), the image of each segment; labels are taken from the same image only. None allows all images.
        threshold: Smallest cosine at which a label is taken. None has no limit.

    Returns:
        Labels after this, int64 (T,), 255 for segments that stay unlabelled.

    Source: Ke et al. 2021, section 3.1, "Feature affinity", without ``image`` and ``threshold``.
    """
    if not len(label):
        return label
    labelled = label != UNLABELLED
    vectors = prototypes.detach()
    # Labelled segments are searched too: to select the unlabelled ones, a GPU would have to wait for their number.
    allowed = labelled if image is None else labelled & (image[:, None] == image)
    similarity, closest = (tensor[:, 0] for tensor in nearest(vectors, vectors, 1, allowed=allowed))
    near = similarity.isfinite() if threshold is None else similarity >= threshold
    return torch.where(labelled, label, torch.where(near & similarity.isfinite(), label[closest], UNLABELLED))


def _rows(maps: Tensor) -> Tensor:
    """Maps (B,C,h,w) as rows (B h w,C), one row per pixel."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
