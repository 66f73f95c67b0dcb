"""SPML: pixels embedded so that those of one meaning are close, and a classifier that reads their classes off."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

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

    The last layer of the network, which usually gives logits, gives the embedding instead: of a DeepLab-v2 the summed ASPP, of
    others one convolution of their features.

    Args:
        spec: The network.
        num_classes: K, background included.
        dimension: Channels of the embedding.
        stride: Of the embedding, in pixels.
        classifier: ``linear`` or ``convolution``, see ``Spml.classifier``.
        dropout: In front of the last of ``convolution``.
        bank_batches: Batches that ``bank`` remembers in training.

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", section 3.2,
        A.4: DeepLab with ResNet-101, unit-length embeddings of 64 channels, a softmax classifier on the fixed embedding. The
        form ``convolution`` of the classifier and the doubling of the embedding from stride 8 to 4 are those of the authors'
        code.
    Differs: networks of other strides are brought to ``stride`` too: finer ones by averaging, coarser ones by bilinear
        interpolation.
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
        whole = (0, -width % unit, 0, -height % unit)  # so that cells lie where those of the labels do
        features: Tensor = self.network(functional.pad(self.normalise(rgb), whole, mode="replicate")).float()
        if self.stride > self.network.output_stride:
            features = functional.avg_pool2d(features, self.stride // self.network.output_stride)
        elif self.stride < self.network.output_stride:
            scale = self.network.output_stride // self.stride
            features = functional.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=False)
        features = features[:, :, : -(-height // self.stride), : -(-width // self.stride)]
        return functional.normalize(features, dim=1)

    def walk_before_classifying(self, *, stride: int, scale: float, alpha: float) -> None:
        """See ``Segmenter.walk_before_classifying``; what the classifier reads is the embedding."""
        self.classifier = nn.Sequential(lazy_walk(stride, self.stride, scale, alpha), self.classifier)

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


class LinearClassifier(nn.Module):
    """Logits of unit-length embeddings by one convolution of 1x1.

    The components of a unit-length embedding are about 1 / sqrt(C), for which weights would have to grow long. They are
    brought to about 1 first, as a layer's inputs are elsewhere.

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

    Terms, of which the first four contrast pixels with segments (``wss.losses.segsort_loss``) and teach the embedding, while the
    last one teaches the classifier only. Their weights are the paper's lambda.

        ``similarity``: a segment is positive if it is of the same superpixel, negative if elsewhere in the image. Both are
            compared with their places in the image beside their embeddings.
        ``annotation``: positive with the same label, negative with another, within and across images; others do not count.
        ``cooccurrence``: all segments of images that share a class other than the background are positive, and those of the same
            image, all others negative.
        ``affinity``: as ``annotation``, after segments without a label took that of the nearest segment that has one. By default
            only a segment of the same image gives its label, and only where the cosine of the two is at least 0.95; the others
            stay unlabelled.
        ``classifier``: partial cross-entropy of the classifier on the embedding. In a phase with this term alone the embedding
            is fixed, batch normalisation included.

    Segments are the clusters of each image's embedding by spherical k-means, split by superpixels and, if asked, labels, on
    a grid of cells. Those of the last batches remain in a memory bank for the terms that reach across images.

    Source: Ke et al. 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning", section 3, Table
        5; what the paper leaves open (places in ``similarity`` only) from the authors' code.
    Differs: in the authors' code labels split segments, and scribbles are widened by 3 pixels; here a cell of the grid has the
        label that most of its labelled pixels have, and ``labels`` chooses. Classes of images are tags where labels have them, or
        else those of the image's labelled pixels. In the paper ``affinity`` gives every segment the label of the nearest one of
        batch and memory bank, however far that is: ``affinity_within: batch`` and ``affinity_threshold: null``. Where few
        segments are labelled, many of these labels are wrong. The image and the cosine of 0.95 are those of the authors' code
        for DensePose, which compares a tenth of the embedding beside places and colours, and takes segments that stay
        unlabelled as positive to all; here embeddings are compared, as in the paper, and such segments do not count.
    """

    name: Literal["spml"] = "spml"
    summary: ClassVar[str] = (
        "pixels drawn to segments that are alike in colour, label, company or features; needs superpixels"
    )
    differs: ClassVar[str] = (
        "affinity stays within an image and a cosine of 0.95 (affinity_within, affinity_threshold: the published form)"
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
    """Of the embedding, in pixels. Published: 4."""
    cell: Literal[1, 2, 4, 8] | None = None
    """Side in pixels of the cells that are clustered and contrasted, a multiple of ``stride``; None is that. A larger one
    stands for the mean direction of its pixels, which saves time where the embedding is fine."""
    grid: int = Field(default=6, ge=1)
    """k-means starts from so many rows and columns of clusters. Published: 6, for DensePose 12."""
    iterations: int = Field(default=10, ge=0)
    """Of k-means."""
    bank_batches: int = Field(default=2, ge=0)
    """Batches in the memory bank."""
    labels: Literal["majority", "split"] = "majority"
    """``majority``, as in the paper: labels do not split segments, and all pixels of one have the label that most of its
    labelled pixels have. ``split``, as in the authors' code: labelled and unlabelled pixels, and those of different labels, are
    different segments."""
    kappa_similarity: float = Field(default=16.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``similarity``."""
    kappa_annotation: float = Field(default=6.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``annotation``."""
    kappa_cooccurrence: float = Field(default=12.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``cooccurrence``. Published: 12 for scribbles, 8 for points, boxes and tags."""
    kappa_affinity: float = Field(default=12.0, gt=0, le=LARGEST_CONCENTRATION)
    """Concentration of ``affinity``."""
    affinity_within: Literal["image", "batch"] = "image"
    """Segments whose labels ``affinity`` spreads: those of the same image, or those of the whole batch and the memory bank.
    Published: ``batch``."""
    affinity_threshold: float | None = Field(default=0.95, ge=-1, le=1)
    """Least cosine between two segments at which ``affinity`` spreads a label; None spreads to all. Published: None."""
    classifier: Literal["linear", "convolution"] = "linear"
    """``linear``: one convolution of 1x1 on the embedding times the root of ``dimension``. ``convolution``, as in the authors'
    code: one of 3x3 to twice the channels with batch normalisation, ReLU and dropout, then one of 1x1; it takes longer."""
    dropout: float = Field(default=0.65, ge=0, lt=1)
    """Of ``convolution``; not published. The authors' code has 0.75 and, on pseudo-labels, 0.65."""

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
        segmenter.network.train(segmenter.training and learns)  # what is fixed keeps its statistics too
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            embedding = model(batch.rgb, embedded=True)
        found = {}
        if learns:
            with torch.autocast(embedding.device.type, enabled=False):
                found = self._contrasts(self.cells(embedding), segmenter, batch, terms)
        if "classifier" in terms:
            logits = segmenter.classify(embedding.detach(), batch.rgb.shape[2:])
            found["classifier"] = self.cross_entropy(logits, batch)
        return found

    def doubts(self, network: NetworkSpec, terms: Collection[str]) -> str | None:
        """See ``Method.doubts``: a mean over the image in the features of all its pixels does what co-occurrence asks for."""
        if "cooccurrence" not in terms or not network.image_pooling:
            return None
        return (
            f"network {network.name} adds a mean over the whole image to the features of each pixel, by which co-occurrence "
            "tells images apart and not what is in them; the paper's network is deeplab-v2 (train.network.name=deeplab-v2)"
        )

    def carried(self, model: nn.Module) -> dict[str, Any]:
        """See ``Method.carried``: the memory bank."""
        return {"bank": cast(EmbeddingSegmenter, model).bank.state}

    def carry(self, model: nn.Module, state: dict[str, Any]) -> None:
        """See ``Method.carry``."""
        segmenter = cast(EmbeddingSegmenter, model)
        segmenter.bank.restore(state["bank"], segmenter.mean.device)

    def cells(self, embedding: Tensor) -> Tensor:
        """The embedding (B,C,h,w) of cells, of one at the network's stride."""
        side = (self.cell or self.stride) // self.stride
        return embedding if side == 1 else functional.normalize(cell_means(embedding, side), dim=1)

    def segments(self, embedding: Tensor, batch: Batch, num_classes: int) -> tuple[Segments, SegmentFacts]:
        """The segments of a batch, with what relates them.

        Args:
            embedding: (B,C,h,w), of cells.
            batch: With superpixels and classes of images.
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
        found = {}
        if "similarity" in terms:
            placed = with_places(embedding)
            found["similarity"] = segsort_loss(
                _rows(placed),
                segment_prototypes(placed, segments),
                own,
                *similarity(facts.image, facts.region),
                concentration=self.kappa_similarity,
            )
        if "annotation" in terms:
            relation = annotation(label, segments.count)
            found["annotation"] = segsort_loss(pixels, everything, own, *relation, concentration=self.kappa_annotation)
        if "cooccurrence" in terms:
            relation = cooccurrence(facts.image, classes, known)
            found["cooccurrence"] = segsort_loss(
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
            found["affinity"] = segsort_loss(pixels, everything, own, *relation, concentration=self.kappa_affinity)
        if model.training:
            kept = {name: getattr(facts, name) for name in ("label", "classes", "known")}
            bank.push(prototypes=prototypes, nearby=nearby, **kept)
        return found


@dataclass(frozen=True)
class SegmentFacts:
    """What relates segments, one row each.

    Attributes:
        image: int64 (S,), the image.
        region: int64 (S,), the superpixel.
        label: int64 (S,), 255 = unlabelled.
        classes: bool (S,K), the classes in the image, the background not among them.
        known: bool (S,), whether anything is known of the classes in the image.
    """

    image: Tensor
    region: Tensor
    label: Tensor
    classes: Tensor
    known: Tensor


Relation = tuple[Tensor, Tensor]
"""Which segments are positive and which negative to the pixels of each, bool (S,T) both; T counts the memory bank's."""


def similarity(image: Tensor, region: Tensor) -> Relation:
    """Low-level image similarity: within an image, the same superpixel is positive, others negative."""
    same = image[:, None] == image
    alike = region[:, None] == region
    return same & alike, same & ~alike


def annotation(label: Tensor, count: int) -> Relation:
    """Semantic annotation: the same label is positive, another one negative.

    Args:
        label: int64 (T,), of all segments, 255 = unlabelled.
        count: S, how many of them are the present batch's, in front.
    """
    labelled = label != 255
    both = labelled[:count, None] & labelled
    alike = label[:count, None] == label
    return both & alike, both & ~alike


def cooccurrence(image: Tensor, classes: Tensor, known: Tensor) -> Relation:
    """Semantic co-occurrence: segments of images that share a class are positive, others negative.

    Args:
        image: int64 (S,), the image of each segment of the present batch.
        classes: bool (T,K), of all segments: the classes in their image.
        known: bool (T,), False for segments of images of which no class is known; they take no part.
    """
    count = len(image)
    shared = classes[:count].float() @ classes.float().T > 0
    shared[:, :count] |= image[:, None] == image
    both = known[:count, None] & known
    return both & shared, both & ~shared


def spread(prototypes: Tensor, label: Tensor, image: Tensor | None = None, *, threshold: float | None = None) -> Tensor:
    """Labels after each segment without one took that of the nearest segment that has one.

    Args:
        prototypes: float (T,C), unit length; no gradient flows.
        label: int64 (T,), 255 = unlabelled.
        image: int64 (T,), the image of each segment, whose labels alone it can take; None for all labels.
        threshold: Least cosine at which a label is taken; None for no limit.

    Returns:
        int64 (T,), 255 where no label was taken.

    Source: Ke et al. 2021, section 3.1, "Feature affinity", without ``image`` and ``threshold``.
    """
    if not len(label):
        return label
    labelled = label != 255
    vectors = prototypes.detach()
    # All are asked, also those that have a label: to learn how many have none a GPU would wait.
    allowed = labelled if image is None else labelled & (image[:, None] == image)
    similarity, closest = (found[:, 0] for found in nearest(vectors, vectors, 1, allowed=allowed))
    near = similarity.isfinite() if threshold is None else similarity >= threshold
    return torch.where(labelled, label, torch.where(near & similarity.isfinite(), label[closest], 255))


def _rows(maps: Tensor) -> Tensor:
    """Maps (B,C,h,w) as rows (B h w,C), pixel after pixel."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
