"""From stored images and labels to training batches, deterministic whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from wss.distributed import mine
from wss.errors import WssError
from wss.methods import Batch
from wss.training.augment import AugmentParams, augment
from wss.training.shared_memory import FOLDER, PREFETCHED, fitting, nbytes

PATIENCE_S = 900.0
"""Seconds to wait for a batch before loader processes count as lost."""

ReadSample = Callable[[str], tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]]
"""Gives the image (H,W,3) and its maps (``labels`` and what the method needs) for an image id; and ``valid``, uint8, 0 where the
image has no data, if there are such pixels."""


class TrainingSet(Dataset[dict[str, Any]]):
    """Augmented training samples, addressed by (image index, draw).

    The draw is the running number of the sample since the start of training. It alone seeds the augmentation, so that the
    same sample comes out in whichever worker, and after a resumption.

    Args:
        ids: Image ids.
        read: Reads one of them.
        params: How samples vary.
        seed: Decides how, with the draw.
        tags: Classes in each image, bool (K,), by id; None where the method does not ask for them.
        background: Index of the background class, or None.
        size: Height and width of the samples where images are kept whole (``common_size``); None is each image's own.
    """

    def __init__(
        self,
        ids: Sequence[str],
        read: ReadSample,
        params: AugmentParams,
        seed: int,
        tags: Mapping[str, NDArray[np.bool_]] | None = None,
        background: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.ids = list(ids)
        self.background = background
        self._read = read
        self._params = params
        self._seed = seed
        self._tags = tags
        self._size = size

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        index, draw = item
        image, maps = self._read(self.ids[index])
        rng = np.random.default_rng((self._seed, draw))
        inside = maps.pop("valid", None)
        image, maps, valid = augment(image, maps, self._params, rng, self._size, inside)
        sample = {"rgb": image, "valid": valid, "maps": maps}
        return sample if self._tags is None else {**sample, "tags": self._tags[self.ids[index]]}


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of shuffled (image index, draw) pairs, epoch after epoch, from any step on.

    The length is a number of epochs or, if ``steps`` is given, a number of batches. The last epoch may then be incomplete.

    Where several processes share batches, each gets its part of them.

    Args:
        size: Number of images.
        batch_size: Images per batch; all of them when there are fewer. The last, incomplete batch of an epoch is left out.
        epochs: Number of epochs; ignored if ``steps`` is given, and required otherwise.
        seed: Decides the order of every epoch.
        start: First step to give.
        first_draw: Draw number of step 0.
        steps: Number of batches, counted from step 0 whatever ``start`` is.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        epochs: int | None,
        seed: int,
        start: int = 0,
        first_draw: int = 0,
        steps: int | None = None,
    ) -> None:
        self.batch_size = min(batch_size, size)
        self.per_epoch = size // self.batch_size
        if steps is None:
            if epochs is None:
                raise ValueError("expected a number of epochs or of steps")
            steps = self.per_epoch * epochs
        self._steps = steps
        self._size, self._seed, self._start, self._first = size, seed, start, first_draw

    def __len__(self) -> int:
        return self._steps - self._start

    def after(self, steps: int) -> EpochBatches:
        """The same batches without the first ``steps`` of those that are left."""
        return EpochBatches(
            self._size, self.batch_size, None, self._seed, self._start + steps, self._first, self._steps
        )

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: NDArray[np.int64] = np.empty(0, np.int64)
        for step in range(self._start, self._steps):
            epoch, place = divmod(step, self.per_epoch)
            if place == 0 or step == self._start:
                order = np.random.default_rng((self._seed, self._first, epoch)).permutation(self._size)
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            draw = self._first + step * self.batch_size
            yield mine([(int(index), draw + offset) for offset, index in enumerate(chosen)])


@dataclass(frozen=True)
class _Collated:
    """A batch on the host, pinned for the copy to a GPU."""

    rgb: torch.Tensor
    valid: torch.Tensor
    maps: dict[str, torch.Tensor]
    tags: torch.Tensor | None

    def share(self) -> None:
        """Move the batch to shared memory now.

        The loader would do so later, in a thread whose errors are lost together with the batch: the other side waits for ever.
        """
        for tensor in (self.rgb, self.valid, *self.maps.values(), *([] if self.tags is None else [self.tags])):
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    def pin_memory(self) -> _Collated:
        return _Collated(
            self.rgb.pin_memory(),
            self.valid.pin_memory(),
            {k: v.pin_memory() for k, v in self.maps.items()},
            None if self.tags is None else self.tags.pin_memory(),
        )


def _collate(samples: list[dict[str, Any]]) -> _Collated:
    rgb = torch.from_numpy(np.stack([sample["rgb"] for sample in samples]))
    valid = torch.from_numpy(np.stack([sample["valid"] for sample in samples]))
    maps = {n: torch.from_numpy(np.stack([s["maps"][n] for s in samples])) for n in samples[0]["maps"]}
    tags = torch.from_numpy(np.stack([s["tags"] for s in samples])) if "tags" in samples[0] else None
    batch = _Collated(rgb, valid, maps, tags)
    if get_worker_info() is not None:
        batch.share()
    return batch


def _nobody(message: str) -> None:
    """Nobody is told."""


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)


def _loaded(
    data: TrainingSet, sampler: EpochBatches, device: torch.device, workers: int, say: Callable[[str], None]
) -> Iterator[_Collated]:
    """Batches on the host; without loader processes from where shared memory is used up."""
    done = 0
    stream = _loader(data, sampler, device, workers)
    while True:
        try:
            host = next(stream, None)
        except RuntimeError as error:
            if not workers or "shared memory" not in str(error):
                raise _lost(error) if "DataLoader" in str(error) else error from None
            say(
                f"{FOLDER} is full: the rest is loaded without loader processes. A container gets more of it with `docker run "
                "--shm-size 1g`"
            )
            workers = 0
            stream = _loader(data, sampler.after(done), device, workers)
            continue
        if host is None:
            return
        done += 1
        yield host


def _lost(error: RuntimeError) -> WssError:
    """Error about loader processes that ended or do not answer."""
    return WssError(
        "the processes that load images ended or do not answer, most likely for want of memory; use fewer --jobs (--jobs 1 "
        "loads without them), or give a container more shared memory (`docker run --shm-size 1g`); the same command goes on "
        f"from the last checkpoint ({str(error).splitlines()[0]})"
    )


def _loader(data: TrainingSet, sampler: EpochBatches, device: torch.device, workers: int) -> Iterator[_Collated]:
    return iter(
        DataLoader(
            data,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=device.type == "cuda",
            worker_init_fn=_start_worker,
            timeout=PATIENCE_S if workers else 0,
            prefetch_factor=PREFETCHED if workers else None,
            generator=torch.Generator(),  # the loader would otherwise draw from the global generator, which resuming restores
        )
    )


def batches(
    data: TrainingSet,
    sampler: EpochBatches,
    *,
    device: torch.device,
    workers: int,
    channels_last: bool,
    say: Callable[[str], None] = _nobody,
) -> Iterator[Batch]:
    """Batches on the device, in the sampler's order.

    Args:
        data: The training set.
        sampler: Which samples.
        device: Where the tensors go.
        workers: Loader processes; 0 loads in this process. Fewer are started where shared memory has no room for so many, and
            where it is used up later, the rest is loaded in this process. The batches are the same.
        channels_last: Memory format of the images.
        say: Told of that.

    Raises:
        WssError: A loader process ended, or gave nothing for ``PATIENCE_S``.
    """
    if workers and len(sampler):
        workers = fitting(workers, nbytes(data[0, 0]) * len(next(iter(sampler))), say)
    for host in _loaded(data, sampler, device, workers, say):
        rgb = host.rgb.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
        rgb = rgb.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        maps: Mapping[str, torch.Tensor] = {n: m.to(device, non_blocking=True) for n, m in host.maps.items()}
        rest = {n: m.long() if m.dtype == torch.int32 else m for n, m in maps.items() if n != "labels"}
        valid = host.valid.to(device, non_blocking=True)
        tags = None if host.tags is None else host.tags.to(device, non_blocking=True)
        yield Batch(rgb, maps["labels"].long(), valid, rest, tags, data.background)
