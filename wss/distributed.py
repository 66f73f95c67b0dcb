"""Distributed training with ``torchrun``: the first process is the leader, the other processes follow its calls.

Only the leader runs commands, pipelines and stages: only it reads states, holds locks, writes files and prints. It
gives long computations to all processes. ``call_on_all`` calls one function in all processes at the same time.
``map_over_processes`` distributes calls over the processes.

Inside ``call_on_all`` each process holds a part of the batch (``shard``). A training step gives the same result as that
of a single process with the whole batch:

- A loss is a sum over the process's own part, divided by a count over the whole batch (``all_reduce_sum``). The sum
  over all processes is the loss. The gradients are summed too (``add_gradients``). If a loss is not a sum over pixels
  or images, every process computes all of it from sums over the whole batch (``all_reduce_sum_with_gradient``), and
  uses a ``rank_share`` of it.
- Batch normalisation uses the statistics of the whole batch.
- All processes draw the same random numbers for the whole batch; each process uses the rows of its part (``random_shard``).

With one process, and outside ``call_on_all``, these functions return their arguments unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wss.errors import UsageError, WssError

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = timedelta(days=30)
"""Longest time that followers wait for the leader, which may work alone for hours. If a process ends, the wait ends at
once."""


class LostProcessError(WssError):
    """Another process of this run has ended."""


@dataclass
class _Team:
    """The processes of this run.

    Attributes:
        rank: Rank of this process, 0 for the leader.
        size: Number of processes.
        store: Key-value store that all processes share.
        together: True while all processes are in the same call of ``call_on_all``.
        lost: True after a call was aborted; the followers then no longer wait for calls.
    """

    rank: int
    size: int
    store: Any
    together: bool = False
    lost: bool = False


_team: _Team | None = None


def join() -> bool:
    """Join the other processes. Each process takes the GPU of its ``LOCAL_RANK`` if it exists.

    Returns:
        True if this process is the leader.
    """
    global _team
    from torch.distributed.distributed_c10d import PrefixStore  # PyTorch can be built without these modules
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    graphics = torch.cuda.is_available() and dist.is_nccl_available()
    if torch.cuda.is_available() and (place := int(os.environ.get("LOCAL_RANK", "0"))) < torch.cuda.device_count():
        torch.cuda.set_device(place)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if graphics else "gloo",
        store=PrefixStore("groups", store),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    _team = _Team(rank, size, PrefixStore("wss", store))
    return bool(rank == 0)


def follow() -> None:
    """Perform the leader's calls until the leader leaves.

    Raises:
        LostProcessError: Another process has ended.
    """
    while (call := _broadcast(None)) is not None:
        _follow_call(*call)


def leave() -> None:
    """Release the followers. After an aborted call this is skipped; the followers notice that this process ends."""
    global _team
    if _team is not None and not _team.lost:
        if _team.rank == 0:
            _broadcast(None)
            # Wait for the followers: data that a process has sent can be lost if it ends before they read it.
            with suppress(RuntimeError):
                _team.store.wait([f"left {rank}" for rank in range(1, _team.size)], timedelta(seconds=10))
        else:
            _team.store.set(f"left {_team.rank}", "")
        dist.destroy_process_group()
    _team = None


def is_first_failure() -> bool:
    """True if no other process has reported a failure yet. Later failures follow from the first; they are not shown."""
    if _team is None:
        return True
    try:
        return bool(_team.store.add("failures", 1) == 1)
    except RuntimeError:  # the process that holds the store has ended
        return False


def world_size() -> int:
    """Number of processes."""
    return 1 if _team is None else _team.size


def local_world_size() -> int:
    """Number of processes on this machine."""
    return 1 if _team is None else int(os.environ.get("LOCAL_WORLD_SIZE", str(_team.size)))


def check_parts(batch_size: int) -> None:
    """Check that a batch can be divided into equal parts for all processes.

    Raises:
        UsageError: The batch size is not a multiple of the number of processes.
    """
    if batch_size % world_size():
        raise UsageError(
            f"a batch of {batch_size} images has no equal parts for {world_size()} processes; set batch_size to a "
            f"multiple of {world_size()} (if there are fewer training images, their number counts), or start another "
            "number of processes"
        )


def call_on_all(function: Callable[..., Result], *arguments: Any, **here: Any) -> Result:
    """Call a function in all processes at once, with the same arguments and the same random state.

    Args:
        function: A function at the top level of a module, so that it can be pickled.
        arguments: Arguments for all processes; they must be picklable.
        here: Additional arguments for this process only, for example for saving and logging.

    Raises:
        LostProcessError: Another process has ended.
    """
    if _team is None:
        return function(*arguments, **here)
    graphics = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    with _team_lost_on_error():
        _broadcast((function, arguments, torch.get_rng_state(), graphics))
        return _call_in_team(function, *arguments, **here)


def map_over_processes(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    """Call a function with each item, distributed over all processes in turn. Yield items and results in order.

    Args:
        function: A picklable function; it is pickled once.
        items: Picklable items.

    Raises:
        LostProcessError: Another process has ended.
    """
    if _team is None:
        for item in items:
            yield item, function(item)
        return
    with _team_lost_on_error():
        _broadcast((_take_turns, (function, items), torch.get_rng_state(), None))
        for start, results in _rounds(function, items):
            yield from zip(items[start : start + len(results)], results, strict=True)


def is_sharded() -> bool:
    """True if the batch is distributed over several processes."""
    return _active_team() is not None


def shard(items: Any) -> Any:
    """This process's part of a sequence or of a tensor's rows."""
    team = _active_team()
    return items if team is None else items[team.rank :: team.size]


def all_reduce_sum(number: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradient: a count over the whole batch."""
    if _active_team() is None:
        return number
    total = number.detach().clone()
    with _lost_process_on_error():
        dist.all_reduce(total)
    return total


def all_reduce_sum_with_gradient(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, with gradients to every process."""
    if _active_team() is None:
        return values
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result


def rank_share(loss: Tensor) -> Tensor:
    """This process's share of a loss that every process computes completely: the loss divided by the world size."""
    team = _active_team()
    return loss if team is None else loss / team.size


def all_gather(values: Tensor) -> Tensor:
    """Stack the values of all W processes, (W,...), without gradient. Their shapes must be equal."""
    team = _active_team()
    if team is None:
        return values[None]
    every = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(team.size)]
    with _lost_process_on_error():
        dist.all_gather(every, values.detach().contiguous())
    return torch.stack(every)


def random_shard(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """Random rows for this process's ``count`` images, selected from those of ``draw`` for the whole batch."""
    team = _active_team()
    rows: Tensor = shard(draw(count if team is None else count * team.size))
    return rows


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their sums over all processes, in place."""
    if _active_team() is None:
        return
    parameters = [p for p in parameters if p.requires_grad]
    # A parameter without gradient in all processes must stay without, because the optimiser then skips it.
    used = all_reduce_sum(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)).tolist()
    learning = [p for p, number in zip(parameters, used, strict=True) if number]
    if not learning:
        return
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in learning if p.grad is not None]
    sums = all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, total in zip(gradients, torch.split(sums, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows (N,...) of all processes, without gradient. N may differ; the result is equal everywhere."""
    return rows.detach() if _active_team() is None else _gather_rows(rows)[0]


def gather_rows_own_first(rows: Tensor) -> Tensor:
    """Concatenate the rows (N,...) of this process and then those of the others, with gradients to every process."""
    if _active_team() is None:
        return rows
    every, start = _AllRows.apply(rows) if rows.requires_grad else _gather_rows(rows)  # type: ignore[no-untyped-call]
    end = start + len(rows)
    return torch.cat([every[start:end], every[:start], every[end:]])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_reduce_sum(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return all_reduce_sum(grads[0])


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, int]:
        every, start = _gather_rows(rows)
        ctx.own = slice(start, start + len(rows))
        return every, start

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return all_reduce_sum(grads[0])[ctx.own]


def _gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes in order of rank, and the index of this process's first row."""
    counts = [int(count) for count in all_gather(torch.tensor(len(rows))).tolist()]
    start = sum(counts[: 0 if _team is None else _team.rank])
    values = rows.detach().to(torch.uint8) if rows.dtype == torch.bool else rows.detach()
    padded = values.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = values
    parts = all_gather(padded) if padded.numel() else padded.expand(len(counts), *padded.shape)
    every = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return every.to(rows.dtype), start


def _active_team() -> _Team | None:
    """The team if all processes are in the same call of ``call_on_all``, otherwise None."""
    return _team if _team is not None and _team.together else None


def _follow_call(
    function: Callable[..., Any], arguments: tuple[Any, ...], random: Tensor, graphics: Tensor | None
) -> None:
    """Perform a call in a follower."""
    torch.set_rng_state(random)
    if graphics is not None:
        torch.cuda.set_rng_state(graphics)
    if function is _take_turns:
        _take_turns(*arguments)
    else:
        _call_in_team(function, *arguments)


def _call_in_team(function: Callable[..., Result], *arguments: Any, **here: Any) -> Result:
    if _team is None:
        raise RuntimeError("a call for all processes without a team")
    _team.together = True
    try:
        return function(*arguments, **here)
    finally:
        _team.together = False


def _take_turns(function: Callable[[Item], Any], items: Sequence[Item]) -> None:
    for _ in _rounds(function, items):
        pass


def _rounds(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, list[Result]]]:
    """Yield for each round the index of its first item and its results. Only the leader gets the results."""
    if _team is None:
        raise RuntimeError("a call for all processes without a team")
    for start in range(0, len(items), _team.size):
        number = start + _team.rank
        result = function(items[number]) if number < len(items) else None
        every: list[Any] | None = [None] * _team.size if _team.rank == 0 else None
        with _lost_process_on_error():
            dist.gather_object(result, every)
        yield start, [] if every is None else every[: len(items) - start]


def _broadcast(value: Any) -> Any:
    """Broadcast the leader's value to all processes and return it."""
    box = [value]
    with _lost_process_on_error():
        dist.broadcast_object_list(box)
    return box[0]


@contextmanager
def _lost_process_on_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            "another process of this run has ended without a message (killed or out of memory); run the same command "
            "again to continue"
        ) from error


@contextmanager
def _team_lost_on_error() -> Iterator[None]:
    """Context of a call in the leader. An exception marks the team as lost."""
    try:
        yield
    except BaseException:
        if _team is not None:
            _team.lost = True
        raise
