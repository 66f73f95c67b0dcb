"""Choice between bfloat16 and float32: by the machine's instructions, and by a short measurement of the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

Amp = bool | Literal["auto"]
"""Autocast to bfloat16: True, False, or ``auto`` if it saves time on this machine."""

Step = Callable[[bool], object]
"""One unit of work. The argument is True for autocast to bfloat16."""

GAIN = 1.05
"""Smallest speed-up for which bfloat16 is chosen. Smaller speed-ups are within the noise of the measurement."""
BUDGET_S = 1.0
"""Time in seconds after which the measurement starts no further pair."""
PAIRS = 5
MIN_STEPS = 100
"""Smallest number of training steps for a measurement, which takes as long as about ten steps."""
MIN_PASSES = 100
"""Smallest number of forward passes of single images for a measurement."""
TRIAL_PX = 2 * 321**2
"""On a CPU the measurement uses images of the batch up to this number of pixels in total, but at least two images."""
TRIAL_SIDE = 513
"""Largest side in pixels of the image for measurements of predictions."""
CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags of processors with bfloat16 multiplication: of Intel and AMD, and ``bf16`` of Arm."""
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Precision:
    """The chosen precision.

    Attributes:
        used: True for autocast to bfloat16.
        reason: Reason of the choice, for messages.
        times: Measured speed-up of bfloat16 over float32; None without a measurement.
    """

    used: bool
    reason: str
    times: float | None = None

    def __str__(self) -> str:
        return f"{'bfloat16' if self.used else 'float32'}: {self.reason}"

    def record(self) -> dict[str, Any]:
        """Plain values; ``Precision(**record)`` restores the object."""
        return asdict(self)


def multiplies_bfloat16(device: torch.device) -> bool:
    """True if the device has instructions for bfloat16. Without them bfloat16 is emulated and slow."""
    if device.type == "cuda":
        if torch.version.hip is not None:
            return bool(torch.cuda.is_bf16_supported())
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and not CPU_FLAGS.isdisjoint(_cpu_flags())


def decide(
    asked: Amp, device: torch.device, count: int, least: int, prepare: Callable[[], Step], what: str = "steps"
) -> Precision:
    """Choose between bfloat16 and float32.

    With ``auto``, bfloat16 is measured if the device has instructions for it and the work is long enough. It is used if
    it is at least ``GAIN`` times as fast as float32. The random state is not changed.

    Args:
        asked: Value of the parameter. True and False decide without a measurement.
        device: Device of the work.
        count: Number of units of work.
        least: Smallest number of units for a measurement. Fewer units are done in float32.
        prepare: Returns a unit of work to measure, which must have no side effects. It is called only for a
            measurement.
        what: Name of the units, for messages.
    """
    if asked != "auto":
        return Precision(asked, "as asked")
    if not multiplies_bfloat16(device):
        return Precision(
            False, f"this {'GPU' if device.type == 'cuda' else 'processor'} has no instructions for bfloat16"
        )
    if count < least:
        return Precision(False, f"too few {what} to measure whether bfloat16 is faster")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        times = measured(prepare(), device)
    told = f"{times:.2g} times as fast here"
    return Precision(True, told, times) if times >= GAIN else Precision(False, f"bfloat16 is {told}", times)


def measured(step: Step, device: torch.device) -> float:
    """Speed-up of bfloat16: median of float32 time / bfloat16 time over pairs of steps, after warm-up steps."""
    start = time.perf_counter()
    for amp in (False, True):
        step(amp)
    ratios: list[float] = []
    while len(ratios) < PAIRS and (not ratios or time.perf_counter() - start < BUDGET_S):
        single, half = (_seconds(step, amp, device) for amp in (False, True))
        ratios.append(single / half)
    return statistics.median(ratios)


def decide_inference(
    asked: Amp, device: torch.device, passes: int, example: Callable[[], tuple[nn.Module, Tensor]]
) -> Precision:
    """Choose between bfloat16 and float32 for predictions.

    Args:
        asked: See ``decide``.
        device: Device of the network.
        passes: Number of forward passes: images x scales x mirror images.
        example: Returns the network, which takes RGB (B,3,H,W) in 0..255, in evaluation mode, and an image (1,3,H,W).
            Both are on the device. Only the first ``TRIAL_SIDE`` rows and columns of a large image are used.
    """

    def prepare() -> Step:
        model, rgb = example()

        def step(amp: bool) -> object:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
                return model(rgb[..., :TRIAL_SIDE, :TRIAL_SIDE])

        return step

    return decide(asked, device, passes, MIN_PASSES, prepare, "images")


def _seconds(step: Step, amp: bool, device: torch.device) -> float:
    start = _clock(device)
    step(amp)
    return _clock(device) - start


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _cpu_flags() -> set[str]:
    """Flags of the first processor; empty if the system does not list them."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))), set())
