"""The functions that ``import wss`` offers to Python programs and notebooks. The commands do the same from a shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.source import Sample
from wss.labels import UNLABELLED

if TYPE_CHECKING:
    from wss.pipeline.workspace import Workspace
    from wss.predictor import Predictor

Settings = Mapping[str, Mapping[str, Any]]
"""Parameters by stage id, as ``--set STAGE.PARAM=VALUE`` gives them: ``{"train": {"batch_size": 4}}``."""


def sample(number: int = 0, split: str = "train") -> Sample:
    """Generate one image of the embedded data set, with all its annotations. It needs no files.

    Args:
        number: Number of the image in its split, at least 0.
        split: ``train`` or ``val``.

    Returns:
        The image, uint8 (96,128,3); its dense ``mask`` and its ``scribble``, uint8 (96,128) with 7 classes and 255 =
        unlabelled; and its ``strokes``, ``boxes`` and ``tags``.

    Raises:
        UsageError: The number is negative, or there is no such split.

    Examples:
        >>> import wss
        >>> photo = wss.sample(3)
        >>> photo.image.shape, photo.scribble.shape
        ((96, 128, 3), (96, 128))
        >>> round(float((photo.scribble != 255).mean()), 3)  # share of scribbled pixels
        0.012
    """
    from wss.datasets.sample import SampleSource
    from wss.errors import UsageError
    from wss.scribbles import rasterise

    if split not in ("train", "val") or not isinstance(number, int) or number < 0:
        raise UsageError(f"expected a number from 0 and a split, train or val; got {number!r} and {split!r}")
    source = SampleSource(**{"train": 0, "val": 0, split: number + 1})
    example = source.read(source.catalogue.splits[split][number])
    height, width = example.image.shape[:2]
    return replace(example, scribble=rasterise(example.strokes or (), (height, width)))


def propagate(
    image: NDArray[np.uint8],
    scribble: NDArray[np.uint8],
    method: str = "graph-cut",
    *,
    num_classes: int | None = None,
    edges: NDArray[np.floating] | None = None,
    **settings: Any,
) -> NDArray[np.uint8]:
    """Turn the scribbles of one image into a dense mask, without training. The command is ``wss propagate``.

    Args:
        image: RGB, uint8 (H,W,3).
        scribble: uint8 (H,W), class indices and 255 = unlabelled.
        method: ``graph-cut``, ``random-walk``, ``densecrf``, ``grabcut`` or ``superpixel``.
        num_classes: K. None: the largest label and 1.
        edges: Edge map in 0..1, floating point (H,W), for ``random-walk``. None: the gradient of colours.
        settings: Parameters of the method; ``wss stages propagate`` lists them.

    Returns:
        uint8 (H,W). Scribbled pixels keep their labels. Pixels that the method cannot label are 255.

    Raises:
        UsageError: There is no such method or parameter, or the method does not use edges.
        DataError: Shapes, dtypes or labels are unusable.

    Examples:
        >>> import wss
        >>> photo = wss.sample(3)
        >>> labels = wss.propagate(photo.image, photo.scribble, "random-walk", num_classes=7)
        >>> counts = wss.metrics.confusion_matrix(photo.mask, labels, 7)
        >>> bool(wss.metrics.miou(counts) > 0.5)
        True
    """
    from wss.errors import DataError, UsageError
    from wss.params import nearest, validate
    from wss.propagation import PROPAGATIONS
    from wss.stages.propagate import PropagateParams
    from wss.superpixels import Felzenszwalb

    known = [m.model_fields["name"].default for m in PROPAGATIONS if "features" not in m.needs]
    if method not in known:
        raise UsageError(f"no method {method!r}{nearest(method, known)}")
    if "name" in settings:
        raise UsageError("the method's name is the argument method; leave out name")
    if not (isinstance(image, np.ndarray) and isinstance(scribble, np.ndarray)):
        raise DataError("expected the image and the scribble as NumPy arrays, uint8 (H,W,3) and (H,W)")
    if num_classes is not None and not isinstance(num_classes, int):
        raise UsageError(f"num_classes is a whole number or None; got {num_classes!r}")
    chosen = validate(PropagateParams, {"method": {"name": method, **settings}}, "propagate").method
    extras: dict[str, Any] = {}
    if edges is not None:
        if "edges" not in chosen.accepts:
            raise UsageError(f"method {method!r} does not use edges; leave them out, or choose random-walk")
        extras["edges"] = edges
    if "superpixels" in chosen.needs:
        extras["superpixels"] = Felzenszwalb().segment(image)
    if num_classes is None:
        num_classes = int(scribble.max(where=scribble != UNLABELLED, initial=0)) + 1
    return chosen.propagate(image, scribble, num_classes, **extras).labels


def train(
    method: str = "pce",
    *,
    workspace: str | Path = ".",
    settings: Settings | None = None,
    preset: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> Predictor:
    """Train a network on the labels of a workspace, or load it if it was trained before. The command is ``wss train``.

    Args:
        method: Method or pipeline; ``wss methods`` lists them.
        workspace: Folder with the ``wss.yaml`` that ``wss init`` wrote. In the current folder it may be missing; then
            the embedded data set is used.
        settings: Parameters by stage id.
        preset: A shipped preset or a YAML file with settings.
        seed: Random seed; None for the pipeline's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        quiet: Print no messages and no progress.

    Returns:
        The network: call it with an image, uint8 (H,W,3), to get labels, uint8 (H,W).

    Raises:
        WssError: The data set, the method or a parameter is unusable; the message says what to do.

    Examples:
        >>> import wss
        >>> phases = {"*": {"epochs": None, "steps": 2}}  # much too short: for a quick look at the types
        >>> network = wss.train("pce", settings={"train": {"phases": phases, "validate_every": 0}})
        >>> network(wss.sample(0, "val").image).shape
        (96, 128)
        >>> len(wss.open_workspace(".").stores("train"))
        1
    """
    from wss.checkpoints import load_checkpoint
    from wss.cli.options import Common
    from wss.pipeline.changes import merge

    _require_name(method, "method")
    common = Common(workspace=Path(workspace), seed=seed, device=device, quiet=quiet)
    with common.session(preset=preset) as session:
        name = session.named(method)
        changes = merge(session.prepared(name), _plain(settings))
        trained = session.run(session.pipeline(name, changes).up_to("train"))["train"].store
        session.remember_training(name, changes)
        return load_checkpoint(trained.path, device=str(session.context.device))


def run(
    pipeline: str,
    *,
    workspace: str | Path = ".",
    settings: Settings | None = None,
    preset: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> dict[str, dict[str, Any]]:
    """Run a whole pipeline; finished stages are skipped, interrupted ones resume. The command is ``wss run``.

    Args:
        pipeline: A shipped pipeline (``wss pipelines`` lists them) or a YAML file.
        workspace: See ``train``.
        settings: Parameters by stage id.
        preset: A shipped preset or a YAML file with settings.
        seed: Random seed of all stages; None for the pipeline's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        quiet: Print no messages and no progress.

    Returns:
        The scores of every stage ``evaluate``, by stage id, with the entries of ``metrics.json``.

    Raises:
        WssError: The data set, the pipeline or a parameter is unusable; the message says what to do.

    Examples:
        >>> import wss
        >>> short = {"phases": {"*": {"epochs": None, "steps": 2}}, "validate_every": 0}
        >>> scores = wss.run("pce", settings={"train": short, "predict": {"limit": 4}})
        >>> sorted(scores)
        ['evaluate', 'evaluate-crf']
        >>> 0 <= scores["evaluate"]["miou"] <= 1
        True
    """
    from wss.cli.options import Common

    _require_name(pipeline, "pipeline")
    common = Common(workspace=Path(workspace), seed=seed, device=device, quiet=quiet)
    with common.session(preset=preset) as session:
        changes = _plain(settings)
        spec = session.pipeline(pipeline, changes)
        outcomes = session.run(spec)
        if "train" in spec.nodes:
            session.remember_training(pipeline, changes)
        return {
            name: outcome.store.meta["record"]
            for name, outcome in outcomes.items()
            if outcome.node.stage.name == "evaluate"
        }


def open_workspace(path: str | Path) -> Workspace:
    """Open an existing workspace, to read what commands and pipelines wrote.

    Args:
        path: Its folder.

    Returns:
        The workspace. ``stores("train")`` returns the stores of a stage, oldest first. A store has ``ids``, ``meta`` and
        ``get(array, image_id)``.

    Raises:
        UsageError: The folder does not exist, or it has no ``wss.yaml`` and is not the current folder.

    Examples:
        >>> import wss
        >>> scores = wss.run("pce", settings={"train": {"phases": {"*": {"epochs": None, "steps": 2}}, "validate_every": 0}})
        >>> predictions = wss.open_workspace(".").stores("predict")[-1]
        >>> predictions.get("labels", predictions.ids[0]).shape
        (96, 128)
    """
    from wss.pipeline.workspace import Workspace

    return Workspace(Path(path)).existing()


def _require_name(value: str, argument: str) -> None:
    from wss.errors import UsageError

    if not isinstance(value, str):
        raise UsageError(f"{argument} is a name or the path of a YAML file, as a string; got {value!r}")


def _plain(settings: Settings | None) -> dict[str, Any]:
    """Settings as dictionaries, lists and plain values, as YAML has them."""
    from wss.errors import UsageError

    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(values, Mapping) for values in settings.values()):
        raise UsageError(
            f'settings are parameters by stage, such as {{"train": {{"batch_size": 4}}}}; got {settings!r}'
        )

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if isinstance(value, Path):
            return str(value)
        return value.item() if isinstance(value, np.generic) else value

    return {str(stage): plain(values) for stage, values in settings.items()}
