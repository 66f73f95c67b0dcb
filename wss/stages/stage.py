"""What a stage is: typed parameters, typed inputs, one output store, and a function that makes it."""

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
    """How a stage tells what it does; the command line draws it."""

    def say(self, message: str) -> None:
        """One line for the person in front of the terminal."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Begin a counted task; call the result with the number of finished units and a short note."""
        ...


class Silent:
    """Progress that nobody watches."""

    def say(self, message: str) -> None:
        """Drop the message."""

    def task(self, label: str, total: int, done: int = 0) -> Callable[[int, str], None]:
        """Count for nobody."""
        return lambda units, note: None


@dataclass(frozen=True)
class Context:
    """Where and how a stage runs; nothing here changes what it computes.

    Attributes:
        device: Where tensors live.
        jobs: Processes or threads for work on the CPU.
        progress: Told what happens.
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
        many: A list of stores, at least one.
        optional: May be left out.
        needed_with: Name and value of a parameter with which an optional input must be given.
        probs: Whether the stage reads probabilities of predictions: it needs them, or uses them where there are some.
        probs_needed: Whether parameters of the stage make it need probabilities that it otherwise only uses.
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
        """The store of an optional role."""
        return self[role] if self._stores.get(role) else None

    def many(self, role: str) -> tuple[Store, ...]:
        """All stores of a role; empty when it was left out."""
        return self._stores.get(role, ())


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Attributes:
        name: As in pipelines and folder names.
        version: Raised when equal inputs give a new result.
        params: Parameter model.
        inputs: Roles and the kind of store each takes.
        output: Schema of the result.
        run: Called as ``run(params, inputs, output, context)``; fills the output; appended images survive an interruption and
            ``image_id in output`` says which are done.
        source: Further digests that decide the result beside params and inputs (a data set's fingerprint).
        publish: Copies what people read (a report, metrics) out of the finished store into the workspace folder, and
            returns the paths.
        unread: Optional roles that stay unread with these parameters. Pipelines leave them out, and the stages that make
            them too where nobody else takes them.
        check: Called as ``check(params, catalogue)`` before any stage of a pipeline runs; raises ``UsageError`` or ``DataError``
            for what is already known to fail with this data set (an unknown split, a network that cannot be built).
        reports: Only tells about the results of other stages. Where it raises ``UsageError`` or ``DataError``, its store holds
            the reason under ``meta["left_out"]``, and the pipeline goes on.
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
    """Image ids that are not done yet."""
    return [image_id for image_id in ids if image_id not in output]
