"""A workspace folder: its data set, its artifacts, and the choices of the last commands."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wss.datasets import DatasetSpec
from wss.errors import UsageError, WssError
from wss.params import canonical, validate
from wss.store import Store, exclusive
from wss.store.atomic import write_text
from wss.yaml_text import parse

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Workspace:
    """Paths inside a workspace, and its two small YAML files.

    ``wss.yaml`` declares the data set. ``state.yaml`` records the choices of the last commands, so that ``wss evaluate``
    evaluates the network that ``wss train`` trained.
    """

    root: Path

    @property
    def named(self) -> bool:
        """True if the user named the folder; False for ``Path()``, the current folder and the default of commands."""
        return self.root != Path()

    @property
    def config_path(self) -> Path:
        """File that declares the data set."""
        return self.root / "wss.yaml"

    @property
    def state_path(self) -> Path:
        """File with the choices of the last commands. Deleting it loses nothing else."""
        return self.root / "state.yaml"

    @property
    def cache(self) -> Path:
        """Folder for caches that can be deleted at any time."""
        return self.root / "artifacts" / "cache"

    def artifact(self, stage: str, key: str) -> Path:
        """Path of the store with this key of a stage."""
        return self.root / "artifacts" / stage / f"{key}.h5"

    def artifacts(self, stage: str | None = None) -> Iterator[Path]:
        """Paths of finished stores of one stage or of all stages, sorted by name."""
        folder = self.root / "artifacts"
        for path in sorted(folder.glob(f"{stage or '*'}/*.h5")):
            if _KEY.fullmatch(path.stem):
                yield path

    def stores(self, stage: str) -> list[Store]:
        """Finished stores of a stage, oldest first."""
        return [Store(path) for path in sorted(self.artifacts(stage), key=lambda path: path.stat().st_mtime_ns)]

    def begun_bytes(self) -> int:
        """Size of partial results of interrupted stages. They become stores when the stages run again."""
        return sum(path.stat().st_size for path in self.root.glob("artifacts/*/*.partial"))

    def leftovers(self) -> Iterator[Path]:
        """Partial results, temporary and lock files."""
        for pattern in ("artifacts/*/*.partial", "artifacts/*/*.tmp", "artifacts/*/*.lock", "logs/*/log.csv.*.tmp"):
            yield from sorted(self.root.glob(pattern))
        for name in ("wss.yaml", "state.yaml", "metrics.json", "report.html"):
            yield from sorted(self.root.glob(f"{name}.*.tmp"))
        yield from self.root.glob("state.lock")

    @property
    def configured(self) -> bool:
        """True if the workspace has a ``wss.yaml`` (written by ``wss init``)."""
        return self.config_path.exists()

    def dataset(self) -> DatasetSpec:
        """The declared data set. If the workspace is the default folder and has no ``wss.yaml``, the embedded sample.

        Raises:
            UsageError: ``wss.yaml`` is malformed, or a named workspace has none.
        """
        if not self.configured:
            self._require_declared()
            return DatasetSpec(kind="sample")
        values = _read_yaml(self.config_path)
        unknown = set(values) - {"dataset"}
        if unknown or not isinstance(values.get("dataset"), dict):
            raise UsageError(
                f"{self.config_path}: expected one entry, 'dataset', with kind and root; got {sorted(values)}; "
                "write it again with `wss init`"
            )
        spec = validate(DatasetSpec, values["dataset"], f"{self.config_path}: dataset")
        if spec.root is not None:
            root = Path(os.path.expandvars(spec.root)).expanduser()
            spec = spec.model_copy(update={"root": (self.root / root).resolve()})
        return spec

    def existing(self) -> Workspace:
        """Return this workspace after a check that it exists, for read-only commands.

        Raises:
            UsageError: The folder does not exist, or it was named and has no ``wss.yaml``.
        """
        self.require_folder()
        if not self.root.is_dir():
            raise UsageError(f"{self.root}: no such folder; name the workspace with --workspace")
        self._require_declared()
        return self

    def declare_sample(self) -> None:
        """Write a ``wss.yaml`` that declares the embedded sample data set."""
        write_text(self.config_path, "# The embedded sample data set.\ndataset:\n  kind: sample\n")

    def require_folder(self) -> None:
        """Raise ``UsageError`` if the path of the workspace is a file."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root}: is a file; name a folder with --workspace")

    def _require_declared(self) -> None:
        self.require_folder()
        if self.named and not self.configured:
            place = shlex.quote(str(self.root))
            raise UsageError(
                f"{self.root}: this workspace has no wss.yaml, so its data set is not known; declare your data set with "
                f"`wss init --kind folder --root DIR --workspace {place}`, or the embedded sample with "
                f"`wss init --kind sample --workspace {place}`"
            )

    def state(self) -> dict[str, Any]:
        """Choices of the last commands, by command.

        Raises:
            UsageError: ``state.yaml`` does not have the form that wss writes.
        """
        values = _read_yaml(self.state_path) if self.state_path.exists() else {}
        if not _as_written(values):
            raise UsageError(
                f"{self.state_path}: this file does not have the form that wss writes; remove it, it only records choices"
            )
        return values

    def remember(self, command: str, choice: Mapping[str, Any]) -> None:
        """Record a command's choice. It replaces the last one."""
        self._change(lambda state: {**state, command: dict(choice)})

    def remember_results(self, what: str, keys: Sequence[str]) -> None:
        """Record the keys of the stores that a run used. They replace the keys of the last run under this name."""
        if self.state().get("results", {}).get(what) != keys:
            self._change(lambda state: {**state, "results": {**state.get("results", {}), what: list(keys)}})

    def remember_samples(self, dataset: DatasetSpec, key: str) -> None:
        """Record the key under which a data set was read, for later runs without its folder."""
        choice = {"root": str(dataset.root), "key": key}
        if dataset.root is not None and self.state().get("samples") != choice:
            self.remember("samples", choice)

    def read_before(self, dataset: DatasetSpec) -> Store | None:
        """The samples store that was read last for a data set; None if there is none or if it is ambiguous."""
        choice = self.state().get("samples", {})
        stores = [s for s in self.stores("samples") if _same(s.params["dataset"], dataset)]
        known = [s for s in stores if (str(dataset.root), s.key) == (choice.get("root"), choice.get("key"))]
        return known[0] if known else stores[0] if len(stores) == 1 and not choice else None

    def _change(self, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the state by ``changed(state)`` under a lock, so that records of other processes are not lost."""
        with exclusive(self.state_path.with_suffix(".lock")):
            text = yaml.safe_dump(changed(self.state()), sort_keys=True, allow_unicode=True)
            write_text(self.state_path, "# Choices of the last wss commands; delete this file to forget them.\n" + text)


def gone(dataset: DatasetSpec) -> bool:
    """True if a data set consists of files and its folder does not exist."""
    return dataset.root is not None and not dataset.root.is_dir()


def _same(stored: Mapping[str, Any], dataset: DatasetSpec) -> bool:
    """True if a store was read with this kind and these options of the data set."""
    declared = canonical(dataset, tagged=False)
    return all(stored.get(name) == declared[name] for name in ("kind", "options"))


def _as_written(values: dict[str, Any]) -> bool:
    """True if choices have the form that commands write. Checks only the parts that other commands rely on."""
    if not all(isinstance(choice, dict) for choice in values.values()):
        return False
    trained, cut = values.get("train"), values.get("superpixels")
    return (
        all(_holds(keys, list, str) for keys in values.get("results", {}).values())
        and isinstance(values.get("prepare", {}).get("annotation", ""), str)
        and (cut is None or isinstance(cut.get("method"), dict))
        and (
            trained is None
            or (
                (isinstance(trained.get("pipeline"), str) and _holds(trained.get("changes", {}), dict, dict))
                and isinstance(trained.get("seed"), int | None)
                and isinstance(trained.get("preset"), str | None)
            )
        )
    )


def _holds(value: Any, kind: type[dict[Any, Any]] | type[list[Any]], content: type) -> bool:
    return isinstance(value, kind) and all(
        isinstance(item, content) for item in (value.values() if isinstance(value, dict) else value)
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WssError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML ({error}); correct it, or write it again") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a mapping of names to values, got {type(values).__name__}")
    return values
