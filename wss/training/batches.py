"""Training batches from stored images and labels. They do not depend on the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from wss.distributed import shard
from wss.errors import WssError
from wss.methods import Batch
from wss.training.augment import AugmentParams, augment
from wss.training.shared_memory import FOLDER, PREFETCHED, fitting, nbytes

PATIENCE_S = 900.0
"""Seconds to wait for a batch. After that, the loader processes count as lost."""

ReadSample = Callable[[str], tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]]
"""Returns the image (H,W,3) and its maps (``labels`` and the maps that the method needs) for an image id. If the image has pixels
without data, the maps include ``valid``, uint8, 0 at these pixels."""


class TrainingSet(Dataset[dict[str, Any]]):
    """Augmented training samples, addressed by (image index, draw).

    The draw is the running number of the sample since the start of training. The augmentation is seeded by ``seed`` and the
    draw only. So a sample is the same in every worker, and after resuming.

    Args:
        ids: Image ids.
        read: Reads one image with its maps.
        params: Augmentations.
        seed: Seed of the augmentation, together with the draw.
        tags: Classes in each image, bool (K,), by id; None if the method does not use them.
        background: Index of the background class, or None.
        size: Height and width of the samples if images are kept whole (``common_size``); None for each image's own size.
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
    """Batches of shuffled (image index, draw) pairs over several epochs, starting from any step.

    The length is a number of epochs or, if ``steps`` is given, a number of batches. With ``steps``, the last epoch may be
    incomplete. If several processes share batches, each gets its part of every batch.

    Args:
        size: Number of images.
        batch_size: Images per batch; all images if there are fewer. The last, incomplete batch of an epoch is dropped.
        epochs: Number of epochs; ignored if ``steps`` is given, required otherwise.
        seed: Seed of the order of every epoch.
        start: First step to yield.
        first_draw: Draw number of the first sample of step 0.
        steps: Number of batches, counted from step 0, also if ``start`` is larger.
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
        """The remaining batches without the first ``steps`` of them."""
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
            yield shard([(int(index), draw + offset) for offset, index in enumerate(chosen)])


@dataclass(frozen=True)
class _Collated:
    """A batch on the host, pinned for the copy to a GPU."""

    rgb: torch.Tensor
    valid: torch.Tensor
    maps: dict[str, torch.Tensor]
    tags: torch.Tensor | None

    def share(self) -> None:
        """Move the batch to shared memory now.

        The loader would do so later, in a thread. An error in this thread would be lost together with the batch, and the other
        process would wait forever.
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
    """Discard the message."""


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)


def _loaded(
    data: TrainingSet, sampler: EpochBatches, device: torch.device, workers: int, say: Callable[[str], None]
) -> Iterator[_Collated]:
    """Batches on the host. When shared memory is full, the remaining batches are loaded without loader processes."""
    done = 0
    stream = _loader(data, sampler, device, workers)
    while True:
        try:
            host = next(stream, None)
        except RuntimeError as error:
            if not workers or "shared memory" not in str(error):
                raise _lost(error) if "DataLoader" in str(error) else error from None
            say(
                f"{FOLDER} is full: the remaining images are loaded without loader processes. A container gets more shared "
                "memory with `docker run --shm-size 1g`"
            )
            workers = 0
            stream = _loader(data, sampler.after(done), device, workers)
            continue
        if host is None:
            return
        done += 1
        yield host


def _lost(error: RuntimeError) -> WssError:
    """Error for loader processes that ended or do not answer."""
    return WssError(
        "the processes that load images ended or do not answer, most likely because memory is full; use fewer --jobs (--jobs 1 "
        "loads without them), or give a container more shared memory (`docker run --shm-size 1g`); the same command continues "
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
            generator=torch.Generator(),  # without it, the loader draws from the global generator, which resuming restores
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
        sampler: Chooses the samples of each batch.
        device: Device of the tensors.
        workers: Number of loader processes; 0 loads in this process. If shared memory is too small, fewer are started. If it gets
            full later, the remaining batches are loaded in this process. The batches are the same in all cases.
        channels_last: True for the memory format ``torch.channels_last`` of the images.
        say: Receives a message if shared memory is too small.

    Raises:
        WssError: A loader process ended, or returned nothing for ``PATIENCE_S``.
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
