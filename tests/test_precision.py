"""Where bfloat16 is chosen, with a clock that the test turns."""

import pytest
import torch

from wss import precision
from wss.precision import Precision, decide, decide_inference, measured, multiplies_bfloat16

CPU = torch.device("cpu")


class Work:
    """Steps that take so many seconds of a clock of their own."""

    def __init__(self, monkeypatch, single, half):
        self.now, self.done, self._takes = 0.0, [], {False: single, True: half}
        monkeypatch.setattr(precision.time, "perf_counter", lambda: self.now)

    def __call__(self, amp):
        self.now += self._takes[amp]
        self.done.append(amp)


@pytest.fixture
def able(monkeypatch, tmp_path):
    """A processor with the given flags."""

    def flags(text):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\n{text}\nprocessor\t: 1\n")
        monkeypatch.setattr(precision, "CPU_INFO", path)

    flags("flags\t\t: fpu avx2 avx512_bf16")
    return flags


def _refuse():
    raise AssertionError("measured")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("flags\t\t: fpu xbf16x", False),
    ],
)
def test_instructions_of_the_processor(able, text, expected):
    able(text)
    assert multiplies_bfloat16(CPU) is expected


def test_a_system_without_a_list_of_flags_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "none")
    assert not multiplies_bfloat16(CPU)
    assert not multiplies_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_for_is_not_measured(able, asked):
    assert decide(asked, CPU, 10**6, 1, _refuse) == Precision(asked, "as asked")


def test_without_instructions_nothing_is_measured(able):
    able("flags\t\t: avx2")
    found = decide("auto", CPU, 10**6, 1, _refuse)
    assert str(found) == "float32: this processor has no instructions for bfloat16"


def test_short_work_is_not_measured(able):
    found = decide("auto", CPU, 99, 100, _refuse, "images")
    assert str(found) == "float32: too few images to measure whether bfloat16 is faster"


@pytest.mark.parametrize(
    ("half", "used", "told"),
    [
        (0.01, True, "bfloat16: 2 times as fast here"),
        (0.0195, False, "float32: bfloat16 is 1 times as fast here"),
        (0.025, False, "float32: bfloat16 is 0.8 times as fast here"),
    ],
)
def test_the_faster_one_is_chosen(able, monkeypatch, half, used, told):
    work = Work(monkeypatch, 0.02, half)
    found = decide("auto", CPU, 100, 100, lambda: work)
    assert (found.used, str(found)) == (used, told)
    assert found.times == pytest.approx(0.02 / half)
    assert work.done == [False, True] * (1 + precision.PAIRS)  # interleaved, after a pair that warms up
    assert Precision(**found.record()) == found


def test_slow_steps_are_measured_as_rarely_as_possible(monkeypatch):
    work = Work(monkeypatch, 3.0, 2.0)
    assert measured(work, CPU) == pytest.approx(1.5)
    assert work.done == [False, True] * (1 + precision.LEAST_PAIRS)


@pytest.mark.parametrize(
    "delays",
    [
        [0, 0, 0, 5.0],  # a single bfloat16 step
        [0, 0, 0, 5.0, 1.0, 4.0, 2.0],  # most steps of both
    ],
)
def test_other_work_on_the_machine_does_not_decide(monkeypatch, delays):
    work = Work(monkeypatch, 0.02, 0.01)
    slow = iter(delays)
    real = work.__call__

    def disturbed(amp):
        real(amp)
        work.now += next(slow, 0)

    monkeypatch.setattr(precision, "BUDGET_S", 100)
    assert measured(disturbed, CPU) == pytest.approx(2)


def test_measuring_keeps_the_random_state(able):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    decide("auto", CPU, 100, 100, lambda: lambda amp: torch.rand(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_predictions_are_measured_on_a_part_of_a_large_image(able):
    seen = []

    class Network(torch.nn.Module):
        def forward(self, rgb):
            seen.append((rgb.shape, torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))
            return rgb

    decide_inference("auto", CPU, 100, lambda: (Network(), torch.zeros(1, 3, 600, 40)))
    assert seen[:2] == [((1, 3, 513, 40), False, True), ((1, 3, 513, 40), True, True)]
    seen.clear()
    assert not decide_inference("auto", CPU, 99, lambda: (Network(), torch.zeros(1, 3, 600, 40))).used
    assert seen == []
