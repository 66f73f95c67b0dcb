"""Stage ``prototypes``: mean embeddings of the labelled segments of training images, for nearest-neighbour inference."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.methods.coarse import coarse_labels
from wss.methods.spml import EmbeddingSegmenter
from wss.ops import nearest, segment_labels, segment_prototypes, split_segments, vote
from wss.params import Params
from wss.precision import Amp
from wss.predictor import as_tensor
from wss.stages.embedding import SegmentParams, clustered, embedded, load_embedder
from wss.stages.inference_precision import stage_precision
from wss.stages.splits import check_split, split_ids
from wss.stages.stage import Context, Input, Inputs, Stage, pending
from wss.store import LABELS, MODEL, PROTOTYPES, SAMPLES, Store, StoreWriter


class PrototypesParams(Params):
    """Parameters of the stage ``prototypes``."""

    split: str = "train"
    """Split whose labelled segments are collected."""
    segments: SegmentParams = SegmentParams()
    """Clustering of the image."""
    labels: Literal["split", "majority"] = "split"
    """Labels of clusters. ``split``: labels split the clusters, and unlabelled parts are dropped. ``majority``: a cluster with
    any label is kept whole and gets the class with most labelled cells."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""


def run(params: PrototypesParams, inputs: Inputs, output: StoreWriter, context: Context) -> None:
    """Store the mean embedding and the label of every segment that has a label.

    The input ``labels`` holds the labels that the network was trained with, or pseudo-labels. Masks are never read, unless the
    labels are masks.

    Raises:
        DataError: No image of the split has a labelled pixel.
        UsageError: The network does not embed pixels, or the strides do not fit (see ``embedded``).

    Source: Ke, Hwang, Yu 2021, section 3.2 and appendix A.4; Hwang et al. 2019, SegSort, section 3.4.
    Differs: the authors' code labels each whole cluster with the majority of the true labels of its pixels.
    """
    samples, labels = inputs["samples"], inputs["labels"]
    model = load_embedder(inputs["model"], context.device)
    ids = [i for i in split_ids(samples, params.split) if i in labels and (labels.get("labels", i) != UNLABELLED).any()]
    if not ids:
        raise DataError(f"prototypes: no image of split {params.split!r} has a labelled pixel")
    num_classes = len(samples.meta["classes"])
    todo = pending(ids, output)
    precision = stage_precision(
        params.amp,
        output,
        context,
        "prototypes",
        len(ids),
        lambda: (model, as_tensor(samples.get("image", ids[0]), context.device)),
    )
    advance = context.progress.task("collecting segments", len(ids), len(ids) - len(todo))
    for image_id in todo:
        rgb = as_tensor(samples.get("image", image_id), context.device)
        given = torch.from_numpy(np.array(labels.get("labels", image_id))).to(context.device).long()
        output.append(image_id, labelled_segments(params, model, rgb, given[None], num_classes, precision.used))
        advance(1, image_id)
    output.meta.update(
        split=params.split,
        segments=params.segments.model_dump(mode="json"),
        model=inputs["model"].key,
        annotation=labels.meta["annotation"],
    )


@torch.inference_mode()
def labelled_segments(
    params: PrototypesParams, model: EmbeddingSegmenter, rgb: Tensor, labels: Tensor, num_classes: int, amp: bool
) -> dict[str, NDArray[np.generic]]:
    """Prototypes, labels and segment maps of an image, float (1,3,H,W) in 0..255, with labels, int64 (1,H,W).

    A cell gets the class with the most labelled pixels in it, so that thin scribbles count too.
    """
    cells = embedded(model, rgb, params.segments.stride, amp)
    coarse = coarse_labels(labels, params.segments.stride, num_classes)
    clusters = clustered(cells, params.segments)
    segments = split_segments(clusters, coarse) if params.labels == "split" else split_segments(clusters)
    segments = split_segments(
        segments.ids, valid=(segment_labels(coarse, segments, num_classes) != UNLABELLED)[segments.ids]
    )
    return {
        "prototypes": segment_prototypes(cells, segments).to(torch.float16).cpu().numpy(),
        "labels": segment_labels(coarse, segments, num_classes).to(torch.uint8).cpu().numpy(),
        "segments": segments.ids[0].to(torch.int32).cpu().numpy(),
    }


class Bank:
    """The prototypes of all images of a store, for nearest-neighbour search.

    Args:
        store: Store of prototypes.
        model: Model store whose embeddings will be compared with them.
        device: Device of the tensors.

    Attributes:
        prototypes: float32 (S,C).
        labels: int64 (S,), class of each prototype.
        image: int64 (S,), index of the prototype's image in ``ids``.
        ids: Image ids.
        first: int64 (number of images,), index of the first prototype of each image.

    Raises:
        UsageError: The prototypes were made by another network.
    """

    def __init__(self, store: Store, model: Store, device: torch.device) -> None:
        if store.meta["model"] != model.key:
            raise UsageError(
                f"the prototypes in {store.path} were made by another network than {model.path}; make them with this network"
            )
        self.ids = store.ids
        counts = [len(store.get("labels", i)) for i in store.ids]
        prototypes = np.concatenate([store.get("prototypes", i) for i in store.ids])
        self.prototypes = torch.from_numpy(prototypes).to(device).float()  # converted once, not at every search
        self.labels = torch.from_numpy(np.concatenate([store.get("labels", i) for i in store.ids])).to(device).long()
        self.image = torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(counts, device=device))
        self.first = np.cumsum(counts) - counts

    def search(
        self, queries: Tensor, k: int, *, classes: NDArray[np.int64] | None = None, without: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k nearest prototypes, in the form of ``wss.ops.nearest``.

        Args:
            queries: float32 (Q,C).
            k: Number of neighbours, at least 1.
            classes: Search only prototypes of these classes; None for all.
            without: Id of an image whose prototypes are excluded; None excludes none.
        """
        allowed = None
        if classes is not None:
            allowed = torch.isin(self.labels, torch.from_numpy(classes).to(self.labels))
        if without is not None and without in self.ids:
            others = self.image != self.ids.index(without)
            allowed = others if allowed is None else allowed & others
        return nearest(queries, self.prototypes, k, allowed=allowed)

    def votes(self, found: tuple[Tensor, Tensor], num_classes: int) -> Tensor:
        """Shares of the classes among the neighbours that ``search`` found, (Q,K)."""
        similarity, index = found
        return vote(similarity, self.labels[index], num_classes)


STAGE = Stage(
    "prototypes",
    1,
    PrototypesParams,
    {"samples": Input(SAMPLES), "labels": Input(LABELS), "model": Input(MODEL)},
    PROTOTYPES,
    run,
    check=check_split,
)
