"""Image ids of a data set's splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError
from wss.params import nearest
from wss.store import Store


def require_split(splits: Mapping[str, Sequence[str]], split: str, kind: str) -> None:
    """Check that a data set has a split and that the split has images.

    Args:
        splits: Image ids by split name.
        split: The split that a stage works on.
        kind: The data set's reader, as in ``wss init --kind``.

    Raises:
        UsageError: The data set has no such split.
        DataError: The split is empty.
    """
    if split not in splits and kind == "voc" and split == "trainaug":
        raise UsageError(
            "the data set has no split 'trainaug', which is VOC train plus the images of SBD, 10,582 in all: put SBD at "
            "benchmark_RELEASE/dataset below the root of VOC or name its folder with `wss init -o sbd=DIR`, add a list "
            f"ImageSets/Segmentation/trainaug.txt, or train on VOC alone with split=train ({len(splits.get('train', ())):,} "
            "images here, 1,464 in VOC 2012)"
        )
    if split not in splits:
        hint = nearest(split, splits)
        known = "" if "known" in hint else f" Its splits are {', '.join(splits)}"
        raise UsageError(f"the data set has no split {split!r}{hint}{known}")
    if not splits[split]:
        have = ", ".join(f"{name} ({len(ids)})" for name, ids in splits.items())
        raise DataError(f"split {split!r} of the data set is empty: {have}; add images to it, or name another split")


class OfSplit(Protocol):
    """Parameters of a stage that works on the images of one split."""

    @property
    def split(self) -> str:
        """Name of the split."""


def check_split(params: OfSplit, catalogue: Catalogue) -> None:
    """``Stage.check`` for stages that need only images in their split; see ``require_split``."""
    require_split(catalogue.splits, params.split, catalogue.kind)


def split_ids(samples: Store, split: str) -> list[str]:
    """Image ids of a split.

    Raises:
        UsageError: The data set has no such split.
        DataError: The split is empty.
    """
    splits = samples.meta["splits"]
    require_split(splits, split, samples.meta.get("kind", ""))
    return list(splits[split])


def evenly(ids: Sequence[str], count: int) -> list[str]:
    """Choose at most ``count`` of the ids, evenly spread, in their order."""
    keep = min(len(ids), count)
    return [ids[round(n * len(ids) / keep)] for n in range(keep)]
