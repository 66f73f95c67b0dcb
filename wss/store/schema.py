"""Content of each kind of artifact store, and the version of its layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Layout = Literal["flat", "deflate", "image"]
"""``flat``: one contiguous dataset for all images, memory-mapped by readers. ``deflate``: one zlib-compressed dataset per
image, for arrays that compress well (label maps, probabilities). ``image``: as flat, but each image has its own coding: all
pixels, one of three equal channels, or the bytes of a JPEG or PNG file."""


@dataclass(frozen=True)
class Schema:
    """The layout of one kind of store.

    Attributes:
        name: For example ``samples``.
        version: Version of the layout. Stores of versions from ``since`` on are read. Others are refused with the command to
            rebuild them.
        items: Arrays per image id, by name. An image may lack any of them, except for those in ``required``.
        required: Items that every image id must have.
        rebuild: Command that makes such a store again, for errors.
        since: The oldest version that is read. Keys contain it instead of ``version``, because later versions have the same
            content.
    """

    name: str
    version: int
    items: Mapping[str, Layout] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    rebuild: str = "wss run"
    since: int | None = None

    @property
    def oldest(self) -> int:
        """The oldest version that is read."""
        return self.version if self.since is None else self.since


SAMPLES = Schema(
    "samples",
    2,
    items={
        "image": "image",
        "mask": "deflate",
        "scribble": "deflate",
        "strokes": "deflate",
        "boxes": "deflate",
        "valid": "deflate",
        "tags": "deflate",
    },
    required=frozenset({"image"}),
    rebuild="wss prepare",
    since=1,
)
"""Images (uint8 (H,W,3)) with all annotations of the data set. ``strokes`` is float64 (N, 5), see
``wss.scribbles.pack_strokes``. ``boxes`` is int32 (N, 5), rows ``class, x0, y0, x1, y1`` in inclusive pixels. ``tags`` is
uint8 (K,), 1 for classes that the data set names for the image. ``valid`` is uint8 (H,W), 0 where the image has no data; images
with data everywhere lack it."""

LABELS = Schema(
    "labels",
    1,
    items={"labels": "deflate", "certainty": "deflate", "tags": "deflate", "boxes": "deflate"},
    required=frozenset({"labels"}),
    rebuild="wss prepare",
)
"""Training labels uint8 (H,W), 255 = unlabelled; optional certainty uint8 (H,W), levels of
``wss.metrics.certainty_levels``, 255 = certain; optional image tags uint8 (K,), 1 where the class is in the image; optional
boxes int32 (N,5) as in samples."""

EDGES = Schema("edges", 1, items={"edges": "deflate"}, required=frozenset({"edges"}), rebuild="wss edges")
"""Edge maps uint8 (H,W): strength in [0,1] times 255."""

SUPERPIXELS = Schema(
    "superpixels",
    1,
    items={"superpixels": "deflate"},
    required=frozenset({"superpixels"}),
    rebuild="wss superpixels",
)
"""Superpixels int32 (H,W), contiguous ids from 0."""

CAM = Schema("cam", 1, items={"cam": "deflate", "scores": "deflate"}, required=frozenset({"cam"}), rebuild="wss cam")
"""Class activation maps float16 (K,H,W) in 0..1, zero for untagged classes and for the background;
optional scores of the whole image float32 (K,), logits."""

PICTURES = Schema(
    "pictures", 1, items={"tiles": "deflate", "numbers": "deflate"}, required=frozenset({"tiles"}), rebuild="wss run"
)
"""Pictures that the report shows beside an image's predictions: uint8 (N,H,W,3), with N captions in ``meta["captions"]`` and,
optionally, a heading by image id in ``meta["titles"]``; optional numbers measured on the image, and tables of them in
``meta["tables"]``, see ``wss.viz.Table``."""

PROTOTYPES = Schema(
    "prototypes",
    1,
    items={"prototypes": "flat", "labels": "flat", "segments": "deflate"},
    required=frozenset({"prototypes", "labels", "segments"}),
    rebuild="wss run",
)
"""Labelled segments of images: mean directions of their embeddings float16 (S,C), their classes uint8 (S,), and the segment of
each cell of a grid int32 (h,w), -1 for cells without one."""

FEATURES = Schema(
    "features",
    1,
    items=dict.fromkeys(("level1", "level2", "level3", "level4"), "flat"),
    rebuild="wss run",
)
"""Feature maps of a frozen backbone at up to four strides: float16 (N,C), the cells of each view of the image one after another,
row by row. ``meta["views"]`` are the views, ``meta["strides"]`` the strides by item; the backbone's weights are the tree
``backbone``."""

MODEL = Schema("model", 1, rebuild="wss train")
"""Network weights, the parameters to rebuild the network, and the training log."""

PREDICTIONS = Schema(
    "predictions",
    1,
    items={"labels": "deflate", "probs": "deflate"},
    required=frozenset({"labels"}),
    rebuild="wss predict",
)
"""Predicted labels uint8 (H,W) at image resolution and, optionally, probabilities float16 (K,H,W)."""

METRICS = Schema(
    "metrics",
    1,
    items={"confusion": "deflate", "trimap": "deflate"},
    required=frozenset({"confusion"}),
    rebuild="wss evaluate",
)
"""Confusion matrix int64 (K,K) per image, optionally those of W bands along boundaries int64 (W,K,K), and the scores of the
whole split."""

QUALITY = Schema(
    "quality",
    1,
    items={"levels": "deflate", "counts": "deflate", "unlabelled": "deflate"},
    required=frozenset({"counts"}),
    rebuild="wss run",
)
"""Agreement of labels with masks: per image the levels of certainty that occur uint8 (L,) and the confusion at each int64
(L,K,K)."""

REPORT = Schema("report", 1, rebuild="wss report")
"""One self-contained HTML page."""
