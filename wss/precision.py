"""bfloat16 where it saves time: what the machine can do, and a short measurement on the network itself."""

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
"""Autocast to bfloat16: always, never, or where it saves time on this machine."""

Step = Callable[[bool], object]
"""One unit of work, with autocast to bfloat16 or without."""

GAIN = 1.05
"""So many times as fast bfloat16 must be to be chosen; less is within the noise of a measurement."""
BUDGET_S = 1.0
"""Once the measurement has taken so long it begins no further pair."""
PAIRS = 5
MIN_STEPS = 100
"""Fewer training steps than this are not worth the measurement, which takes as long as about ten of them."""
MIN_PASSES = 100
"""The same for passes of single images through a network."""
TRIAL_PX = 2 * 321**2
"""On a CPU the measurement sees as many images of the batch as have so many pixels, and at least two."""
TRIAL_SIDE = 513
"""At most so many pixels a side of an image that predictions are measured on."""
CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags of processors that multiply bfloat16: Intel's and AMD's, and ``bf16`` of Arm's."""
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Precision:
    """What was decided.

    Attributes:
        used: Autocast to bfloat16.
        reason: Why, for people.
        times: So many times as fast as float32 bfloat16 was; None where it was not measured.
    """

    used: bool
    reason: str
    times: float | None = None

    def __str__(self) -> str:
        return f"{'bfloat16' if self.used else 'float32'}: {self.reason}"

    def record(self) -> dict[str, Any]:
        """Plain values, from which ``Precision(**record)`` is the same."""
        return asdict(self)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it. Without them bfloat16 is emulated and loses time."""
    if device.type == "cuda":
        if torch.version.hip is not None:
            return bool(torch.cuda.is_bf16_supported())
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and not CPU_FLAGS.isdisjoint(_cpu_flags())


def decide(
    asked: Amp, device: torch.device, count: int, least: int, prepare: Callable[[], Step], what: str = "steps"
) -> Precision:
    """Choose between bfloat16 and float32.

    With ``auto``, bfloat16 is measured where the device has instructions for it and the work is long enough, and is used where
    it is at least ``GAIN`` times as fast. The random state stays as it was.

    Args:
        asked: What the parameters say; True and False are taken at their word.
        device: Where the work runs.
        count: Units of work to come.
        least: Fewer units are done in float32, without a measurement.
        prepare: Gives a unit of work to measure, which must leave no trace. Not called where nothing is measured.
        what: Name of the units.
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
    """The time of a float32 step over that of a bfloat16 step: the median of pairs, after a step of each that warms up."""
    start = time.perf_counter()
    for amp in (False, True):
        step(amp)
    found: list[float] = []
    while len(found) < PAIRS and (not found or time.perf_counter() - start < BUDGET_S):
        single, half = (_seconds(step, amp, device) for amp in (False, True))
        found.append(single / half)
    return statistics.median(found)


def decide_inference(
    asked: Amp, device: torch.device, passes: int, example: Callable[[], tuple[nn.Module, Tensor]]
) -> Precision:
    """Choose for predictions.

    Args:
        asked: See ``decide``.
        device: Where the network is.
        passes: Images to come, each counted once for every scale and mirror image.
        example: Gives the network, RGB (B,3,H,W) in 0..255 in, in evaluation mode, and an image (1,3,H,W), both on the device.
            Of a large image the first ``TRIAL_SIDE`` pixels of each side are used.
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
    """Flags of the first processor; none where the system has no such list."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))), set())
