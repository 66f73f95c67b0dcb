"""Definition of a stage: typed parameters, typed inputs, one output store, and the function that fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from wss.datasets.source import Catalogue
from wss.params import Params
from wss.store import Schema, Store, StoreWriter


class Progress(Protocol):
    """Receives messages and progress of a stage. The command line shows them."""

    def say(self, message: str) -> None:
        """Show one line to the user."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Begin a counted task. Call the result with the number of newly finished units and a short note."""
        ...


class Silent:
    """Progress that discards everything."""

    def say(self, message: str) -> None:
        """Discard the message."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Return a function that does nothing."""
        return lambda units, note: None


@dataclass(frozen=True)
class Context:
    """Environment in which a stage runs. Nothing here changes the result.

    Attributes:
        device: Device of the tensors.
        jobs: Number of processes or threads for work on the CPU.
        progress: Receives messages and progress.
        cache: Folder for caches that can be deleted at any time.
        logs: Folder for training curves (CSV, TensorBoard).
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    jobs: int = 1
    progress: Progress = field(default_factory=Silent)
    cache: Path | None = None
    logs: Path | None = None


@dataclass(frozen=True)
class Input:
    """One role among a stage's inputs.

    Attributes:
        schema: Kind of store.
        many: True if the role takes a list of stores, at least one.
        optional: True if the input may be left out.
        needed_with: Name and value of a parameter. With this value, an optional input must be given.
        probs: ``needed`` if the stage needs the probabilities of predictions, ``used`` if it uses them when they exist, None if
            it does not read them.
        probs_needed: Called with the parameters of the stage. True if they make the stage need the probabilities that it
            otherwise only uses.
    """

    schema: Schema
    many: bool = False
    optional: bool = False
    needed_with: tuple[str, Any] | None = None
    probs: Literal["needed", "used"] | None = None
    probs_needed: Callable[[Any], bool] | None = None


class Inputs:
    """The stores given to a stage, by role."""

    def __init__(self, stores: Mapping[str, tuple[Store, ...]]) -> None:
        self._stores = stores

    def __getitem__(self, role: str) -> Store:
        (store,) = self._stores[role]
        return store

    def maybe(self, role: str) -> Store | None:
        """The store of an optional role; None if it was left out."""
        return self[role] if self._stores.get(role) else None

    def many(self, role: str) -> tuple[Store, ...]:
        """All stores of a role; empty if it was left out."""
        return self._stores.get(role, ())


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Attributes:
        name: Name in pipelines and folder names.
        version: Version of the computation. Raise it when equal inputs give a new result.
        params: Parameter model.
        inputs: Inputs by role.
        output: Schema of the result.
        run: Called as ``run(params, inputs, output, context)``; fills the output. Appended images survive an interruption, and
            ``image_id in output`` is True for finished images.
        source: Called as ``source(params, context)``. Returns a digest of anything else that decides the result, such as a data
            set's fingerprint.
        publish: Called as ``publish(store, workspace)``. Copies files for people (a report, metrics) from the finished store into
            the workspace folder, and returns their paths.
        unread: Called with the parameters. Returns the optional roles that the stage does not read with them. Pipelines leave
            these inputs out, and also the stages that make them if no other stage takes them.
        check: Called as ``check(params, catalogue)`` before any stage of a pipeline runs. Raises ``UsageError`` or ``DataError``
            for errors that are already certain with this data set (an unknown split, a network that cannot be built).
        reports: True if the stage only reports on results of other stages. If such a stage raises ``UsageError`` or
            ``DataError``, its store holds the reason under ``meta["left_out"]``, and the pipeline continues.
    """

    name: str
    version: int
    params: type[Params]
    inputs: Mapping[str, Input]
    output: Schema
    run: Callable[[Any, Inputs, StoreWriter, Context], None]
    source: Callable[[Any, Context], str] | None = None
    publish: Callable[[Store, Path], list[Path]] | None = None
    unread: Callable[[Any], frozenset[str]] | None = None
    check: Callable[[Any, Catalogue], None] | None = None
    reports: bool = False


def pending(ids: Iterable[str], output: StoreWriter) -> list[str]:
    """Image ids that are not in the output yet."""
    return [image_id for image_id in ids if image_id not in output]
