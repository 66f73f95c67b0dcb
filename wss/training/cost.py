"""Cost of a method: parameters, memory of a training step, and speed. Each variant is measured in its own process."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from wss.labels import UNLABELLED
from wss.methods import Batch, Method
from wss.networks import NetworkSpec


@dataclass(frozen=True)
class Cost:
    """Cost of one variant.

    Attributes:
        parameters: Number of trained parameters.
        step_mib: Peak memory of training steps in MiB, without the memory of the model.
        step_s: Shortest time of a training step in seconds: forward, backward, and Adam.
        image_s: Shortest time to predict one image in seconds.
    """

    parameters: int
    step_mib: float
    step_s: float
    image_s: float


@dataclass(frozen=True)
class Trial:
    """Settings of a measurement.

    Attributes:
        spec: The network.
        num_classes: K, the number of classes.
        crop: Side of the images in pixels.
        batch_size: Images per training step.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        amp: Autocast to bfloat16.
        repeats: Number of measured steps and predictions, after one warm-up.
    """

    spec: NetworkSpec
    num_classes: int
    crop: int
    batch_size: int
    device: str = "cpu"
    amp: bool = False
    repeats: int = 3


def cost(method: Method, terms: Sequence[str], trial: Trial) -> Cost:
    """Measure a method that learns from scribbles alone. It runs in a new process, so that no other work counts as its memory.

    Args:
        method: Method with its settings.
        terms: Loss terms of the step, each with weight 1.
        trial: Network, sizes and device.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, method, tuple(terms), trial, torch.get_num_threads()).result()


def _measure(method: Method, terms: Sequence[str], trial: Trial, threads: int) -> Cost:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = torch.device(trial.device)
    model = method.build(trial.spec, trial.num_classes).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    side, size = trial.crop, trial.batch_size
    rgb = 255 * torch.rand(size, 3, side, side, device=device)
    labels = torch.full((size, side, side), UNLABELLED, device=device)
    labels[:, side // 4, side // 4 : side // 2], labels[:, side // 2, side // 4 : side // 2] = 0, trial.num_classes - 1
    batch = Batch(rgb, labels, torch.ones_like(labels, dtype=torch.bool), {}, background=0)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=trial.amp):
            loss = torch.stack(list(method.losses(model, batch, terms).values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    @torch.inference_mode()
    def predict() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=trial.amp):
            model(rgb[:1])

    before = _held_mib(device)
    step_s = _least(step, trial.repeats, device)
    taken = _most_mib(device) - before
    model.eval()
    image_s = _least(predict, trial.repeats, device)
    return Cost(sum(p.numel() for p in model.parameters() if p.requires_grad), taken, step_s, image_s)


def _least(work: Callable[[], None], repeats: int, device: torch.device) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = _clock(device)
        work()
        seconds.append(_clock(device) - start)
    return min(seconds[1:])


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _held_mib(device: torch.device) -> float:
    """Memory in use now, in MiB. On a CPU, the peak so far, because torch keeps freed memory."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else _most_mib(device)


def _most_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, VmHWM does not start from the peak of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
