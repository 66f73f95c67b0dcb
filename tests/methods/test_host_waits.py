"""No training step waits for the device, but where the number or the place of what follows depends on values."""

import pytest
import torch

from tests.host_waits import HostWaits
from wss import devices
from wss.devices import postponed, refuse
from wss.errors import DataError
from wss.methods import METHODS, Batch
from wss.networks import NetworkSpec
from wss.ops import BilateralFilter

CLASSES = 3
LATTICE = {"ops/lattice.py:_distinct"}
WALK = {f"ops/hitting.py:{name}" for name in ("_check_values", "_reach", "forward", "reachable")}
TREES = {"ops/spanning_tree.py:spanning_tree", "ops/spanning_tree.py:tree_filter"}
WAITS = {
    "densecrf": LATTICE,
    "ncut": LATTICE,
    "kernelcut": LATTICE,
    "crf-adm": LATTICE,
    "crf-rnn": LATTICE,
    "sec": LATTICE,
    "rawks": WALK,
    "tree-energy": TREES,
    "spml": {"ops/segments.py:split_segments"},
}
"""These operators still wait for the device. Lattices and segments: their number decides the sizes of what follows. Walks: how
many classes an image has does too, images that underflow are solved again, and what infinite boundaries (padding) enclose is
found on the host. Trees: they are found and summed over on the host."""
HOST_DRAWS = {"methods/dmpls.py:losses", "ops/transform.py:draw_transform"}
"""They look at random numbers that were drawn on the host."""


def batch_of_everything(device="cpu"):
    generator = torch.Generator().manual_seed(0)
    rgb = (torch.rand(2, 3, 48, 56, generator=generator) * 40).round()
    rgb[:, :, :, 28:] += 150
    labels = torch.full((2, 48, 56), 255)
    labels[:, 10:13, 2:12], labels[:, 10:13, -14:-4] = 0, 1
    valid = torch.ones(2, 48, 56, dtype=torch.bool)
    valid[1, :, 52:] = False
    labels[~valid] = 255
    superpixels = torch.arange(48)[:, None] // 12 * 7 + torch.arange(56) // 8
    maps = {
        "edges": torch.rand(2, 48, 56, generator=generator),
        "superpixels": superpixels.expand(2, -1, -1).where(valid, -1),
    }
    tags = torch.tensor([[True, True, False], [True, True, False]])
    maps = {name: each.to(device) for name, each in maps.items()}
    return Batch(rgb.to(device), labels.to(device), valid.to(device), maps, tags.to(device), background=0)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Take the ways that tensors on a GPU take."""
    monkeypatch.setattr(devices, "on_host", lambda tensor: False)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.model_fields["name"].default)
def test_a_step_waits_for_nothing_else(kind, as_on_a_gpu):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    method = kind()
    model = method.build(NetworkSpec(name="unet"), CLASSES).train()
    batch = batch_of_everything()
    step(method, model, batch)  # plans and tables are made once
    with HostWaits() as waits, postponed():
        step(method, model, batch)
    assert waits.places() - HOST_DRAWS == WAITS.get(method.name, set()), sorted(waits.found)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.model_fields["name"].default)
def test_the_ways_of_a_gpu_lead_to_the_same_numbers(kind, monkeypatch):
    torch.set_num_threads(1)
    method = kind()
    found = []
    for gpu in (False, True):
        torch.manual_seed(0)
        model = method.build(NetworkSpec(name="unet"), CLASSES).train()
        if gpu:
            monkeypatch.setattr(devices, "on_host", lambda tensor: False)
        with postponed() as checks:
            terms = step(method, model, batch_of_everything())
        for check in checks:
            check.settle(check.numbers.tolist())
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append(({name: float(term.detach()) for name, term in terms.items()}, gradients))
    (terms, gradients), (others, other_gradients) = found
    assert others == pytest.approx(terms, rel=1e-4)
    assert float((gradients - other_gradients).norm() / gradients.norm()) < 1e-3


def step(method, model, batch):
    terms = method.losses(model, batch, sorted(method.term_names))
    torch.stack([term for term in terms.values() if term.requires_grad]).sum().backward()
    return terms


def test_a_step_on_a_gpu_never_waits_elsewhere():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here whose waits could be refused")
    batch = batch_of_everything("cuda")
    for kind in METHODS:
        method = kind()
        if method.name in WAITS:
            continue
        torch.manual_seed(0)
        model = method.build(NetworkSpec(name="unet"), CLASSES).cuda().train()
        with postponed():
            step(method, model, batch)
            torch.cuda.set_sync_debug_mode("error")
            try:
                step(method, model, batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_an_operator_that_looks_at_a_value_is_found():
    with HostWaits() as waits:
        devices.refuse(torch.tensor(False), DataError)
    assert waits.places() == {"outside", "devices.py:refuse"}  # torch.tensor, and the list of the outcome


def test_a_postponed_check_is_settled_later(as_on_a_gpu):
    with postponed() as checks:
        refuse(torch.tensor(3) > 2, lambda value: DataError(f"the value is {value:g}"), torch.tensor(3))
        BilateralFilter(torch.full((1, 3, 4, 4), 9.0), 15.0, 10.0).filter(torch.full((1, 1, 4, 4), float("nan")))
    assert len(checks) >= 2
    with pytest.raises(DataError, match="the value is 3"):
        checks[0].settle(checks[0].numbers.tolist())
    with pytest.raises(DataError, match="NaN or infinity"):
        checks[-1].settle(checks[-1].numbers.tolist())
    with pytest.raises(DataError, match="the value is 5"):
        refuse(torch.tensor(True), lambda value: DataError(f"the value is {value:g}"), torch.tensor(5))
